"""Figures of a drill. Failure = error, late, truncated or wrong; the denominator is all requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from headgate.drill.questions import FATES
from headgate.drill.stage import Run

NANO = 1_000_000_000


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one arm. `low` and `high` bound the availability that this plan gives (Wilson's 95 % interval: requests that
    meet the same outage are not independent, so other plans vary by more). Seconds, of answers that were fine."""

    name: str
    kind: str
    phase: str
    requests: int
    fates: dict[str, int]
    availability: float
    low: float
    high: float
    p50: float | None
    p95: float | None
    p99: float | None
    cost_usd: float
    calls: float
    """Calls to providers per request."""
    moves: dict[str, int]

    @property
    def cost_per_thousand(self) -> float:
        return self.cost_usd / self.requests * 1000


def figures(run: Run) -> Figures:
    """Raises ValueError where nothing was asked."""
    count = len(run.fates)
    if not count:
        raise ValueError("no requests")
    fates = Counter(run.fates)
    low, high = wilson(fates["ok"], count)
    took = sorted(run.took)
    return Figures(
        name=run.arm.name,
        kind=run.arm.kind,
        phase=run.arm.phase,
        requests=count,
        fates={fate: fates[fate] for fate in FATES},
        availability=fates["ok"] / count,
        low=low,
        high=high,
        p50=percentile(took, 0.5),
        p95=percentile(took, 0.95),
        p99=percentile(took, 0.99),
        cost_usd=run.cost / NANO,
        calls=run.calls / count,
        moves={kind: run.moves[kind] for kind in ("failover", "fallback", "rescue") if run.moves[kind]},
    )


def wilson(good: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927)."""
    share = good / count
    middle = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def agree(one: Figures, two: Figures, z: float = 1.96) -> bool:
    """Could both shares be the same? A two-sample test of Wilson's kind, by the pooled share."""
    pooled = (one.fates["ok"] + two.fates["ok"]) / (one.requests + two.requests)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / one.requests + 1 / two.requests))
    return abs(one.availability - two.availability) <= z * spread + 1e-12
