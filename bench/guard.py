"""Has the path become heavier? Compares it with what the last release recorded, as ratios and never as times.

    python bench/guard.py             fails where a bound is passed
    python bench/guard.py --record    writes the new baseline (done at a release)

The bounds are generous, for machines differ in more than one number: CPU per request in units of a calibration loop run
beside it, and the memory that one request needs at once. Where valgrind is installed the instructions of one request are
counted as well: the same on a busy machine and a quiet one, though not under another build of Python, so they are compared
with those of the same one only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from path import figures

BASELINE = Path(__file__).with_name("baseline.json")
BOUNDS = {"ratio": 1.5, "peak_bytes": 1.5, "instructions": 1.4}
FEW, MANY = 50, 350


def instructions() -> int | None:
    """Per request, by callgrind: the difference of two runs, so that start-up does not count. None without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return None
    counts, same = [], {**os.environ, "PYTHONHASHSEED": "0"}  # one order of everything hashed in both runs
    with tempfile.TemporaryDirectory() as folder:
        for requests in (FEW, MANY):
            path = str(Path(__file__).with_name("path.py"))
            run = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out", sys.executable, path]
            said = subprocess.run(
                [*run, "--only", str(requests)], capture_output=True, text=True, check=True, env=same
            ).stderr
            found = re.search(r"Collected : (\d+)", said)
            if found is None:
                raise SystemExit(f"valgrind counts nothing: {said[-300:]}")
            counts.append(int(found[1]))
    return (counts[1] - counts[0]) // (MANY - FEW)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    found: dict[str, Any] = dict(uvloop.run(figures(rounds=60, times=250)))
    if (counted := instructions()) is not None:
        found |= {"instructions": counted, "python": sys.version}
    if parser.parse_args().record:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
        return
    base = json.loads(BASELINE.read_text())
    known = [name for name in BOUNDS if name in found and name in base]
    if found.get("python") != base.get("python"):
        known = [name for name in known if name != "instructions"]
    grown = {name: found[name] / base[name] for name in known}
    print(json.dumps({"now": found, "baseline": base, "grown": {k: round(v, 2) for k, v in grown.items()}}))
    heavier = [f"{name} is {grown[name]:.2f} times the last release's" for name in grown if grown[name] > BOUNDS[name]]
    if heavier:
        raise SystemExit("; ".join(heavier))


if __name__ == "__main__":
    main()
