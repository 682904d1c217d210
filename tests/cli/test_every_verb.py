"""Of every command: `--json`, a line of help, and the exit codes 0 fine, 1 the answer is no, 2 usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from headgate.cli.main import GROUPS


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))


COMMANDS = {
    " ".join(path): command
    for group, module in GROUPS.items()
    for path, command in leaves(get_command(import_module(f"headgate.cli.{module}").app), (group,))
    if not getattr(command, "commands", None) or getattr(command, "invoke_without_command", False)
}
NOBODY = "http://127.0.0.1:1"
ASKING = {
    # commands that need a running gateway, asked where none is
    "chat": ["--url", NOBODY, "hello"],
    "explain": ["--url", NOBODY, "hello"],
    "usage": [],
    "logs": [],
    "traces show": ["tr_nothing"],
    "insight tasks": [],
    "demo break": ["claude-4.7"],
    "demo mend": ["claude-4.7"],
}


def invoke(group: str, *arguments: str) -> Any:
    return CliRunner().invoke(import_module(f"headgate.cli.{GROUPS[group]}").app, list(arguments))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_says_what_it_is_for(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options
    assert COMMANDS[name].help, "a line of help"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_nobody_knows_is_a_usage_error(name: str) -> None:
    found = invoke(*name.split(), "--no-such-option")
    assert found.exit_code == 2
    assert "Traceback" not in found.output


@pytest.mark.parametrize("name", ASKING)
def test_where_nobody_answers_the_answer_is_no(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name in COMMANDS
    monkeypatch.chdir(tmp_path)
    found = invoke(*name.split(), *ASKING[name])
    assert found.exit_code == 1, found.output
    assert "Traceback" not in found.output
    assert len(found.output.strip().splitlines()) <= 3, found.output
    assert "Errno" not in found.output


def test_json_is_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ("init", "check", "config schema", "config show"):
        found = invoke(*arguments.split(), "--json")
        assert found.exit_code == 0, (arguments, found.output)
        assert json.loads(found.stdout)


def test_nothing_on_standard_input_is_no_question() -> None:
    app = import_module(f"headgate.cli.{GROUPS['chat']}").app
    found = CliRunner().invoke(app, ["--url", NOBODY, "-m", "auto"], input=" \n")
    assert found.exit_code == 2
    assert "nothing is asked" in found.output
