"""What the project promises of itself: two commands, a licence, a Python, types, and verbs that set up what they need."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = {"demo", "serve", "test", "conformance", "soak", "lint", "type", "bench", "docs", "fmt"}


def test_the_readme_begins_with_exactly_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head, _, rest = text.partition("```")
    assert re.fullmatch(r"# Headgate\s+", head)
    assert rest.partition("```")[0].split("\n") == ["", "make demo", "make test", ""]


def test_the_makefile_has_every_verb_and_each_sets_up_what_it_needs():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    targets = dict(re.findall(r"^([a-z-]+):(.*)$", text, re.MULTILINE))
    assert targets.keys() >= VERBS
    assert set(phony) >= VERBS
    assert all("setup" in targets[verb].split() for verb in VERBS)


def test_what_has_to_hold_before_anything_lands_is_the_tests_and_the_whole_corpus():
    told = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in told if line.startswith("make ")] == ["make test", "make guard", "make conformance"]
    assert "set -euo pipefail" in told


def test_licence_python_and_types():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["requires-python"]) == ("Apache-2.0", ">=3.11")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]
    assert (ROOT / "uv.lock").is_file()
    assert files("headgate").joinpath("py.typed").is_file()


def test_a_pip_that_is_not_the_expected_one_is_not_run(tmp_path, monkeypatch, capsys):
    """What a Python without ensurepip is given comes from the network; it is known by its hash."""
    spec = importlib.util.spec_from_file_location("get_pip", ROOT / "scripts" / "get_pip.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script.subprocess, "run", lambda *args, **more: pytest.fail("it was run"))
    (tmp_path / script.WHEEL).write_bytes(b"PK another")
    for name, said in ((script.WHEEL, "not the pip that was expected"), ("nothing", "could not be fetched")):
        monkeypatch.setattr(script, "URL", (tmp_path / name).as_uri())
        assert script.main() == 1
        assert said in capsys.readouterr().err
