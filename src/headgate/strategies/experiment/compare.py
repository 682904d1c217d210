"""What is compared between arms, and which arm must not go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from headgate.strategies.experiment import sequential
from headgate.strategies.experiment.sequential import Estimate, Interval, Scale
from headgate.strategies.experiment.trial import Cells, Sums

Metric = Literal["success", "feedback", "judge", "cost", "latency"]
SCALES: Mapping[str, Scale] = {
    "success": "points",
    "errors": "points",
    "feedback": "points",
    "judge": "points",
    "cost": "ratio",
    "latency": "ratio",
}
MORE_IS_BETTER = frozenset({"success", "feedback", "judge"})
EFFECT: Mapping[Scale, float] = {"points": 0.05, "ratio": 0.1}
"""The smallest difference worth finding, where the configuration does not say: five points; a tenth more or less."""
HARM: Mapping[Scale, float] = {"points": 0.2, "ratio": 0.5}
"""What guards are tuned to see soonest. Smaller harm is seen too, only later."""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """How much worse than the control an arm may be; None: not watched. `errors` and `quality` in points (0.05: five in a
    hundred), `latency` and `cost` as a part (0.5: half as much again). `alpha`: chance that an arm is stopped though it is
    not worse than that, over all guards and arms together, however long it runs."""

    errors: float | None = 0.05
    quality: float | None = None
    latency: float | None = None
    cost: float | None = None
    alpha: float = 0.01

    def watched(self) -> dict[str, float]:
        found = {"errors": self.errors, "quality": self.quality, "latency": self.latency, "cost": self.cost}
        return {name: value for name, value in found.items() if value is not None}


class Comparison(msgspec.Struct, frozen=True):
    """Arm against control in one metric. `difference` and `interval` in points, or as a part more or less (0.1: a tenth
    more); the interval holds at all times together. `verdict`: better | worse | undecided."""

    difference: float
    interval: Interval
    p: float
    verdict: str


def units(metric: str) -> str:
    """The sums that the test is about: one observation of each unit, since those of one unit resemble each other."""
    return f"unit:{'errors' if metric == 'success' else metric}"


def sums_of(cells: Cells, arm: str, name: str) -> Sums:
    """Over all phases."""
    out = Sums()
    for arms in cells.values():
        if (found := arms.get(arm, {}).get(name)) is not None:
            out.join(found)
    return out


def estimate(cells: Cells, name: str, arm: str, control: str) -> Estimate:
    """arm - control; each phase is compared within itself."""
    scale = SCALES[name.removeprefix("unit:")]
    nothing = Sums()
    return sequential.pooled(
        sequential.difference(arms.get(arm, {}).get(name, nothing), arms.get(control, {}).get(name, nothing), scale)
        for arms in cells.values()
    )


def compare(cells: Cells, metric: Metric, arm: str, control: str, *, effect: float, alpha: float) -> Comparison | None:
    """None while there is too little to say anything."""
    found = estimate(cells, units(metric), arm, control)
    if found.information <= 0:
        return None
    if metric == "success":
        found = Estimate(-found.value, found.information)
    scale = SCALES[metric]
    rho = sequential.tuned(effect if scale == "points" else math.log1p(effect), alpha)
    inside = sequential.interval(found, rho, alpha)
    verdict = "undecided"
    if inside.low > 0 or inside.high < 0:
        verdict = "better" if (inside.low > 0) == (metric in MORE_IS_BETTER) else "worse"
    p = sequential.p_value(found, rho)
    if scale == "points":
        return Comparison(found.value, inside, p, verdict)
    return Comparison(math.expm1(found.value), Interval(_part(inside.low), _part(inside.high)), p, verdict)


def _part(logarithm: float) -> float:
    return math.expm1(min(logarithm, 700.0))


def harm(cells: Cells, arm: str, control: str, guard: Guard, *, quality: str, arms: int) -> str | None:
    """Why this arm must not go on, None where nothing is shown against it. Counts every request, not every unit once: where
    those of one unit resemble each other it stops too early rather than too late. `quality`: feedback or judge; `arms`: how
    many are watched."""
    watched = guard.watched()
    alpha = guard.alpha / max(1, len(watched) * arms)
    for name, tolerance in watched.items():
        metric = quality if name == "quality" else name
        scale = SCALES[metric]
        found = estimate(cells, metric, arm, control)
        worse = Estimate(-found.value if name == "quality" else found.value, found.information)
        past = worse.minus(tolerance if scale == "points" else math.log1p(tolerance))
        rho = sequential.tuned(HARM[scale], alpha)
        if past.information > 0 and sequential.interval(past, rho, alpha).low > 0:
            mine, its = sums_of(cells, arm, metric), sums_of(cells, control, metric)
            return f"{_said(name, mine.mean)} in arm {arm!r}, {_said(name, its.mean)} in {control!r}"
    return None


def _said(name: str, value: float) -> str:
    if name == "errors":
        return f"{value:.1%} errors"
    if name == "quality":
        return f"quality {value:.2f}"
    return f"{value:.2f} s on average" if name == "latency" else f"${value:.6f} a request"
