"""`headgate experiments start NAME --arm ...`: an experiment made from the command line, in a file that people write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headgate.cli.experiments import app
from headgate.config.edit import replace
from headgate.config.load import load_file
from support.gateway import ENV

FILE = """# what we serve
providers:
  openai: {}   # the account of the shop
models:
  # the good one
  gpt-5.5: {provider: openai}
  small:
    provider: openai
    upstream: gpt-5.5-mini   # cheap

  # the end of the models

aliases: {x: small}   # old clients
"""
ARMS = ("--arm", "today=gpt-5.5", "--arm", "cheap=small@5%")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "headgate.yaml"
    path.write_text(FILE)
    return path


def run(file: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["start", *arguments, "--config", str(file)])
    return done.exit_code, done.output


def test_without_write_it_is_shown_and_nothing_changes(file: Path) -> None:
    code, said = run(file, "trial", *ARMS)
    assert code == 0
    assert "experiment:" in said
    assert "--write" in said
    assert file.read_text() == FILE


def test_it_is_put_at_the_end_of_the_models_and_every_other_line_stays(file: Path) -> None:
    file.chmod(0o640)
    asked = ("trial", *ARMS, "--metric", "judge", "--judge", "gpt-5.5", "--judge-daily", "0.50", "--assign-by", "user")
    code, said = run(file, *asked, "--control", "today", "--write", "--json")
    assert code == 0, said
    found = json.loads(said)
    lines = file.read_text().splitlines()
    assert lines[found["line"] - 1] == "  trial:"
    assert [line for line in lines if line in FILE.splitlines()] == FILE.splitlines()
    assert lines.index("  trial:") == lines.index("    upstream: gpt-5.5-mini   # cheap") + 1
    assert file.stat().st_mode & 0o777 == 0o640
    section = load_file(file, ENV).config.models["trial"].experiment
    assert section is not None
    assert section.shares() == {"today": 0.95, "cheap": 0.05}
    assert (section.metric, section.assign_by, section.control) == ("judge", "user", "today")
    assert section.judge is not None
    assert str(section.judge.daily) == "0.50"
    assert [path.name for path in file.parent.iterdir()] == ["headgate.yaml"], "nothing is left beside it"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("trial", "--arm", "today=gpt-5.5"), "at least two arms"),
        (("trial", "--arm", "today=gpt-5.5", "--arm", "cheap=smal@5%"), "did you mean 'small'"),
        (("small", *ARMS), "there is an entry 'small' already"),
        (("trial", *ARMS, "--metric", "beauty"), "metric"),
        (("trial", *ARMS, "--control", "nobody"), "names no arm"),
        (("trial", "--arm", "today"), "is no arm"),
        (("trial", "--arm", "a=small", "--arm", "a=gpt-5.5"), "same name"),
        (("trial: {}\nx", "--arm", "a=small", "--arm", "b: c=gpt-5.5}"), "there is no model"),
    ],
)
def test_what_would_not_be_valid_is_not_written(file: Path, arguments: tuple[str, ...], said: str) -> None:
    code, output = run(file, *arguments, "--write")
    assert code in (1, 2)
    assert said in output
    assert file.read_text() == FILE


def test_a_name_with_yaml_in_it_is_a_name(file: Path) -> None:
    name = 'odd: {name} # "quoted"'
    code, said = run(file, name, *ARMS, "--write")
    assert code == 0, said
    assert load_file(file, ENV).config.models[name].experiment is not None


@pytest.mark.parametrize(
    "text",
    [
        "providers: {openai: {}}\nmodels: {small: {provider: openai}, gpt-5.5: {provider: openai}}\n",
        "providers: {openai: {}}\nmodels:\n  small: [\n",
    ],
)
def test_a_file_that_is_not_written_in_lines_or_not_valid_is_left_alone(file: Path, text: str) -> None:
    file.write_text(text)
    assert run(file, "trial", *ARMS, "--write")[0] == 1
    assert file.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "providers:\n  openai: {}\nmodels:\n    small: {provider: openai}\n    gpt-5.5: {provider: openai}",
        "models:\r\n  small: {provider: openai}\r\n  gpt-5.5:\r\n    provider: openai\r\nproviders: {openai: {}}\r\n",
        "models:\n  small: {provider: openai}\n  gpt-5.5:\n    provider: openai\n    extra: {a: |\n    b}\n".replace(
            " |\n    b", " b"
        ),
    ],
)
def test_other_ways_to_write_a_file_are_kept(file: Path, text: str) -> None:
    text = text if "providers" in text else text + "providers: {openai: {}}\n"
    file.write_bytes(text.encode())
    code, said = run(file, "trial", *ARMS, "--write")
    assert code == 0, said
    made = file.read_bytes().decode()
    assert ("\r\n" in made) == ("\r\n" in text)
    assert made.count("\n") == made.count("\r\n") or "\r\n" not in made
    assert load_file(file, ENV).config.models["trial"].experiment is not None


def test_without_a_file_it_says_so(tmp_path: Path) -> None:
    code, said = run(tmp_path / "none.yaml", "trial", *ARMS, "--write")
    assert code == 2
    assert "No such file" in said


def test_the_file_stays_its_owners(file: Path):
    """The gateway may run as somebody else than the one who edits."""
    owner = (12345, 12345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(file, *owner)
    file.chmod(0o600)
    replace(file, "models: {}\n")
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*owner, 0o600)
    assert file.read_text() == "models: {}\n"
