"""What models are worth per task, fitted to the ledger's scored answers, and whether that foretells answers left out.

The fit is the route's own (strategies/route/beliefs.py): published figures moved by a model's record over all tasks, then
by that of the task as far as such figures foretell. It is judged twice on sources (teams, else keys) that it was not fitted
to: by the squared error of what it foretells of each answer (Brier), and by replaying the choices that would have been made
with it, which the doubly robust estimator judges where chance made such choices. Both begin from what was shipped, not from
figures that were installed before nor from what the running gateway has learned, for those have seen the answers that are
left out.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from headgate.core.errors import HeadgateError
from headgate.engine.snapshot import info_of
from headgate.insight.estimate import Estimate, Seen, difference, fold_of
from headgate.insight.gain import Gain
from headgate.insight.log import Logged
from headgate.insight.replay import Side, Unknowable
from headgate.strategies.route.beliefs import Beliefs, Prior
from headgate.strategies.route.classify import LABELS
from headgate.strategies.route.learning import prior_of
from headgate.strategies.route.strengths import Table

LEAST_ROWS, LEAST_ANSWERS, LEAST_SOURCES, FOLDS = 60, 10, 3, 5
Z = 1.96


class Tried(Gain, frozen=True, kw_only=True):
    """In the mean squared error of what is foretold of an answer. `quality`: of the choices that the fitted figures change,
    by replay."""

    answers: dict[str, int]
    changed: int
    """Scored requests that would have gone elsewhere."""
    quality: Estimate

    @property
    def does_harm(self) -> bool:
        return self.quality.high is not None and self.quality.high < 0

    @property
    def is_better(self) -> bool:
        return self.low > 0 and not self.does_harm


class _Row(msgspec.Struct, frozen=True):
    """A scored answer: `prior` is what was known of its model before."""

    logged: Logged
    task: str
    model: str
    score: float
    source: str
    prior: Prior


def scored(rows: Sequence[Logged], side: Side) -> list[_Row]:
    """The answers whose worth is known, of models that the file still has. Raises ValueError where they are too few."""
    found: list[_Row] = []
    for row in rows:
        record, model = row.record, side.snapshot.model(row.record.model or "")
        if row.score is None or row.task is None or model is None:
            continue
        prior = prior_of(row.task, info_of(model))
        found.append(_Row(row, row.task, model.name, row.score, record.team or record.key_id, prior))
    if len(found) < LEAST_ROWS:
        raise ValueError(
            f"{len(found)} scored answers of routed requests are too few to judge a fit: {LEAST_ROWS} at least"
        )
    return found


def fit(rows: Sequence[_Row], side: Side) -> dict[str, dict[str, float]]:
    """Of each model with LEAST_ANSWERS: its quality in every task. The same rows give the same figures."""
    beliefs, counts = Beliefs(decay=1.0), Counter(row.model for row in rows)
    for row in rows:
        beliefs.score(row.task, row.model, row.score, row.prior)
    out: dict[str, dict[str, float]] = {}
    for name, count in sorted(counts.items()):
        model = side.snapshot.model(name)
        if count >= LEAST_ANSWERS and model is not None:
            info = info_of(model)
            out[name] = {task: round(beliefs.quality(task, name, prior_of(task, info)).mean, 4) for task in LABELS}
    return out


def attempt(rows: Sequence[_Row], side: Side) -> Tried:
    """Every answer is foretold, and every choice made, by figures that have seen nothing of its source (or, with fewer than
    LEAST_SOURCES of them, of its fifth)."""
    sources = Counter(row.source for row in rows)
    by_source = len(sources) >= LEAST_SOURCES
    place = {source: at % FOLDS for at, (source, _) in enumerate(sources.most_common())}
    folds = [place[row.source] if by_source else fold_of(row.logged.record.trace) for row in rows]
    before: list[float] = []
    after: list[float] = []
    owners: list[str] = []
    judged: list[tuple[Seen, str, str]] = []
    shipped = side.believing({})
    for fold in sorted(set(folds)):
        fitted = fit([row for row, of in zip(rows, folds, strict=True) if of != fold], side)
        other = side.believing(fitted)
        for row in (row for row, of in zip(rows, folds, strict=True) if of == fold):
            foretold = fitted.get(row.model, {}).get(row.task, row.prior.mean)
            before.append((row.score - row.prior.mean) ** 2)
            after.append((row.score - foretold) ** 2)
            owners.append(row.source if by_source else row.logged.record.trace)
            try:
                old, new = shipped.choice(row.logged), other.choice(row.logged)
            except (Unknowable, HeadgateError):
                continue
            judged.append((shipped.seen(row.logged, old), old, new))
    gains = [was - now for was, now in zip(before, after, strict=True)]
    gain, reach = _interval(gains, owners)
    return Tried(
        rows=len(rows),
        answers=dict(Counter(row.model for row in rows)),
        sources=len(sources),
        held_out="sources" if by_source else "rows",
        before=round(sum(before) / len(rows), 4),
        after=round(sum(after) / len(rows), 4),
        gain=round(gain, 4),
        low=round(gain - reach, 4),
        high=round(gain + reach, 4),
        changed=sum(old != new for _, old, new in judged),
        quality=difference([seen for seen, _, _ in judged], [old for _, old, _ in judged], [new for *_, new in judged]),
    )


def _interval(gains: Sequence[float], owners: Sequence[str]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval: answers of one owner are alike (Liang, Zeger 1986; Student's t, for owners are
    few), but never less than by answers alone."""
    count, mean = len(gains), sum(gains) / len(gains)
    sums: defaultdict[str, float] = defaultdict(float)
    for value, owner in zip(gains, owners, strict=True):
        sums[owner] += value - mean
    groups = len(sums)
    clustered = math.sqrt(sum(v * v for v in sums.values()) * groups / max(groups - 1, 1)) / count
    alone = math.sqrt(sum((value - mean) ** 2 for value in gains) / max(count - 1, 1) / count)
    return mean, max(_t(groups - 1) * clustered, Z * alone)


def _t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by Abramowitz, Stegun 26.7.5: within a hundredth of itself from 2 degrees of
    freedom on, which LEAST_SOURCES leaves."""
    n = max(freedom, 1)
    return (
        Z
        + (Z**3 + Z) / (4 * n)
        + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * n**2)
        + (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * n**3)
        + (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / (92160 * n**4)
    )


def table_of(rows: Sequence[_Row], side: Side) -> Table:
    """Fitted to all of them. Its version is that of its figures."""
    strengths = fit(rows, side)
    times = [row.logged.record.at for row in rows]
    table = Table(
        version="",
        since=_day(min(times)),
        until=_day(max(times)),
        answers=dict(sorted(Counter(row.model for row in rows if row.model in strengths).items())),
        strengths=strengths,
    )
    digest = hashlib.blake2b(msgspec.json.encode(table.strengths, order="sorted"), digest_size=4).hexdigest()
    return replace(table, version=f"own-{digest}")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
