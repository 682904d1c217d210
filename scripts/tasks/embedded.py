"""What a static embedder gains over the labelled prompts under the protocol of train.py: whole repositories left out.

    pip install scipy
    python scripts/tasks/embedded.py FOLDER

FOLDER: a static model, distil.py's for one. For each repository the classifier is fitted to the others and to the prompts
written for this project, as the shipped one is; then `headgate train` fits it once more to the others' labels, without the
embedder and with it. `unknown` counts as wrong. A quarter of an hour on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts"), str(ROOT / "src")]

from headgate.insight.training import Labelled, Once, refit, seen_in  # noqa: E402
from headgate.strategies.route.embedder import load_embedder  # noqa: E402
from headgate.strategies.route.learned import Model, model  # noqa: E402
from headgate.strategies.route.trained import Trained  # noqa: E402
from tasks.synthesis import synthetic  # noqa: E402
from tasks.train import EACH, INDEX, SEED, development, figures, fit, matrix, repository, weigh  # noqa: E402

FITS = ("as shipped, without the repository", "fitted again to the others' labels", "the same with the embedder")


def main(folder: str) -> None:
    embedder = Once(load_embedder(folder))
    rows, extra = development(), synthetic(SEED, EACH)
    y, groups = np.array([INDEX[row.label] for row in rows]), np.array([repository(row.source) for row in rows])
    everything = [*rows, *extra]
    x, wanted = matrix(everything), np.array([INDEX[row.label] for row in everything])
    given = np.full((len(FITS), len(rows)), -1)
    for group in sorted(set(groups)):
        out = np.flatnonzero(groups == group)
        kept = np.setdiff1d(np.arange(len(everything)), out)
        weights, bias = fit(x[kept], wanted[kept], weigh([everything[at] for at in kept]))
        base = Model(weights, bias, model().temperature, model().threshold, "held-out")
        others = [Labelled(r.prompt, r.label, r.source) for r, g in zip(rows, groups, strict=True) if g != group]
        plain, whole = refit(others, base), refit(others, base, embedder)
        made = (
            Trained(base),
            Trained(plain, seen=seen_in(others)),
            Trained(whole, seen=seen_in(others), embedder=embedder),
        )
        for number, one in enumerate(made):
            labels = [one.turn(rows[at].prompt).label for at in out]
            given[number, out] = [INDEX.get(label, -1) for label in labels]
        right = (given[:, out] == y[out]).mean(axis=1)
        print(f"{group} ({len(out)}): " + " ".join(f"{share:.3f}" for share in right), flush=True)
    for name, one in zip(FITS, given, strict=True):
        accuracy, f1 = figures(y, one)
        print(f"{name}: accuracy {accuracy:.3f}, macro-F1 {f1:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
