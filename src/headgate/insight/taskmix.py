"""What is asked for and how it went: the mix of tasks over time, and per task and model quality, cost, latency, failure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.money import dollars
from headgate.core.ports import Store
from headgate.core.records import CallRow, MixRow

Z = 1.96
"""Of a 95 % interval."""
DIMENSIONS = ("requested", "strategy", "key", "team", "model", "task")
"""What the mix can be limited to."""


class Share(msgspec.Struct, frozen=True):
    """A mean score with its 95 % interval (Wilson 1927, which is wider than needed where scores are not 0 or 1)."""

    mean: float
    low: float
    high: float


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """How one model did on one task. Costs are means of the requests whose price is known; `calls` are attempts at it,
    also those after which another model answered."""

    model: str
    requests: int
    cost_usd: str | None
    latency_ms: float
    calls: int
    calls_failed: int
    scored: int
    quality: Share | None


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """`failed`: requests that got no answer. `saved_usd`: against always asking the route's best model."""

    task: str
    requests: int
    share: float
    failed: int
    cost_usd: str
    unknown_cost: int
    saved_usd: str
    tokens_in: int
    tokens_out: int
    models: list[Served]


class Day(msgspec.Struct, frozen=True):
    day: str
    tasks: dict[str, int]


class TaskMix(msgspec.Struct, frozen=True, kw_only=True):
    """Requests without a task (asked for a model by name, or other doors) are the task ``."""

    since: float
    until: float
    requests: int
    cost_usd: str
    saved_usd: str
    tasks: list[TaskRow]
    days: list[Day]


async def task_mix(store: Store, *, since: float, until: float, where: Mapping[str, str] | None = None) -> TaskMix:
    """Of rows that the store still keeps; tasks with the most requests first. Raises ValueError for a `where` that is not
    of DIMENSIONS."""
    limits = dict(where or {})
    for name in limits:
        if name not in DIMENSIONS:
            raise ValueError(f"there is no filter {name[:60]!r}; there are {', '.join(DIMENSIONS)}")
    served = await store.mix(since=since, until=until, by=("task", "model"), where=limits)
    days = await store.mix(since=since, until=until, by=("day", "task"), where=limits)
    calls = {row.group: row for row in await store.calls(since=since, until=until, where=limits)}
    total = sum(row.requests for row in served)
    tasks: dict[str, list[MixRow]] = defaultdict(list)
    for row in served:
        tasks[row.group[0]].append(row)
    found = [_task(task, rows, total, calls) for task, rows in tasks.items()]
    by_day: dict[str, dict[str, int]] = defaultdict(dict)
    for row in days:
        by_day[row.group[0]][row.group[1]] = row.requests
    return TaskMix(
        since=since,
        until=until,
        requests=total,
        cost_usd=dollars(sum(row.cost for row in served)),
        saved_usd=dollars(sum(row.saved for row in served)),
        tasks=sorted(found, key=lambda row: (-row.requests, row.task)),
        days=[Day(day, tasks) for day, tasks in sorted(by_day.items())],
    )


def _task(task: str, rows: Sequence[MixRow], total: int, calls: Mapping[tuple[str, ...], CallRow]) -> TaskRow:
    requests = sum(row.requests for row in rows)
    names = {row.group[1]: row for row in rows if row.group[1]}
    models = [_served(model, names.get(model), calls.get((task, model))) for model in {**names, **_only(task, calls)}]
    return TaskRow(
        task=task,
        requests=requests,
        share=round(requests / total, 4),
        failed=sum(row.failed for row in rows),
        cost_usd=dollars(sum(row.cost for row in rows)),
        unknown_cost=sum(row.unknown_cost for row in rows),
        saved_usd=dollars(sum(row.saved for row in rows)),
        tokens_in=sum(row.input for row in rows),
        tokens_out=sum(row.output for row in rows),
        models=sorted(models, key=lambda row: (-row.requests, -row.calls, row.model)),
    )


def _only(task: str, calls: Mapping[tuple[str, ...], CallRow]) -> dict[str, Any]:
    """Models that were asked for this task, if only in vain."""
    return {model: None for (label, model) in calls if label == task}


def _served(model: str, row: MixRow | None, called: CallRow | None) -> Served:
    row = row or MixRow(group=("", model))
    priced = row.requests - row.unknown_cost
    return Served(
        model=model,
        requests=row.requests,
        cost_usd=dollars(round(row.cost / priced)) if priced else None,
        latency_ms=round(row.latency / row.requests * 1000, 1) if row.requests else 0.0,
        calls=called.calls if called else 0,
        calls_failed=called.failed if called else 0,
        scored=row.scored,
        quality=wilson(row.score, row.scored) if row.scored else None,
    )


def wilson(score: float, count: int) -> Share:
    mean = score / count
    middle = (mean + Z * Z / (2 * count)) / (1 + Z * Z / count)
    reach = Z / (1 + Z * Z / count) * math.sqrt(mean * (1 - mean) / count + Z * Z / (4 * count * count))
    return Share(round(mean, 4), round(max(0.0, middle - reach), 4), round(min(1.0, middle + reach), 4))
