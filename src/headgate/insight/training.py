"""Fits the shipped task classifier to one's own labelled prompts, and says beforehand whether that would help.

The shipped weights are where it begins and what it is drawn back to (a Gaussian prior around them, as in adapting a maximum
entropy model to a new domain: Chelba, Acero 2004), so a few hundred prompts move what they speak of and leave the rest. It
is judged on sources that it was not fitted to, wherever there are enough; numpy is all it needs.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headgate.insight.gain import Gain
from headgate.strategies.route.classify import LABELS
from headgate.strategies.route.features import SIZE, features_of
from headgate.strategies.route.learned import READ, Model
from headgate.strategies.route.trained import Trained

Array = Any
LEAST_ROWS, LEAST_SOURCES, FOLDS = 40, 3, 5
PENALTY = 2e-3
ROUNDS = 200
Z = 1.96
INDEX = {label: at for at, label in enumerate(LABELS)}


class Labelled(msgspec.Struct, frozen=True):
    """`source`: where the prompt is from (a team, an application): prompts of one source are alike."""

    prompt: str
    label: str
    source: str = ""


class Comparison(Gain, frozen=True, kw_only=True):
    """In accuracy, paired by prompt; `unknown` counts as wrong."""

    labels: dict[str, int]

    @property
    def commonest(self) -> float:
        """What always saying the commonest label would get right."""
        return max(self.labels.values()) / self.rows

    @property
    def is_better(self) -> bool:
        """Beyond doubt, and more than guesses that say `unknown` less often would gain."""
        return self.low > 0 and self.after > self.commonest


def read_labelled(path: Path) -> list[Labelled]:
    """JSON lines. Raises ValueError with the line of what is wrong."""
    rows: list[Labelled] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=Labelled)
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            if row.label not in INDEX:
                raise ValueError(f"{path}:{number}: {row.label[:40]!r} is none of {', '.join(LABELS)}")
            if not row.prompt.strip():
                raise ValueError(f"{path}:{number}: the prompt is empty")
            rows.append(row)
    if len(rows) < LEAST_ROWS:
        raise ValueError(f"{path}: {len(rows)} labelled prompts are too few to judge a fit: {LEAST_ROWS} at least")
    return rows


def compare(rows: Sequence[Labelled], base: Model) -> Comparison:
    """Every prompt is classified by a fit that has seen nothing of its source (or, with fewer than LEAST_SOURCES of them,
    of its fifth)."""
    sources = sorted({row.source for row in rows})
    by_source = len(sources) >= LEAST_SOURCES
    group: Callable[[Labelled], object] = (lambda row: row.source) if by_source else (lambda row: _fold(row.prompt))
    before, after = np.zeros(len(rows)), np.zeros(len(rows))
    present = Trained(base)
    for one in sorted({group(row) for row in rows}, key=str):
        held = [at for at, row in enumerate(rows) if group(row) == one]
        others = [row for row in rows if group(row) != one]
        fitted = Trained(refit(others, base), seen=_seen(others))
        for at in held:
            before[at] = present.turn(rows[at].prompt).label == rows[at].label
            after[at] = fitted.turn(rows[at].prompt).label == rows[at].label
    gains = after - before
    reach = Z * float(gains.std(ddof=1)) / math.sqrt(len(rows))
    return Comparison(
        rows=len(rows),
        labels=dict(Counter(row.label for row in rows)),
        sources=len(sources),
        held_out="sources" if by_source else "rows",
        before=round(float(before.mean()), 4),
        after=round(float(after.mean()), 4),
        gain=round(float(gains.mean()), 4),
        low=round(float(gains.mean()) - reach, 4),
        high=round(float(gains.mean()) + reach, 4),
    )


def refit(rows: Sequence[Labelled], base: Model) -> Model:
    """Multinomial logistic regression around the shipped weights, by accelerated gradient descent (Nesterov 1983): the loss
    is convex and smooth, the step is one over its bound on the curvature. The same rows give the same weights."""
    found = [features_of(_cut(row.prompt)) for row in rows]
    ids = np.concatenate([one.ids for one in found])
    values = np.concatenate([one.values for one in found])
    owner = np.repeat(np.arange(len(rows)), [len(one.ids) for one in found])
    used, at = np.unique(ids, return_inverse=True)
    wanted = np.zeros((len(rows), len(LABELS)), dtype=np.float32)
    wanted[np.arange(len(rows)), [INDEX[row.label] for row in rows]] = 1.0
    weights = _weights(rows)
    norm = float(np.bincount(owner, weights=values**2, minlength=len(rows)).max()) + 1.0
    step = 1.0 / (0.5 * norm / base.temperature**2 + PENALTY)
    start = np.vstack([base.weights[used], base.bias[None]]).astype(np.float64)
    change = np.zeros_like(start)
    ahead = change.copy()
    for round_ in range(ROUNDS):
        logits = _logits(start + ahead, at, values, owner, len(rows)) / base.temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        error = (shares - wanted) * weights[:, None] / base.temperature
        slope = PENALTY * ahead
        for label in range(len(LABELS)):
            slope[:-1, label] += np.bincount(at, weights=values * error[owner, label], minlength=len(used))
        slope[-1] += error.sum(axis=0)
        next_ = ahead - step * slope
        ahead = next_ + round_ / (round_ + 3) * (next_ - change)
        change = next_
    fitted = base.weights.astype(np.float32).copy()
    fitted[used] += change[:-1].astype(np.float32)
    bias = (base.bias + change[-1]).astype(np.float32)
    digest = hashlib.blake2b(fitted.tobytes() + bias.tobytes(), digest_size=4).hexdigest()
    return Model(fitted, bias, base.temperature, base.threshold, f"own-{digest}")


def packed(model: Model, rows: Sequence[Labelled]) -> bytes:
    """The file that `route: {trained: FILE}` names. `seen`: which features the fit knows, also where no lexicon does."""
    out = io.BytesIO()
    np.savez_compressed(
        out,
        labels=np.array(LABELS),
        weights=model.weights.astype(np.float16),
        bias=model.bias,
        temperature=model.temperature,
        threshold=model.threshold,
        version=model.version,
        seen=np.packbits(_seen(rows)),
    )
    return out.getvalue()


def _logits(weights: Array, at: Array, values: Array, owner: Array, count: int) -> Array:
    parts = values[:, None] * weights[at]
    sums = [np.bincount(owner, weights=parts[:, label], minlength=count) for label in range(len(LABELS))]
    return np.stack(sums, axis=1) + weights[-1]


def _seen(rows: Sequence[Labelled]) -> Array:
    seen = np.zeros(SIZE, dtype=bool)
    for row in rows:
        seen[features_of(_cut(row.prompt)).ids] = True
    return seen


def _weights(rows: Sequence[Labelled]) -> Array:
    """Each source counts with the root of its size: a large one does not drown the others."""
    sizes = Counter(row.source for row in rows)
    weights = np.array([sizes[row.source] ** -0.5 for row in rows])
    return weights / weights.sum()


def _cut(text: str) -> str:
    return text if len(text) <= READ else f"{text[: READ // 2]}\n{text[-READ // 2 :]}"


def _fold(prompt: str) -> int:
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=2).digest()[0] % FOLDS
