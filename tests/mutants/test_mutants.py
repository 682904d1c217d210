"""The lists of mutants are in step with the source; `make mutants` (or `pytest -m slow`) runs them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _script():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


mutants = _script()
LISTED = mutants.listed()


def test_names_are_unique():
    assert len({mutant.name for mutant in LISTED}) == len(LISTED) > 0


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.name)
def test_a_mutant_still_applies_and_names_tests_that_exist(mutant):
    source = (ROOT / "src" / mutant.file).read_text(encoding="utf-8")
    assert mutant.applied(source) != source
    assert mutant.caught_by
    for test in mutant.caught_by:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


def test_a_mutant_whose_text_is_gone_is_told_of():
    gone = mutants.Mutant("gone", "headgate/upstream/health.py", "no such text", "", ("x",))
    with pytest.raises(ValueError, match="found 0 times"):
        gone.applied("")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_mutant_is_caught(capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mutants"])
    assert mutants.main() == 0, capfd.readouterr().out
