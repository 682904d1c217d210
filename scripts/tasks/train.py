"""Fit the task classifier: leave-one-source-out first (its figures and its calibration), then all of it into the wheel.

    python scripts/tasks/train.py            figures only
    python scripts/tasks/train.py --install  and write src/headgate/strategies/route/tasks.npz

Data: the labelled prompts of tests/data/tasks (README there) and the prompts of synthesis.py (written for this project).
Needs scipy; one core; the same result for the same seed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from headgate.strategies.route.classify import LABELS  # noqa: E402
from headgate.strategies.route.features import WORDS, features_of  # noqa: E402
from support.tasks import rows as labelled  # noqa: E402
from tasks.synthesis import Row, synthetic  # noqa: E402

SEED, EACH = 7, 8
SYNTHETIC_SHARE = 0.9
"""Of the whole weight: how much the prompts from templates have."""
PENALTY = 1e-3
THRESHOLD = 0.3
"""Probability below which the shipped classifier says `unknown`."""
INDEX = {label: at for at, label in enumerate(LABELS)}


def development() -> list[Row]:
    return [Row(row["prompt"], row["label"], row["source"], "") for row in labelled()]


def repository(source: str) -> str:
    """Sources of one repository share a style: they are held out together."""
    return source.split("/")[0].split("(")[0]


def matrix(rows: list[Row]) -> csr_matrix:
    found = [features_of(row.prompt) for row in rows]
    ids, starts = np.concatenate([one.ids for one in found]), np.cumsum([0, *(len(one.ids) for one in found)])
    made = csr_matrix((np.ones(len(ids)), ids, starts), shape=(len(rows), WORDS), dtype=np.float32)
    made.sum_duplicates()
    return made


def weigh(rows: list[Row]) -> np.ndarray:
    """Every label the same weight; inside it the square root of each source's size; templates their share."""
    sizes = Counter((row.source, row.label) for row in rows)
    weights = np.array([sizes[row.source, row.label] ** -0.5 for row in rows])
    made = np.array([row.source.startswith("template") for row in rows])
    languages = Counter((row.label, row.language) for row in rows)
    for label in LABELS:
        mine = np.array([row.label == label for row in rows])
        for part, share in ((mine & made, SYNTHETIC_SHARE), (mine & ~made, 1 - SYNTHETIC_SHARE)):
            if part.any():
                weights[part] *= share / weights[part].sum()
    del languages
    return (weights / weights.sum()).astype(np.float32)


def fit(x: csr_matrix, y: np.ndarray, weights: np.ndarray, *, rounds: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with a Gaussian prior; only columns that occur are fitted."""
    used = np.unique(x.indices)
    small = x[:, used].tocsr().astype(np.float32)
    turned = small.T.tocsr()
    k = len(LABELS)
    wanted = np.eye(k, dtype=np.float32)[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.astype(np.float32).reshape(len(used) + 1, k)
        logits = small @ theta[:-1] + theta[-1]
        logits -= logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        value = -(weights * np.log((p * wanted).sum(axis=1) + 1e-12)).sum() + PENALTY * (theta[:-1] ** 2).sum()
        push = (p - wanted) * weights[:, None]
        gradient = np.vstack([turned @ push + 2 * PENALTY * theta[:-1], push.sum(axis=0)])
        return float(value), gradient.ravel().astype(np.float64)

    start = np.zeros((len(used) + 1) * k)
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": rounds}).x.reshape(len(used) + 1, k)
    whole = np.zeros((WORDS, k), dtype=np.float32)
    whole[used] = best[:-1]
    return whole, best[-1].astype(np.float32)


def figures(y: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """(accuracy, macro-F1 over the labels that occur); `given` may hold -1 for unknown."""
    scores = []
    for at in sorted(set(y.tolist())):
        right = int(((y == at) & (given == at)).sum())
        scores.append(2 * right / max((y == at).sum() + (given == at).sum(), 1))
    return float((y == given).mean()), float(np.mean(scores))


class Held:
    """Logits of every labelled prompt by a model that never saw its repository (or its source)."""

    def __init__(self, rows: list[Row], extra: list[Row], by) -> None:
        self.rows, self.y = rows, np.array([INDEX[row.label] for row in rows])
        everything = [*rows, *extra]
        x, y = matrix(everything), np.array([INDEX[row.label] for row in everything])
        groups = np.array([by(row.source) for row in rows])
        self.groups, self.logits = groups, np.zeros((len(rows), len(LABELS)), dtype=np.float32)
        for group in sorted(set(groups)):
            out = np.zeros(len(everything), dtype=bool)
            out[: len(rows)] = groups == group
            kept = np.flatnonzero(~out)
            weights, bias = fit(x[kept], y[kept], weigh([everything[at] for at in kept]))
            self.logits[groups == group] = x[np.flatnonzero(out)] @ weights + bias

    def sure(self, temperature: float) -> np.ndarray:
        """The probability of each prompt's likeliest label."""
        z = self.logits / temperature
        p = np.exp(z - z.max(axis=1, keepdims=True))
        return p.max(axis=1) / p.sum(axis=1)

    def temperature(self) -> float:
        """The one under which unseen repositories' prompts are likeliest, each repository counting the same."""
        sizes = Counter(self.groups)
        share = np.array([1 / sizes[group] for group in self.groups])

        def cost(t: float) -> float:
            z = self.logits / t
            z = z - z.max(axis=1, keepdims=True)
            p = np.exp(z)
            p /= p.sum(axis=1, keepdims=True)
            return float(-(share * np.log(p[np.arange(len(p)), self.y] + 1e-9)).sum())

        return float(min(np.arange(0.3, 4.0, 0.05), key=cost))


def report(held: Held) -> dict:
    given = held.logits.argmax(axis=1)
    out = {"all": figures(held.y, given)}
    sure = held.sure(held.temperature())
    said = np.where(sure >= THRESHOLD, given, -1)
    out["unknown counts as wrong"] = (*figures(held.y, said), float((said < 0).mean()))
    most = sure >= np.quantile(sure, 0.2)
    out["the surest four fifths"] = float((held.y[most] == given[most]).mean())
    for group in sorted(set(held.groups)):
        part = held.groups == group
        wrong = Counter(
            f"{LABELS[a]}>{LABELS[b]}" for a, b in zip(held.y[part], given[part], strict=True) if a != b
        ).most_common(4)
        out[group] = (round(float((held.y[part] == given[part]).mean()), 3), int(part.sum()), wrong)
    per = defaultdict(list)
    for row, a, b in zip(held.rows, held.y, given, strict=True):
        per[row.source].append(a == b)
    out["by source"] = {source: round(float(np.mean(hits)), 2) for source, hits in sorted(per.items())}
    return out


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--install", action="store_true")
    options = arguments.parse_args()
    rows, extra = development(), synthetic(SEED, EACH)
    held = Held(rows, extra, repository)
    print(json.dumps(report(held), indent=1, ensure_ascii=False))
    print("temperature", held.temperature())
    if options.install:
        install(rows + extra, held)


def install(everything: list[Row], held: Held) -> None:
    weights, bias = fit(matrix(everything), np.array([INDEX[r.label] for r in everything]), weigh(everything))
    out = io.BytesIO()
    np.savez_compressed(
        out, weights=weights.astype(np.float16), bias=bias, labels=np.array(LABELS),
        temperature=held.temperature(), threshold=THRESHOLD, version="2026-11",
    )  # fmt: skip
    path = ROOT / "src/headgate/strategies/route/tasks.npz"
    path.write_bytes(out.getvalue())
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
