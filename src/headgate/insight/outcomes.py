"""How a routing policy would have done on prompts that several models answered: cost against quality, honestly.

A policy learns from some rows and is judged on others. It gives each (row, model) a predicted quality; with a price of
money it picks the model with the best `quality - price x cost`; sweeping the price draws its curve. Between two
neighbouring points a share of the traffic goes each way, so a curve is interpolated, in the order of the price. No point is
picked by how well it did on the rows that judge it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy

from headgate.strategies.route.beliefs import ASSUMED, Beliefs, Prior
from headgate.strategies.route.neighbours import Neighbours, features, vector

Array = Any
PRICES = (0.0, *(float(price) for price in numpy.logspace(-3, 2.5, 300)))
"""Quality that one best-single-model's-cost is worth."""
NEIGHBOURS = 20
LEAST_SOURCES, ONE_SIDED = 3, 1.645


class Rows(msgspec.Struct):
    """Prompts with every model's score (0 to 1) and cost (US$); the arrays are rows x models."""

    models: list[str]
    ids: list[str]
    prompts: list[str]
    labels: list[str]
    """The task as the classifier names it."""
    sources: list[str]
    scores: Array
    costs: Array

    def part(self, keep: Callable[[int], bool]) -> Rows:
        places = [place for place in range(len(self.ids)) if keep(place)]
        return Rows(
            self.models,
            [self.ids[place] for place in places],
            [self.prompts[place] for place in places],
            [self.labels[place] for place in places],
            [self.sources[place] for place in places],
            self.scores[places],
            self.costs[places],
        )


class Split(msgspec.Struct):
    name: str
    train: Rows
    test: Rows
    unseen: bool


class Curve(msgspec.Struct):
    """Mean cost and mean quality per request, from the dearest point to the cheapest."""

    costs: list[float]
    qualities: list[float]

    def at(self, budget: float) -> float:
        """Quality for this mean cost: the first two neighbouring points that it lies between, mixed; the dearest where the
        budget is above it, the cheapest where nothing is below it."""
        if budget >= self.costs[0]:
            return self.qualities[0]
        for place in range(len(self.costs) - 1):
            above, below = self.costs[place], self.costs[place + 1]
            if above >= budget >= below:
                share = (budget - below) / (above - below) if above > below else 1.0
                return share * self.qualities[place] + (1 - share) * self.qualities[place + 1]
        return self.qualities[-1]


Predict = Callable[[Rows], Array]
"""Rows → predicted quality, rows x models."""
Learn = Callable[[Rows], Predict]


def splits(rows: Rows, *, folds: int = 4) -> list[Split]:
    """By rules, never by luck: a fifth of the ids by their hash; then whole sources left out, every fold-th by name."""
    held = [_bucket(row, 5) == 0 for row in rows.ids]
    out = [Split("same sources", rows.part(lambda i: not held[i]), rows.part(lambda i: held[i]), False)]
    names = sorted(set(rows.sources))
    for fold in range(min(folds, len(names))):
        away = set(names[fold :: min(folds, len(names))])
        train = rows.part(lambda i, away=away: rows.sources[i] not in away)
        out.append(Split(f"unseen {fold + 1}", train, rows.part(lambda i, away=away: rows.sources[i] in away), True))
    return out


def _bucket(text: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % count


# -- policies ------------------------------------------------------------------------------------------------------------
def table(train: Rows) -> Predict:
    """One mean per model: what the mix of single models knows."""
    means = train.scores.mean(axis=0)
    return lambda test: numpy.tile(means, (len(test.ids), 1))


def task_table(train: Rows) -> Predict:
    """One mean per (label, model), without shrinkage; the mean over all labels for a label not seen."""
    means = {
        label: train.scores[[i for i, x in enumerate(train.labels) if x == label]].mean(axis=0)
        for label in set(train.labels)
    }
    whole = train.scores.mean(axis=0)
    return lambda test: numpy.array([means.get(label, whole) for label in test.labels])


def knn(train: Rows) -> Predict:
    """The mean of the NEIGHBOURS nearest prompts, however far they are."""
    known = numpy.stack([vector(features(prompt)) for prompt in train.prompts])

    def predict(test: Rows) -> Array:
        asked = numpy.stack([vector(features(prompt)) for prompt in test.prompts])
        near = numpy.argpartition(-(asked @ known.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return train.scores[near].mean(axis=1)

    return predict


def headgate(train: Rows) -> Predict:
    """What `route` does: shrunk beliefs per (label, model), trusted as far as they held on sources left out, corrected by
    near neighbours only."""
    beliefs = Beliefs(decay=1.0)
    prior = Prior(float(train.scores.mean()), ASSUMED)
    for label, scores in zip(train.labels, train.scores, strict=True):
        for model, score in zip(train.models, scores, strict=True):
            beliefs.score(label, model, float(score), prior)
    beliefs.rely(trust_of(train))
    believed = {
        label: numpy.array([beliefs.quality(label, model, prior).mean for model in train.models])
        for label in {*train.labels, ""}
    }
    near = Neighbours(kept=len(train.ids))
    for prompt, label, scores in zip(train.prompts, train.labels, train.scores, strict=True):
        near.add(features(prompt), dict(zip(train.models, scores - believed[label], strict=True)))

    def predict(test: Rows) -> Array:
        out = []
        for prompt, label in zip(test.prompts, test.labels, strict=True):
            found = near.corrections(features(prompt), train.models)
            base = believed.get(label, believed[""])
            out.append(base + numpy.array([found.get(model, 0.0) for model in train.models]))
        return numpy.array(out)

    return predict


def trust_of(rows: Rows) -> float:
    """How far a label's own figures foretell a source that they were not learned from: the regression of what was found
    on what they claimed, each beyond the models' means; of it the lower end of a 95 % interval (jackknife over
    sources). With fewer than three sources nothing is known, and nothing trusted."""
    parts = _foretold(rows)
    agreed, claimed = (sum(part[i] for part in parts.values()) for i in (0, 1))
    without = [(agreed - a) / (claimed - c) for a, c in parts.values() if claimed - c > 1e-9]
    if len(without) < LEAST_SOURCES:
        return 0.0
    mean, count = sum(without) / len(without), len(without)
    error = ((count - 1) / count * sum((value - mean) ** 2 for value in without)) ** 0.5
    return min(max(agreed / claimed - ONE_SIDED * error, 0.0), 1.0)


def _foretold(rows: Rows) -> dict[str, tuple[float, float]]:
    """source → (agreement, square of the claim), summed over its labels."""
    cells = {
        (source, label): [i for i in range(len(rows.ids)) if rows.sources[i] == source and rows.labels[i] == label]
        for source in set(rows.sources)
        for label in set(rows.labels)
    }
    sums = {key: (rows.scores[places].sum(axis=0), len(places)) for key, places in cells.items() if places}
    out: dict[str, tuple[float, float]] = {}
    for (source, label), (found, count) in sums.items():
        others = [value for (s, _), value in sums.items() if s != source]
        same = [value for (s, t), value in sums.items() if s != source and t == label]
        if not same:
            continue
        whole = sum(v for v, _ in others) / sum(n for _, n in others)
        local = (whole * ASSUMED + sum(v for v, _ in same)) / (ASSUMED + sum(n for _, n in same))
        claim: Array = local - whole
        fact: Array = found / count - whole
        claim, fact = claim - claim.mean(), fact - fact.mean()
        before = out.get(source, (0.0, 0.0))
        out[source] = (before[0] + count * float(claim @ fact), before[1] + count * float(claim @ claim))
    return out


def oracle(train: Rows) -> Predict:
    """Knows every answer beforehand: what no router can reach."""
    return lambda test: test.scores


# -- figures -------------------------------------------------------------------------------------------------------------
def curve(predicted: Array, split: Split) -> Curve:
    """The policy's way from money-no-object to cheapest. Costs are predicted by the means of the training rows."""
    costs = split.train.costs.mean(axis=0)
    unit = costs[split.train.scores.mean(axis=0).argmax()]
    rows = numpy.arange(len(split.test.ids))
    # Among equals the cheaper one.
    tie = -1e-9 * numpy.argsort(numpy.argsort(costs))
    points = Curve([], [])
    for price in PRICES:
        picks = (predicted - price * costs / unit + tie).argmax(axis=1)
        points.costs.append(float(split.test.costs[rows, picks].mean()))
        points.qualities.append(float(split.test.scores[rows, picks].mean()))
    cheapest = int(costs.argmin())
    points.costs.append(float(split.test.costs[:, cheapest].mean()))
    points.qualities.append(float(split.test.scores[:, cheapest].mean()))
    return points


def cascade(split: Split, *, right: float) -> tuple[float, float]:
    """(mean cost, mean quality) of cheap → best with a verifier that is right in this share of cases, drawn by the row's
    id. The cheap model is the best that costs at most a fifth of the best one, by the training rows."""
    costs, scores = split.train.costs.mean(axis=0), split.train.scores.mean(axis=0)
    strong = int(scores.argmax())
    cheap = max((m for m in range(len(costs)) if costs[m] <= costs[strong] / 5), key=lambda m: scores[m])
    is_right = numpy.array([_bucket(f"verifier {row}", 1000) < right * 1000 for row in split.test.ids])
    accepted = (split.test.scores[:, cheap] >= 0.5) == is_right
    paid = split.test.costs[:, cheap] + numpy.where(accepted, 0.0, split.test.costs[:, strong])
    got = numpy.where(accepted, split.test.scores[:, cheap], split.test.scores[:, strong])
    return float(paid.mean()), float(got.mean())


def random_curve(split: Split) -> Curve:
    """A coin between the cheapest and the best single model."""
    weak, strong = ends(split)
    costs, scores = split.test.costs.mean(axis=0), split.test.scores.mean(axis=0)
    return Curve([float(costs[strong]), float(costs[weak])], [float(scores[strong]), float(scores[weak])])


def ends(split: Split) -> tuple[int, int]:
    """(the cheapest, the best) single model, by the training rows."""
    return int(split.train.costs.mean(axis=0).argmin()), int(split.train.scores.mean(axis=0).argmax())


class Figures(msgspec.Struct, frozen=True):
    """AIQ: mean quality over budgets from the cheapest to the best single model's cost. `at`: quality at 25, 50 and
    100 % of the best single model's cost. APGR: mean share of the gap between the two that is recovered over all shares of
    calls to the best one (random 0.5)."""

    aiq: float
    at: tuple[float, float, float]
    apgr: float


def figures(points: Curve, predicted: Array | None, split: Split) -> Figures:
    weak, strong = ends(split)
    costs = split.test.costs.mean(axis=0)
    budgets = numpy.linspace(costs[weak], costs[strong], 201)
    aiq = float(numpy.mean([points.at(budget) for budget in budgets]))
    at = tuple(points.at(share * float(costs[strong])) for share in (0.25, 0.5, 1.0))
    return Figures(aiq, at, 0.5 if predicted is None else apgr(predicted, split))  # type: ignore[arg-type]


def apgr(predicted: Array, split: Split) -> float:
    """Rows go to the strong model in the order of the gain that is predicted; ties share their places."""
    weak, strong = ends(split)
    scores = split.test.scores
    gap = float(scores[:, strong].mean() - scores[:, weak].mean())
    if gap <= 0:
        return float("nan")
    gain = predicted[:, strong] - predicted[:, weak]
    actual = scores[:, strong] - scores[:, weak]
    order = numpy.argsort(-gain, kind="stable")
    sorted_gain, worth = gain[order], actual[order].astype(float)
    for value in numpy.unique(sorted_gain):
        same = sorted_gain == value
        worth[same] = worth[same].mean()
    recovered = numpy.concatenate([[0.0], numpy.cumsum(worth)]) / len(order) / gap
    return float(numpy.trapezoid(recovered, numpy.linspace(0, 1, len(recovered))))


POLICIES: dict[str, Learn] = {
    "table of means": table,
    "task table": task_table,
    "kNN": knn,
    "Headgate": headgate,
    "oracle": oracle,
}


class Result(msgspec.Struct):
    curve: Curve
    figures: Figures


def judged(split: Split, policies: Sequence[str] = tuple(POLICIES)) -> dict[str, Result]:
    """Every policy on one split, and the coin."""
    out: dict[str, Result] = {}
    points = random_curve(split)
    out["random"] = Result(points, figures(points, None, split))
    for name in policies:
        predicted = POLICIES[name](split.train)(split.test)
        points = curve(predicted, split)
        out[name] = Result(points, figures(points, predicted, split))
    return out


def does_no_harm(results: dict[str, Result], *, slack: float = 0.005) -> bool:
    """On traffic it has never seen, Headgate is not below the plain table of means: in AIQ and at each budget, but for
    `slack`."""
    mine, plain = results["Headgate"].figures, results["table of means"].figures
    return mine.aiq >= plain.aiq - slack and all(a >= b - slack for a, b in zip(mine.at, plain.at, strict=True))
