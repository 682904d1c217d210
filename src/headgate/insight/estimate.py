"""What a policy would have been worth on requests that another one served: the doubly robust estimator, and what it cannot
say.

Dudík, Langford, Li: Doubly Robust Policy Evaluation and Learning (ICML 2011). Each request counts as what a model of the
scores foretells of the choice under test, and where that choice was really made, by chance, as the foretelling's error as
well, divided by the choice's propensity. Right wherever the propensities are, however bad the model is.

Where a choice had no chance, nothing corrects the model: such requests are counted apart and only bounded, by the worst and
the best score there is (Manski: Nonparametric Bounds on Treatment Effects, 1990).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec

FOLDS = 5
PSEUDO = 5.0
"""Pseudo-answers at the model's mean in each cell of the scores' model, and at the whole mean in each model's."""
LEAST = 30.0
"""Effective answers of the choices under test below which an interval is not to be believed."""
LEVEL = 0.95
KNOWN, SAME = "known", "nothing changes"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One request whose answer was scored. `propensities`: each choice's chance to be made; one alone: no chance was left
    to others."""

    id: str
    task: str
    action: str
    propensities: Mapping[str, float]
    score: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """`mean` with its interval, over the requests where the policy can be judged. It is to be believed where `is_known`.

    changed      scored requests where it chooses otherwise than the policy it is compared with
    unsupported  of them, those where its choice had no chance in the log
    matched      of the others, those where it was made by chance
    effective    what these are worth as equally weighted ones (Kish: the square of the sum over the sum of squares)
    bounds       of the mean over all, whatever the unsupported ones would have been worth, their sampling error included
    """

    scored: int
    changed: int = 0
    unsupported: int = 0
    matched: int = 0
    effective: float = 0.0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    bounds: tuple[float, float] | None = None
    is_known: bool = False
    verdict: str = ""


class Scores:
    """Mean score per (task, choice), shrunk; for each request from the others' folds only."""

    def __init__(self, rows: Sequence[Seen]) -> None:
        self._cells: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for row in rows:
            for fold in range(FOLDS):
                if fold != fold_of(row.id):
                    for key in ((fold, row.task, row.action), (fold, "", row.action), (fold, "", "")):
                        cell = self._cells[key]
                        cell[0] += row.score
                        cell[1] += 1.0

    def expected(self, row: Seen, action: str) -> float:
        value = 0.5
        fold = fold_of(row.id)
        for key in ((fold, "", ""), (fold, "", action), (fold, row.task, action)):
            total, count = self._cells.get(key, (0.0, 0.0))
            value = (total + PSEUDO * value) / (count + PSEUDO)
        return value


def fold_of(id: str) -> int:
    return hashlib.blake2b(id.encode(), digest_size=2).digest()[0] % FOLDS


def worth(row: Seen, action: str, scores: Scores) -> float | None:
    """One request's doubly robust term; None where the choice had no chance."""
    chance = row.propensities.get(action, 0.0)
    if chance <= 0:
        return None
    expected = scores.expected(row, action)
    return expected + (row.score - expected) / chance if row.action == action else expected


def value(rows: Sequence[Seen], choices: Sequence[str]) -> Estimate:
    """Of the policy that makes these choices, by itself."""
    scores, sums = Scores(rows), _Sums()
    for row, choice in zip(rows, choices, strict=True):
        sums.changed += 1
        if (term := worth(row, choice, scores)) is None:
            sums.add_unknown(0.0, 1.0)
        else:
            sums.add(term, row, choice)
    return sums.estimate(LEVEL)


def difference(rows: Sequence[Seen], before: Sequence[str], after: Sequence[str], *, level: float = LEVEL) -> Estimate:
    """Of the second policy over the first, in mean score per request: paired, so that what does not change adds nothing."""
    scores, sums = Scores(rows), _Sums()
    for row, old, new in zip(rows, before, after, strict=True):
        if old == new:
            sums.terms.append(0.0)
            continue
        sums.changed += 1
        was, would = worth(row, old, scores), worth(row, new, scores)
        if was is not None and would is not None:
            sums.add(would - was, row, new)
        elif row.action == old:
            sums.add_unknown(-row.score, 1.0 - row.score)
        else:
            sums.add_unknown(-1.0, 1.0)
    return sums.estimate(level)


class _Sums:
    def __init__(self) -> None:
        self.terms: list[float] = []
        self.changed = 0
        self._weights: list[float] = []
        self._unknown = 0
        self._low = self._high = 0.0

    def add(self, term: float, row: Seen, choice: str) -> None:
        self.terms.append(term)
        if row.action == choice:
            self._weights.append(1 / row.propensities[choice])

    def add_unknown(self, low: float, high: float) -> None:
        self._unknown += 1
        self._low, self._high = self._low + low, self._high + high

    def estimate(self, level: float) -> Estimate:
        squares, count = sum(w * w for w in self._weights), len(self.terms)
        effective = sum(self._weights) ** 2 / squares if squares else 0.0
        mean = sum(self.terms) / count if count else 0.0
        spread = sum((term - mean) ** 2 for term in self.terms) / max(count - 1, 1)
        reach = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(spread / count) if count else 0.0
        scored = count + self._unknown
        verdict = self._verdict(scored, effective)
        known = bool(scored) and self._unknown < scored
        bounds = None
        if self._unknown:
            low, high = mean * count + self._low - reach * count, mean * count + self._high + reach * count
            bounds = round(low / scored, 5), round(high / scored, 5)
        return Estimate(
            scored=scored,
            changed=self.changed,
            unsupported=self._unknown,
            matched=len(self._weights),
            effective=round(effective, 1),
            mean=round(mean, 5) if known else None,
            low=round(mean - reach, 5) if known else None,
            high=round(mean + reach, 5) if known else None,
            bounds=bounds,
            is_known=verdict in (KNOWN, SAME),
            verdict=verdict,
        )

    def _verdict(self, scored: int, effective: float) -> str:
        if not scored:
            return "cannot be known: no answer was scored"
        if not self.changed:
            return SAME
        if self._unknown == self.changed:
            return "cannot be known: chance never made these choices (see `learn: {explore: ...}`)"
        if effective < LEAST:
            return f"cannot be known: {effective:.0f} effective answers of these choices, {LEAST:.0f} are needed"
        if self._unknown:
            return f"known in part: {self._unknown} of {self.changed} choices had no chance in the log"
        return KNOWN
