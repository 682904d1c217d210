"""The test that may be looked at after every request.

Two arms' difference is followed over *information* W, the inverse of the variance of its estimate. By the canonical form of
sequential analysis (Jennison, Turnbull, Group Sequential Methods, 1999, ch. 3) the score S = W * difference then moves like
a Brownian motion with the difference as drift, seen at time W. Against drift 0 the mixture over drifts N(0, 1/rho) is the
martingale

    M(W, S) = sqrt(rho / (W + rho)) * exp(S^2 / (2 (W + rho)))

(Robbins 1970, Statistical methods related to the law of the iterated logarithm). It passes 1/alpha at *any* time with
probability at most alpha (Ville), so 1/M is an always valid p-value (Johari, Koomen, Pekelis, Walsh 2022, Always Valid
Inference, Operations Research 70(3)) and the differences that it does not reject are a confidence sequence; with estimated
variances, valid as samples grow (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2024, Time-uniform central limit theory and
asymptotic confidence sequences, Annals of Statistics 52(6)). What that costs in small samples is held down by LEAST
observations and by variances that never take an arm for surer than it can be (`difference`);
tests/strategies/experiment/test_statistics.py measures the false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import msgspec

from headgate.strategies.experiment.trial import Sums

LEAST = 20
"""Observations of each arm before anything is said."""
PRIOR = 2.0
"""Observations' worth of prior in a variance: a run of equal values is no proof that there is no other."""
POWER = 0.8
Scale = Literal["points", "ratio"]
"""points: values in 0 to 1, compared by difference. ratio: amounts (US$, seconds), compared by the logarithm of the ratio
of their means."""


class Estimate(msgspec.Struct, frozen=True):
    """A difference and its information (1 / variance); no information: nothing is known."""

    value: float = 0.0
    information: float = 0.0

    def minus(self, offset: float) -> Estimate:
        return Estimate(self.value - offset, self.information)


class Interval(msgspec.Struct, frozen=True):
    low: float
    high: float


def variance(sums: Sums, scale: Scale) -> float:
    """Of one observation, with the prior: 1/4 for points (the most there can be), the squared mean for amounts."""
    mean = sums.mean
    prior = 0.25 if scale == "points" else mean * mean
    around = max(0.0, sums.square - sums.n * mean * mean)
    return (around + PRIOR * prior) / (sums.n + PRIOR)


def spread(sums: Sums, scale: Scale) -> float:
    """Variance of one observation; for amounts that of the value over its mean."""
    return variance(sums, scale) / (1.0 if scale == "points" else sums.mean**2)


def difference(arm: Sums, control: Sums, scale: Scale) -> Estimate:
    """arm - control, or log(arm / control) (its variance by the delta method).

    No arm is taken to vary less than both together do: a small arm in which the rare thing (an error, a dear answer) has
    not happened yet would look surer than it is."""
    if min(arm.n, control.n) < LEAST or (scale == "ratio" and min(arm.mean, control.mean) <= 0):
        return Estimate()
    both = Sums(arm.n, arm.total, arm.square)
    both.join(control)
    common = spread(both, scale)
    noise = sum(max(spread(side, scale), common) / side.n for side in (arm, control))
    found = arm.mean - control.mean if scale == "points" else math.log(arm.mean / control.mean)
    return Estimate(found, 1 / noise)


def pooled(estimates: Iterable[Estimate]) -> Estimate:
    """Of independent strata, each weighted by its information."""
    found = [one for one in estimates if one.information > 0]
    total = sum(one.information for one in found)
    if total <= 0:
        return Estimate()
    return Estimate(sum(one.value * one.information for one in found) / total, total)


@lru_cache(maxsize=256)
def tuned(effect: float, alpha: float) -> float:
    """rho that makes the interval narrowest about when a difference of `effect` is found (Waudby-Smith et al. 2024, eq. 26:
    the best rho for an intrinsic time, which is here solved for in `planned_information`)."""
    return planned_information(effect, alpha) / _ratio(alpha)


def _ratio(alpha: float) -> float:
    return -2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1


def p_value(found: Estimate, rho: float) -> float:
    """Always valid, two-sided: may be looked at as often as one likes."""
    if found.information <= 0:
        return 1.0
    score, time = found.value * found.information, found.information
    log_m = 0.5 * math.log(rho / (time + rho)) + score * score / (2 * (time + rho))
    return math.exp(-log_m) if log_m > 0 else 1.0


def reach(information: float, rho: float, alpha: float) -> float:
    """Half the width of the confidence sequence."""
    if information <= 0:
        return math.inf
    time = information + rho
    return math.sqrt(time * math.log(time / (rho * alpha * alpha))) / information


def interval(found: Estimate, rho: float, alpha: float) -> Interval:
    """Of the difference; holds at all times together with probability 1 - alpha."""
    half = reach(found.information, rho, alpha)
    return Interval(found.value - half, found.value + half)


def mean_interval(sums: Sums, scale: Scale, effect: float, alpha: float) -> Interval | None:
    """Of one arm's own mean; None while there is too little. Points end at 0 and 1, amounts at 0."""
    if sums.n < LEAST:
        return None
    unit = 1.0 if scale == "points" else max(sums.mean, 1e-12)
    half = reach(sums.n / variance(sums, scale), tuned(effect * unit, alpha), alpha)
    top = 1.0 if scale == "points" else math.inf
    return Interval(max(0.0, sums.mean - half), min(top, sums.mean + half))


def planned_information(effect: float, alpha: float) -> float:
    """Information at which a true difference of `effect` has been found with at least POWER: a single look there suffices,
    whatever was found before comes on top."""
    ratio = _ratio(alpha)
    bound = math.sqrt((1 + 1 / ratio) * math.log((1 + ratio) / (alpha * alpha)))
    return ((bound + NormalDist().inv_cdf(POWER)) / effect) ** 2


def planned_sample(effect: float, alpha: float, *, shares: tuple[float, float], spread: float) -> int:
    """Units of all the traffic together, of which the two arms get `shares`; `spread` as above."""
    return math.ceil(planned_information(effect, alpha) * sum(spread / share for share in shares))
