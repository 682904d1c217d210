"""Which of several candidates takes a task: hard filters first, then quality, cost and latency as the rule weighs them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo
from headgate.strategies.fit import unfit
from headgate.strategies.route.beliefs import Beta, Prior

DRAWS = 256
"""Draws from which the chance of being explored is estimated."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Relative weights, or `at_least` so much quality at the lowest cost. `max_cost` in nano-US$: the best for at most
    this."""

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


class Candidate(msgspec.Struct):
    """`cost` in nano-US$, `worst` what it can cost at most; None = not known. `out`: why it cannot take the request."""

    info: ModelInfo
    belief: Beta
    quality: float
    cost: int | None
    worst: int | None
    latency: float | None
    out: str | None = None
    score: float = 0.0
    prior: Prior | None = None
    """What was shipped or assumed of its quality, before anything was seen."""
    behind: str | None = None
    """A candidate that is no worse in anything."""
    propensity: float | None = None
    """Its chance to be chosen, where chance had a part in it."""

    def shown(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "model": self.info.name,
            "quality": round(self.quality, 3),
            "uncertainty": round(self.belief.deviation, 3),
            "cost_usd": None if self.cost is None else dollars(self.cost),
            "latency_ms": None if self.latency is None else round(self.latency * 1000, 1),
        }
        if self.prior is not None:
            out["prior"] = [round(self.prior.mean, 3), self.prior.weight]
            out["answers"] = round(self.belief.count, 1)
        if self.out is not None:
            out["out"] = self.out
        else:
            out["score"] = round(self.score, 4)
        if self.behind is not None:
            out["behind"] = self.behind
        if self.propensity is not None:
            out["propensity"] = round(self.propensity, 6)
        return out


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must keep. `room`: nano-US$ that the request may still spend."""

    capabilities: frozenset[str] = frozenset()
    zone: str | None = None
    max_latency: float | None = None
    room: int | None = None


def rank(request: Request, rows: Sequence[Candidate], weights: Weights, limits: Limits) -> list[Candidate]:
    """Best first; those that are out come last, with the reason. Deterministic: ties keep the order given."""
    for row in rows:
        row.out = _out(request, row, weights, limits)
    inside = [row for row in rows if row.out is None]
    for row in inside:
        row.behind = next((other.info.name for other in inside if _dominates(other, row, weights)), None)
    for row, score in zip(inside, scores(inside, weights, [row.quality for row in inside]), strict=True):
        row.score = score
    inside.sort(key=lambda row: (row.info.health <= 0, row.behind is not None, -row.score))
    return inside + [row for row in rows if row.out is not None]


def scores(rows: Sequence[Candidate], weights: Weights, qualities: Sequence[float]) -> list[float]:
    """Higher is better. With a floor: those above it by cost, the others after them by quality."""
    out: list[float] = []
    for quality, cost, slow in zip(qualities, *_shares(rows), strict=True):
        if weights.at_least is None:
            out.append(weights.quality * quality - weights.cost * cost - weights.latency * slow)
        else:
            out.append(2.0 - cost if quality >= weights.at_least else quality)
    return out


def _shares(rows: Sequence[Candidate]) -> tuple[list[float], list[float]]:
    """Cost and latency as shares of the dearest and the slowest. What is unknown counts as the worst known: never as
    free, never as instant."""
    dearest = max((row.cost for row in rows if row.cost is not None), default=0) or 1
    slowest = max((row.latency for row in rows if row.latency is not None), default=0.0) or 1.0
    costs = [(row.cost if row.cost is not None else dearest) / dearest for row in rows]
    return costs, [(row.latency if row.latency is not None else slowest) / slowest for row in rows]


class Explored(msgspec.Struct, frozen=True):
    """`chosen` index, its `propensity`, and whether the draw decided it. `shares`: every row's propensity."""

    chosen: int
    propensity: float
    drawn: bool
    shares: tuple[float, ...]


def explore(rows: Sequence[Candidate], weights: Weights, *, share: float, seed: str) -> Explored:
    """Thompson sampling on a bounded share of the requests, among rows that are ranked and inside; else the first one.
    The propensity is that of the whole policy. The same seed gives the same choice."""
    import numpy

    healthy = [place for place, row in enumerate(rows) if row.info.health > 0]
    if len(healthy) < 2:
        return Explored(0, 1.0, False, (1.0, *(0.0 for _ in rows[1:])))
    luck = numpy.random.default_rng(int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big"))
    pool = [rows[place] for place in healthy]
    costs, slows = (numpy.array(shares) for shares in _shares(pool))
    beliefs = numpy.array([(row.belief.a, row.belief.b) for row in pool])
    drawn = luck.beta(beliefs[:, 0], beliefs[:, 1], size=(DRAWS, len(pool)))
    if weights.at_least is None:
        drawn = weights.quality * drawn - weights.cost * costs - weights.latency * slows
    else:
        drawn = numpy.where(drawn >= weights.at_least, 2.0 - costs, drawn)
    winners = drawn.argmax(axis=1)
    is_drawn = bool(luck.random() < share)
    place = int(winners[-1]) if is_drawn else 0  # the last draw is as good as any
    # One pseudo-win among them: no chance that is not nothing is told as nothing.
    chances = (numpy.bincount(winners, minlength=len(pool)) + 1 / len(pool)) / (DRAWS + 1)
    shares = [0.0] * len(rows)
    for at, chance in zip(healthy, chances.tolist(), strict=True):
        shares[at] = (1 - share) * (at == healthy[0]) + share * chance
    return Explored(healthy[place], shares[healthy[place]], is_drawn, tuple(shares))


def _dominates(one: Candidate, other: Candidate, weights: Weights) -> bool:
    """No worse in quality, cost and, where the rule weighs it, latency; better in one of them."""
    if one is other or one.info.health <= 0:
        return False
    pairs: list[tuple[float, float]] = [(one.quality, other.quality), (-_or(one.cost), -_or(other.cost))]
    if weights.latency:
        pairs.append((-_or(one.latency), -_or(other.latency)))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _or(value: float | None) -> float:
    return math.inf if value is None else value


def _out(request: Request, row: Candidate, weights: Weights, limits: Limits) -> str | None:
    info = row.info
    if not info.usable:
        return info.reason
    if (why := unfit(request, info)) is not None:
        return why.message
    if missing := limits.capabilities - set(info.capabilities):
        return f"without {', '.join(sorted(missing))}"
    if limits.zone is not None and info.zone != limits.zone:
        return f"outside the zone {limits.zone!r}"
    if limits.max_latency is not None and row.latency is not None and row.latency > limits.max_latency:
        return f"first content takes {row.latency:.1f} s, more than the rule's {limits.max_latency:g} s"
    if weights.max_cost is not None and row.cost is not None and row.cost > weights.max_cost:
        return "dearer than the rule's cost limit"
    if limits.room is not None and row.worst is not None and row.worst > limits.room:
        return f"can cost ${dollars(row.worst)}, more than the request may spend (${dollars(max(limits.room, 0))})"
    return None


def corrected(rows: Sequence[Candidate], corrections: Mapping[str, float]) -> None:
    """Moves believed quality by what near prompts say."""
    for row in rows:
        if row.info.name in corrections:
            row.quality = min(max(row.quality + corrections[row.info.name], 0.0), 1.0)
