"""Has the path become heavier? Compares it with what the last release recorded, as ratios and never as times.

    python bench/guard.py             fails where a bound is passed
    python bench/guard.py --record    writes the new baseline (done at a release)

The bounds are generous, for machines differ in more than one number: CPU per request in units of a calibration loop run
beside it, and the memory that one request needs at once. Where valgrind is installed the instructions and the allocations
of one request are counted as well: the same on a busy machine and a quiet one, though not under another build of Python, so
they are compared with those of the same one only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import uvloop
from path import figures

BASELINE = Path(__file__).with_name("baseline.json")
BOUNDS = {"ratio": 1.5, "peak_bytes": 1.5, "instructions": 1.4, "allocations": 1.4}
FEW, MANY = 50, 350
COUNTED = {
    "instructions": (["--tool=callgrind", "--callgrind-out-file=/dev/null"], {}, r"Collected : (\d+)"),
    "allocations": (
        ["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"],
        {"PYTHONMALLOC": "malloc"},  # else Python takes memory by the arena
        r"heap usage: ([\d,]+) allocs",
    ),
}
"""What valgrind counts: its options, the environment, and where it says how many."""


def counted() -> dict[str, int]:
    """Per request: the difference of two runs, so that start-up does not count. Nothing without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return {}
    path = str(Path(__file__).with_name("path.py"))
    found: dict[str, int] = {}
    for name, (options, env, said) in COUNTED.items():
        counts: list[int] = []
        for requests in (FEW, MANY):
            run = [valgrind, *options, sys.executable, path, "--only", str(requests)]
            same = {**os.environ, "PYTHONHASHSEED": "0", **env}  # one order of everything hashed in both runs
            told = subprocess.run(run, capture_output=True, text=True, check=True, env=same).stderr
            if (number := re.search(said, told)) is None:
                raise SystemExit(f"valgrind counts no {name}: {told[-300:]}")
            counts.append(int(number[1].replace(",", "")))
        found[name] = (counts[1] - counts[0]) // (MANY - FEW)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    found: dict[str, Any] = dict(uvloop.run(figures(rounds=60, times=250)))
    if counts := counted():
        found |= {**counts, "python": sys.version}
    if parser.parse_args().record:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
        return
    base = json.loads(BASELINE.read_text())
    known = [name for name in BOUNDS if name in found and name in base]
    if found.get("python") != base.get("python"):
        known = [name for name in known if name not in COUNTED]
    grown = {name: found[name] / base[name] for name in known}
    print(json.dumps({"now": found, "baseline": base, "grown": {k: round(v, 2) for k, v in grown.items()}}))
    heavier = [f"{name} is {grown[name]:.2f} times the last release's" for name in grown if grown[name] > BOUNDS[name]]
    if heavier:
        raise SystemExit("; ".join(heavier))


if __name__ == "__main__":
    main()
