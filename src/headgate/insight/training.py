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
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headgate.insight.gain import Gain
from headgate.strategies.route.classify import LABELS
from headgate.strategies.route.embedder import Embeds
from headgate.strategies.route.features import SIZE, features_of
from headgate.strategies.route.learned import READ, Model
from headgate.strategies.route.meaning import Meaning
from headgate.strategies.route.trained import Trained

Array = Any
LEAST_ROWS, LEAST_SOURCES, FOLDS = 40, 3, 5
PENALTY = 2e-3
SCALE = 4.0
"""How long vectors are made: a prompt has some dozens of features of 1 beside its vector, under the same penalty."""
FAR = 0.1
"""The share of the labelled prompts that are further from the others than what counts as near to them."""
ROUNDS = 200
Z = 1.96
INDEX = {label: at for at, label in enumerate(LABELS)}


class Labelled(msgspec.Struct, frozen=True):
    """`source`: where the prompt is from (a team, an application): prompts of one source are alike."""

    prompt: str
    label: str
    source: str = ""


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What the embedder adds to the same fit: `without` it, so much is right; `gain` is by how much more with it."""

    without: float
    gain: float
    low: float
    high: float


class Comparison(Gain, frozen=True, kw_only=True):
    """In accuracy, paired by prompt; `unknown` counts as wrong."""

    labels: dict[str, int]
    embedder: Beside | None = None
    """Where one was asked for: `after` is with it."""

    @property
    def commonest(self) -> float:
        """What always saying the commonest label would get right."""
        return round(max(self.labels.values()) / self.rows, 4)

    @property
    def is_better(self) -> bool:
        """Beyond doubt, and more than guesses that say `unknown` less often would gain; an embedder, for which every turn
        is read once more, must be better beyond doubt than the same fit without it."""
        worth_it = self.embedder is None or self.embedder.low > 0
        return self.low > 0 and self.after > self.commonest and worth_it


class _Line(msgspec.Struct):
    """A label is left open where nobody has given one yet."""

    prompt: str
    label: str | None
    source: str = ""


def read_labelled(path: Path) -> list[Labelled]:
    """JSON lines; those with `"label": null` are left out. Raises ValueError with the line of what is wrong."""
    rows: list[Labelled] = []
    open_ = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line, type=_Line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            if row.label is None:
                open_ += 1
                continue
            if row.label not in INDEX:
                raise ValueError(f"{path}:{number}: {row.label[:40]!r} is none of {', '.join(LABELS)}")
            if not row.prompt.strip():
                raise ValueError(f"{path}:{number}: the prompt is empty")
            rows.append(Labelled(row.prompt, row.label, row.source))
    if len(rows) < LEAST_ROWS:
        waiting = f" ({open_} more have no label yet)" if open_ else ""
        raise ValueError(
            f"{path}: {len(rows)} labelled prompts are too few to judge a fit: {LEAST_ROWS} at least{waiting}"
        )
    return rows


def compare(rows: Sequence[Labelled], base: Model, embedder: Embeds | None = None) -> Comparison:
    """Every prompt is classified by a fit that has seen nothing of its source (or, with fewer than LEAST_SOURCES of them,
    of its fifth); with an embedder also by one that has it."""
    sources = sorted({row.source for row in rows})
    by_source = len(sources) >= LEAST_SOURCES
    group: Callable[[Labelled], object] = (lambda row: row.source) if by_source else (lambda row: _fold(row.prompt))
    once = None if embedder is None else Once(embedder)
    before, plain, after = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    present = Trained(base)
    for one in sorted({group(row) for row in rows}, key=str):
        held = [at for at, row in enumerate(rows) if group(row) == one]
        others = [row for row in rows if group(row) != one]
        seen = seen_in(others)
        fitted = Trained(refit(others, base), seen=seen)
        whole = fitted if once is None else Trained(refit(others, base, once), seen=seen, embedder=once)
        for at in held:
            before[at] = present.turn(rows[at].prompt).label == rows[at].label
            plain[at] = fitted.turn(rows[at].prompt).label == rows[at].label
            after[at] = plain[at] if once is None else whole.turn(rows[at].prompt).label == rows[at].label
    gain, low, high = _paired(after - before)
    beside: Beside | None = None
    if once is not None:
        more, least, most = _paired(after - plain)
        beside = Beside(without=round(float(plain.mean()), 4), gain=more, low=least, high=most)
    return Comparison(
        rows=len(rows),
        labels=dict(Counter(row.label for row in rows)),
        sources=len(sources),
        held_out="sources" if by_source else "rows",
        before=round(float(before.mean()), 4),
        after=round(float(after.mean()), 4),
        gain=gain,
        low=low,
        high=high,
        embedder=beside,
    )


def _paired(gains: Array) -> tuple[float, float, float]:
    """Their mean with its 95 % interval."""
    mean, reach = float(gains.mean()), Z * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    return round(mean, 4), round(mean - reach, 4), round(mean + reach, 4)


class Once:
    """An embedder that reads each text once: every fit of a comparison reads nearly the same ones."""

    def __init__(self, embedder: Embeds) -> None:
        self.fingerprint = embedder.fingerprint
        self.vector = cache(embedder.vector)


def refit(rows: Sequence[Labelled], base: Model, embedder: Embeds | None = None) -> Model:
    """Multinomial logistic regression around the shipped weights, by accelerated gradient descent (Nesterov 1983): the loss
    is convex and smooth, the step is one over its bound on the curvature. The same rows give the same weights. The
    embedder's part begins at zero and is fitted together with the others."""
    x = _Design(rows, embedder)
    wanted = np.zeros((len(rows), len(LABELS)), dtype=np.float32)
    wanted[np.arange(len(rows)), [INDEX[row.label] for row in rows]] = 1.0
    weights = _weights(rows)
    step = 1.0 / (0.5 * x.norm / base.temperature**2 + PENALTY)
    start = x.start(base)
    change = np.zeros_like(start)
    ahead = change.copy()
    for round_ in range(ROUNDS):
        logits = x.logits(start + ahead) / base.temperature
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        error = (shares - wanted) * weights[:, None] / base.temperature
        next_ = ahead - step * (x.slope(error) + PENALTY * ahead)
        ahead = next_ + round_ / (round_ + 3) * (next_ - change)
        change = next_
    fitted = _with_words(base.weights)
    fitted[x.used] += change[: x.bias].astype(np.float32)
    bias = (base.bias + change[x.bias]).astype(np.float32)
    meaning = None if embedder is None else x.meaning(change[x.bias + 1 :], rows, embedder.fingerprint)
    read = b"" if meaning is None else meaning.embedder.encode() + meaning.weights.tobytes()
    digest = hashlib.blake2b(fitted.tobytes() + bias.tobytes() + read, digest_size=4).hexdigest()
    return Model(fitted, bias, base.temperature, base.threshold, f"own-{digest}", meaning)


class _Design:
    """What is fitted to: the rows' features, sparse, then the bias (row `bias` of the parameters), then their vectors."""

    def __init__(self, rows: Sequence[Labelled], embedder: Embeds | None) -> None:
        found = [features_of(_cut(row.prompt), words=True) for row in rows]
        self._count = len(rows)
        self._values = np.concatenate([one.values for one in found])
        self._owner = np.repeat(np.arange(len(rows)), [len(one.ids) for one in found])
        self.used, self._at = np.unique(np.concatenate([one.ids for one in found]), return_inverse=True)
        self.bias = len(self.used)
        vectors = (
            np.zeros((len(rows), 0)) if embedder is None else np.stack([embedder.vector(_cut(r.prompt)) for r in rows])
        )
        known: Array = vectors.any(axis=1)
        self._centre = vectors[known].mean(axis=0) if known.any() else vectors[0]
        self._vectors = np.where(known[:, None], vectors - self._centre, 0.0) * SCALE

    @property
    def norm(self) -> float:
        """The largest squared length of a row."""
        squares = np.bincount(self._owner, weights=self._values**2, minlength=self._count)
        return float((squares + (self._vectors**2).sum(axis=1)).max()) + 1.0

    def start(self, base: Model) -> Array:
        nothing = np.zeros((self._vectors.shape[1], len(LABELS)))
        return np.vstack([_with_words(base.weights)[self.used], base.bias[None], nothing]).astype(np.float64)

    def logits(self, theta: Array) -> Array:
        parts = self._values[:, None] * theta[self._at]
        sums = [
            np.bincount(self._owner, weights=parts[:, label], minlength=self._count) for label in range(len(LABELS))
        ]
        return np.stack(sums, axis=1) + theta[self.bias] + self._vectors @ theta[self.bias + 1 :]

    def slope(self, error: Array) -> Array:
        """Of the loss, by the parameters; `error` by the logits."""
        columns = [
            np.bincount(self._at, weights=self._values * error[self._owner, label], minlength=self.bias)
            for label in range(len(LABELS))
        ]
        return np.vstack([np.stack(columns, axis=1), error.sum(axis=0), self._vectors.T @ error])

    def meaning(self, fitted: Array, rows: Sequence[Labelled], fingerprint: str) -> Meaning:
        lengths = np.linalg.norm(self._vectors, axis=1, keepdims=True)
        units = np.divide(self._vectors, lengths, out=np.zeros_like(self._vectors), where=lengths > 0)
        mine = np.zeros((len(rows), len(LABELS)))
        mine[np.arange(len(rows)), [INDEX[row.label] for row in rows]] = 1.0
        sums = units.T @ mine
        # How near each prompt is to the others: to the sum of its own label without itself.
        towards = units @ sums - mine * (units**2).sum(axis=1, keepdims=True)
        squares = (sums**2).sum(axis=0) - mine * (2 * units @ sums - (units**2).sum(axis=1, keepdims=True))
        cosines = np.divide(towards, np.sqrt(squares.clip(0)), out=np.zeros_like(towards), where=squares > 1e-9)
        lengths = np.linalg.norm(sums, axis=0)
        return Meaning(
            fingerprint,
            self._centre.astype(np.float32),
            (fitted * SCALE).astype(np.float32),
            (sums / np.where(lengths > 0, lengths, 1.0)).astype(np.float32),
            max(float(np.quantile(cosines.max(axis=1), FAR)), 0.0),
        )


def _with_words(weights: Array) -> Array:
    """A copy with room for words, which begin at zero where the weights have none: (SIZE, labels)."""
    out = np.zeros((SIZE, weights.shape[1]), dtype=np.float32)
    out[: len(weights)] = weights
    return out


def packed(model: Model, rows: Sequence[Labelled]) -> bytes:
    """The file that `route: {trained: FILE}` names. `seen`: which features the fit knows, also where no lexicon does."""
    out = io.BytesIO()
    read: dict[str, Array] = {}
    if (meaning := model.meaning) is not None:
        read = {
            "embedder": np.array(meaning.embedder),
            "meaning_centre": meaning.centre,
            "meaning_weights": meaning.weights,
            "meaning_spots": meaning.spots,
            "meaning_near": np.array(meaning.near),
        }
    np.savez_compressed(
        out,
        labels=np.array(LABELS),
        weights=model.weights.astype(np.float16),
        bias=model.bias,
        temperature=model.temperature,
        threshold=model.threshold,
        version=model.version,
        seen=np.packbits(seen_in(rows)),
        **read,
    )
    return out.getvalue()


def seen_in(rows: Sequence[Labelled]) -> Array:
    """Which features a fit to them knows: (SIZE,) of bool."""
    seen = np.zeros(SIZE, dtype=bool)
    for row in rows:
        seen[features_of(_cut(row.prompt), words=True).ids] = True
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
