"""Has the path become heavier? Compares it with what the last release recorded, as ratios and never as times.

    python bench/guard.py             fails where a bound is passed
    python bench/guard.py --record    writes the new baseline (done at a release)

The bounds are generous, for machines differ in more than one number: CPU per request in units of a calibration loop run
beside it, and the memory that one request needs at once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import uvloop
from path import figures

BASELINE = Path(__file__).with_name("baseline.json")
BOUNDS = {"ratio": 1.5, "peak_bytes": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", action="store_true")
    found = uvloop.run(figures(rounds=7, times=2000))
    if parser.parse_args().record:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
        return
    base = json.loads(BASELINE.read_text())
    grown = {name: found[name] / base[name] for name in BOUNDS}
    print(json.dumps({"now": found, "baseline": base, "grown": {k: round(v, 2) for k, v in grown.items()}}))
    heavier = [f"{name} is {grown[name]:.2f} times the last release's" for name in BOUNDS if grown[name] > BOUNDS[name]]
    if heavier:
        raise SystemExit("; ".join(heavier))


if __name__ == "__main__":
    main()
