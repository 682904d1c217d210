"""Can the tests fail? Each mutant of tests/mutants/*.toml is a defect that must never be written: it is put into a copy of
the source, and the tests that the list names must then fail.

    python scripts/mutants.py [--list] [NAME ...]

An entry:

    [[mutant]]
    name = "breaker_never_closes"                 # unique over all files
    file = "headgate/upstream/health.py"          # below src/
    find = '''...'''                              # occurs exactly once in the file
    put = '''...'''
    caught_by = ["tests/upstream/test_health.py::test_x"]   # pass on the source as it is, one at least fails on the mutant

Exit code 1 where a mutant survives, or where its text is no longer found. tests/mutants keeps the lists in step with the
source; the mutants themselves are run by `make mutants`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "tests" / "mutants"
TIMEOUT = 240
"""Seconds for the tests of one mutant: a mutant that hangs is caught too, by the tests' own limit."""
FAILED = 1
"""pytest's exit code for tests that ran and failed; a mutant that cannot even be collected proves nothing."""


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    find: str
    put: str
    caught_by: tuple[str, ...]

    def applied(self, source: str) -> str:
        """Raises ValueError where the text to be replaced is not there exactly once."""
        if (times := source.count(self.find)) != 1:
            raise ValueError(f"{self.name}: its text is found {times} times in {self.file}")
        changed = source.replace(self.find, self.put)
        compile(changed, self.file, "exec")
        return changed


def listed() -> list[Mutant]:
    found: list[Mutant] = []
    for path in sorted(LISTS.glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            found.append(Mutant(**{**entry, "caught_by": tuple(entry["caught_by"])}))
    return found


def verdict(mutant: Mutant, copy: Path) -> str:
    """ "caught", or what is wrong. `copy` is a copy of src/, mutated here and mended again."""
    path = copy / mutant.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.applied(source), encoding="utf-8")
        code, said = _tests(mutant.caught_by, copy)
    except ValueError as error:
        return str(error)
    finally:
        path.write_text(source, encoding="utf-8")
    if code == FAILED:
        return "caught"
    return "SURVIVES" if code == 0 else f"the tests did not run (exit {code}): {said[-400:]}"


def _tests(names: tuple[str, ...], copy: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "", *names]
    env = {
        **os.environ,
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(copy),
    }
    try:
        ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return FAILED, "timed out"
    return ran.returncode, ran.stdout + ran.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="left out: all")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    mutants = [mutant for mutant in listed() if not args.names or mutant.name in args.names]
    if unknown := set(args.names) - {mutant.name for mutant in mutants}:
        parser.error(f"no mutant {', '.join(sorted(unknown))}")
    if args.list:
        for mutant in mutants:
            print(f"{mutant.name:34} {mutant.file:44} {', '.join(mutant.caught_by)}")
        return 0
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        code, said = _tests(tuple(dict.fromkeys(test for mutant in mutants for test in mutant.caught_by)), copy)
        if code != 0:
            print(f"the named tests fail on the source as it is:\n{said[-2000:]}")
            return 1
        for mutant in mutants:
            told = verdict(mutant, copy)
            survivors += told != "caught"
            print(f"{mutant.name:34} {told}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
