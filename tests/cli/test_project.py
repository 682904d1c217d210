"""What the project promises of itself: two commands, a licence, a Python, types, and verbs that set up what they need."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

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
