"""Which of several candidates takes a task: hard filters first, then quality, cost and latency by their weights."""

from __future__ import annotations

import msgspec

from headgate.core.request import Request
from headgate.core.strategy import ModelInfo
from headgate.strategies.fit import unfit
from headgate.strategies.single import predicted

# Capabilities (as the configuration and the catalogue name them) that speak for a task.
SUITS: dict[str, frozenset[str]] = {
    "code": frozenset({"code"}),
    "math": frozenset({"math", "logic", "reasoning"}),
    "analysis": frozenset({"analysis", "reasoning"}),
    "summary": frozenset({"long_context", "conversation"}),
    "creative": frozenset({"creative", "multimodal"}),
    "translation": frozenset({"conversation", "multilingual"}),
    "qa": frozenset({"search_augmented", "conversation"}),
    "chat": frozenset({"conversation"}),
    "extraction": frozenset({"function_calling", "long_context"}),
}
SUITED, UNSUITED = 0.85, 0.7
"""Quality assumed where nothing was measured: a model whose capabilities name the task, and one whose do not."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Relative weights, or one of two constraints. `max_cost` in nano-US$."""

    quality: float = 1.0
    cost: float = 0.0
    latency: float = 0.0
    at_least: float | None = None
    max_cost: int | None = None


PREFER = {
    "cheap": Weights(quality=0.1, cost=1.0),
    "fast": Weights(quality=0.1, latency=1.0),
    "best": Weights(quality=1.0),
}


class Scored(msgspec.Struct):
    info: ModelInfo
    quality: float
    cost: int | None
    latency: float | None
    out: str | None = None
    """Why it cannot take the request at all."""
    score: float = 0.0


def quality_of(info: ModelInfo, task: str) -> float:
    if task in info.strength:
        return info.strength[task]
    return SUITED if SUITS.get(task, frozenset()) & set(info.capabilities) else UNSUITED


def rank(
    request: Request, candidates: list[ModelInfo], task: str, weights: Weights, *, zone: str | None, room: int | None
) -> list[Scored]:
    """Best first; those that are out come last, with the reason. Deterministic: ties keep the order given."""
    rows = [Scored(info, quality_of(info, task), predicted(request, info.price), info.latency) for info in candidates]
    for row in rows:
        row.out = _out(request, row, weights, zone, room)
    inside = [row for row in rows if row.out is None]
    dearest = max((row.cost for row in inside if row.cost is not None), default=0) or 1
    slowest = max((row.latency for row in inside if row.latency is not None), default=0.0) or 1.0
    for row in inside:
        # An unknown price or latency counts as the worst known one: never as free, never as instant.
        cost = (row.cost if row.cost is not None else dearest) / dearest
        slow = (row.latency if row.latency is not None else slowest) / slowest
        row.score = weights.quality * row.quality - weights.cost * cost - weights.latency * slow
    if weights.at_least is not None:
        good = [row for row in inside if row.quality >= weights.at_least]
        inside.sort(key=lambda r: (r not in good, r.cost if r.cost is not None else 1 << 62))
    else:
        inside.sort(key=lambda r: -r.score)
    inside.sort(key=lambda r: r.info.health <= 0)
    return inside + [row for row in rows if row.out is not None]


def _out(request: Request, row: Scored, weights: Weights, zone: str | None, room: int | None) -> str | None:
    info = row.info
    if not info.usable:
        return info.reason
    if (why := unfit(request, info)) is not None:
        return why.message
    if zone is not None and info.zone != zone:
        return f"outside the zone {zone!r}"
    for limit, what in ((weights.max_cost, "the rule's cost limit"), (room, "what the request may spend")):
        if limit is not None and row.cost is not None and row.cost > limit:
            return f"dearer than {what}"
    return None
