"""The results of an experiment, as the command line, the admin API and the console show them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headgate.strategies.experiment import sequential
from headgate.strategies.experiment.compare import EFFECT, SCALES, Comparison, Metric, sums_of, units
from headgate.strategies.experiment.mirror import PHASE, side_of
from headgate.strategies.experiment.sequential import Scale
from headgate.strategies.experiment.trial import Sums

if TYPE_CHECKING:
    from headgate.strategies.experiment.experiment import Experiment

SHOWN: tuple[Metric, ...] = ("success", "feedback", "judge", "cost", "latency")
SHADOWED = ("agreement", "schema", "length", "cost", "latency")
"""length: characters; schema: share that fits the schema that was asked for; agreement: with what was served."""
ENOUGH_FOR_SPREAD = 200
"""Observations from which the planned sample goes by the spread that was seen."""


def results(experiment: Experiment) -> dict[str, Any]:
    """Quality, cost and latency of each arm with intervals, each against the control, and what that amounts to."""
    terms, trial = experiment.terms, experiment.trial
    arms = {arm: _arm(experiment, arm) for arm in experiment.arms}
    planned = planned_units(experiment) if len(arms) > 1 else None
    out: dict[str, Any] = {
        "name": experiment.name,
        "state": "stopped" if trial.stopped is not None else "running",
        "assign_by": experiment.assign_by,
        "control": experiment.control,
        "metric": terms.metric,
        "effect": terms.effect,
        "alpha": terms.alpha,
        "began": trial.began or None,
        "arms": arms,
        "units": sum(row["units"] for row in arms.values()),
        "planned_units": planned,
    }
    out["stopped"] = None if trial.stopped is None else msgspec.structs.asdict(trial.stopped)
    out["shadow"] = None if experiment.mirror is None else _shadow(experiment, experiment.mirror.shadow.model)
    out["says"] = said(out)
    return out


def planned_units(experiment: Experiment) -> int:
    """Units until a difference of `effect` in the metric is found with probability POWER: by the variance that has been
    seen, before that by the largest there can be (amounts: as large as the mean). For the smallest arm."""
    terms, trial = experiment.terms, experiment.trial
    scale, both = SCALES[terms.metric], Sums()
    for arm in experiment.arms:
        both.join(sums_of(trial.cells, arm, units(terms.metric)))
    spread = 0.25 if scale == "points" else 1.0
    if both.n >= ENOUGH_FOR_SPREAD and both.total > 0:
        spread = sequential.spread(both, scale)
    effect = terms.effect if scale == "points" else math.log1p(terms.effect)
    least = min(share for arm, share in experiment.shares.items() if arm != experiment.control)
    shares = least, experiment.shares[experiment.control]
    return sequential.planned_sample(effect, experiment.alpha_each, shares=shares, spread=spread)


def _arm(experiment: Experiment, arm: str) -> dict[str, Any]:
    cells, side = experiment.trial.cells, experiment.arms[arm]
    requests = sums_of(cells, arm, "errors")
    row: dict[str, Any] = {
        "model": side.model,
        "share": side.share,
        "requests": int(requests.n),
        "errors": int(requests.total),
        "units": int(sums_of(cells, arm, "unit:errors").n),
        "metrics": {metric: _metric(experiment, arm, metric) for metric in SHOWN},
    }
    row["metrics"] = {metric: found for metric, found in row["metrics"].items() if found is not None}
    if arm != experiment.control:
        against = {metric: _against(experiment, arm, metric) for metric in row["metrics"]}
        row["against_control"] = {metric: found for metric, found in against.items() if found is not None}
    return row


def _metric(experiment: Experiment, arm: str, metric: Metric) -> dict[str, Any] | None:
    """Mean over one observation of each unit, with its interval."""
    sums = sums_of(experiment.trial.cells, arm, units(metric))
    if not sums.n:
        return None
    if metric == "success":
        sums = Sums(sums.n, sums.n - sums.total, sums.n - sums.total)  # of ones and zeros
    inside = sequential.mean_interval(sums, SCALES[metric], experiment.effect_of(metric), experiment.terms.alpha)
    ends = (None, None) if inside is None else (inside.low, inside.high)
    return {"n": int(sums.n), "mean": sums.mean, "low": ends[0], "high": ends[1]}


def _shadow(experiment: Experiment, model: str) -> dict[str, Any]:
    """The candidate beside what was served, on the same requests. Means of those in which both are known; intervals that
    hold at all times together."""
    cells = experiment.trial.cells

    def side(which: Literal["served", "candidate"]) -> dict[str, Any]:
        found = cells.get(PHASE, {}).get(side_of(which, model), {})
        return {name: _mean(experiment, name, sums) for name, sums in found.items() if name in SHADOWED}

    asked = cells.get(PHASE, {}).get(side_of("candidate", model), {})
    left_out, errors = asked.get("left_out", Sums()), asked.get("errors", Sums())
    out = {"model": model, "asked": int(errors.n), "failed": int(errors.total), "left_out": int(left_out.n)}
    return {**out, "served": side("served"), "candidate": side("candidate")}


def _mean(experiment: Experiment, name: str, sums: Sums) -> dict[str, Any]:
    scale: Scale = "points" if name in ("schema", "agreement") else "ratio"
    inside = sequential.mean_interval(sums, scale, EFFECT[scale], experiment.terms.alpha)
    ends = (None, None) if inside is None else (inside.low, inside.high)
    return {"n": int(sums.n), "mean": sums.mean, "low": ends[0], "high": ends[1]}


def _against(experiment: Experiment, arm: str, metric: Metric) -> dict[str, Any] | None:
    found = experiment.against_control(arm, metric)
    return None if found is None else _shown(found)


def _shown(found: Comparison) -> dict[str, Any]:
    ends = {"low": found.interval.low, "high": found.interval.high}
    return {"difference": found.difference, **ends, "p": found.p, "verdict": found.verdict}


def said(found: dict[str, Any]) -> str:
    """In one line."""
    if stopped := found["stopped"]:
        return f"stopped ({stopped['by']}): {stopped['because']}; everybody gets arm {stopped['arm']!r}"
    decided = [
        f"arm {arm!r} is {row['against_control'][found['metric']]['verdict']} in {found['metric']}"
        for arm, row in found["arms"].items()
        if row.get("against_control", {}).get(found["metric"], {}).get("verdict", "undecided") != "undecided"
    ]
    if decided:
        return "; ".join(decided)
    if found["planned_units"] is None:
        return "one arm: only the shadow is compared"
    seen = sum(row["metrics"].get(found["metric"], {}).get("n", 0) for row in found["arms"].values())
    return f"undecided after {seen:,} of about {found['planned_units']:,} units"
