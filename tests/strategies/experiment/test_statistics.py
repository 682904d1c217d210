"""The test holds its word while somebody looks at it after every unit: simulated experiments, seeded."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from headgate.strategies.experiment import sequential
from headgate.strategies.experiment.compare import Guard, compare, estimate, harm
from headgate.strategies.experiment.sequential import Estimate
from headgate.strategies.experiment.trial import Cells, Sums, Trial

ALPHA = 0.05
Draw = Callable[[random.Random], float]


def cells_of(**arms: dict[str, Sums]) -> Cells:
    return {"": dict(arms)}


def alarmed(rng: random.Random, metric: str, draw: Draw, *, share: float, units: int) -> bool:
    """One A/A experiment, looked at after every unit, later after every tenth: was a difference ever called one?"""
    name = "unit:errors" if metric == "success" else f"unit:{metric}"
    arm, control = Sums(), Sums()
    cells = cells_of(new={name: arm}, old={name: control})
    for unit in range(units):
        (arm if rng.random() < share else control).add(draw(rng))
        if unit > 300 and unit % 10:
            continue
        effect = 0.05 if metric == "success" else 0.1
        found = compare(cells, metric, "new", "old", effect=effect, alpha=ALPHA)  # type: ignore[arg-type]
        if found is not None and found.verdict != "undecided":
            return True
    return False


SAME: dict[str, tuple[str, Draw, float]] = {
    "half of the answers fail": ("success", lambda rng: float(rng.random() < 0.5), 0.5),
    "few fail, and few are asked": ("success", lambda rng: float(rng.random() < 0.02), 0.1),
    "scores": ("feedback", lambda rng: rng.betavariate(2, 1), 0.5),
    "long tails": ("latency", lambda rng: rng.lognormvariate(0, 1), 0.1),
}


def test_a_thousand_experiments_without_a_difference_raise_no_more_alarms_than_stated():
    rng = random.Random(20261)
    alarms = {
        name: sum(alarmed(rng, metric, draw, share=share, units=4000) for _ in range(250))
        for name, (metric, draw, share) in SAME.items()
    }
    assert sum(alarms.values()) <= ALPHA * 1000, alarms
    assert max(alarms.values()) <= ALPHA * 250 + 6, alarms  # and none of them lives on the others
    assert sum(alarms.values()) > 0, "a test that never speaks proves nothing"


def test_a_test_at_every_look_that_is_made_for_one_look_would_raise_many_more():
    """The same data under the textbook's z > 1.96: what peeking does to it."""
    rng, alarms = random.Random(7), 0
    for _ in range(100):
        arm, control = Sums(), Sums()
        for _ in range(900):
            (arm if rng.random() < 0.5 else control).add(float(rng.random() < 0.5))
            found = sequential.difference(arm, control, "points")
            if abs(found.value) * found.information**0.5 > 1.96:
                alarms += 1
                break
    assert alarms > 20


def test_a_difference_of_five_points_is_found_in_the_planned_sample():
    spread = 0.85 * 0.15
    planned = sequential.planned_sample(0.05, ALPHA, shares=(0.5, 0.5), spread=(spread + 0.8 * 0.2) / 2)
    assert 2500 < planned < 5000
    rng, found = random.Random(3), 0
    for _ in range(100):
        arm, control = Sums(), Sums()
        cells = cells_of(new={"unit:errors": arm}, old={"unit:errors": control})
        for unit in range(planned):
            new = rng.random() < 0.5
            (arm if new else control).add(float(rng.random() < (0.15 if new else 0.20)))
            if unit % 25 == 0:
                seen = compare(cells, "success", "new", "old", effect=0.05, alpha=ALPHA)
                if seen is not None and seen.verdict != "undecided":
                    found += seen.verdict == "better"
                    break
    assert found >= 100 * sequential.POWER


def test_the_interval_holds_the_truth_at_all_times():
    rng, missed = random.Random(11), 0
    for _ in range(200):
        arm, control = Sums(), Sums()
        cells = cells_of(new={"unit:cost": arm}, old={"unit:cost": control})
        for unit in range(1500):
            new = rng.random() < 0.5
            (arm if new else control).add(rng.lognormvariate(0.2 if new else 0.0, 0.7))
            if unit % 10 == 0:
                seen = compare(cells, "cost", "new", "old", effect=0.1, alpha=ALPHA)
                if seen is not None and not seen.interval.low <= 0.2214 <= seen.interval.high:  # exp(0.2) - 1
                    missed += 1
                    break
    assert missed <= 200 * ALPHA


def test_requests_of_one_unit_count_once():
    """Users whose requests all go well or all go wrong: by request every experiment would be decided."""
    rng, by_unit, by_request = random.Random(5), 0, 0
    for _ in range(40):
        trial = Trial()
        told_unit = told_request = False
        for user in range(120):
            unit, arm, fails = f"{rng.getrandbits(96):024x}", rng.choice(("new", "old")), float(rng.random() < 0.5)
            for _ in range(25):
                values = {"errors": fails}
                if trial.is_first(unit):
                    values["unit:errors"] = fails
                trial.note("", arm, values, at=1.0)
            if user % 5 == 0:
                seen = compare(trial.cells, "success", "new", "old", effect=0.05, alpha=ALPHA)
                told_unit |= seen is not None and seen.verdict != "undecided"
                every = estimate(trial.cells, "errors", "new", "old")
                told_request |= sequential.p_value(every, sequential.tuned(0.05, ALPHA)) < ALPHA
        by_unit += told_unit
        by_request += told_request
    assert by_unit <= 4
    assert by_request > 20


def test_other_shares_in_the_middle_do_not_fake_a_difference():
    """On the first day 5 % and half of all fail, on the second 50 % and nothing does: no arm is better on either day."""
    trial = Trial()
    rng = random.Random(2)
    for phase, share, fails in (("monday", 0.05, 0.5), ("tuesday", 0.5, 0.0)):
        for _ in range(4000):
            arm = "new" if rng.random() < share else "old"
            trial.note(phase, arm, {"unit:errors": float(rng.random() < fails)}, at=1.0)
    pooled = Sums(), Sums()
    for arms in trial.cells.values():
        pooled[0].join(arms["new"]["unit:errors"])
        pooled[1].join(arms["old"]["unit:errors"])
    assert pooled[1].mean - pooled[0].mean > 0.2  # what adding up would say
    seen = compare(trial.cells, "success", "new", "old", effect=0.05, alpha=ALPHA)
    assert seen is not None
    assert seen.verdict == "undecided"
    assert abs(seen.difference) < 0.02


# -- guards ----------------------------------------------------------------------------------------------------------
def guarded(
    rng: random.Random, guard: Guard, *, new: dict[str, Draw], old: dict[str, Draw], requests: int
) -> int | None:
    """After how many requests the new arm (a tenth of them) was stopped."""
    cells: Cells = {"": {"new": {name: Sums() for name in new}, "old": {name: Sums() for name in old}}}
    for number in range(requests):
        arm, draws = ("new", new) if rng.random() < 0.1 else ("old", old)
        for name, draw in draws.items():
            cells[""][arm][name].add(draw(rng))
        if harm(cells, "new", "old", guard, quality="feedback", arms=1) is not None:
            return number + 1
    return None


def usual(errors: float, seconds: float = 0.0, dollars: float = 0.0, quality: float = 0.0) -> dict[str, Draw]:
    return {
        "errors": lambda rng: float(rng.random() < errors),
        "latency": lambda rng: rng.lognormvariate(seconds, 0.8),
        "cost": lambda rng: rng.lognormvariate(dollars, 0.8),
        "feedback": lambda rng: float(rng.random() < 0.7 - quality),
    }


ALL = Guard(errors=0.0, quality=0.0, latency=0.0, cost=0.0)


def test_guards_stop_harmless_arms_no_more_often_than_stated():
    rng = random.Random(77)
    stops = [guarded(rng, ALL, new=usual(0.02), old=usual(0.02), requests=400) for _ in range(120)]
    assert sum(stop is not None for stop in stops) <= 3  # alpha is one in a hundred; each guard tolerates nothing


@pytest.mark.parametrize(
    ("guard", "new"),
    [
        (Guard(errors=0.05), usual(0.5)),
        (Guard(errors=None, latency=0.5), usual(0.02, seconds=1.2)),
        (Guard(errors=None, cost=0.5), usual(0.02, dollars=1.2)),
        (Guard(errors=None, quality=0.05), usual(0.02, quality=0.5)),
    ],
)
def test_harm_is_found_soon_and_tolerated_harm_is_not_harm(guard, new):
    rng = random.Random(4)
    stops = [guarded(rng, guard, new=new, old=usual(0.02), requests=3000) for _ in range(10)]
    assert all(stop is not None and stop < 2500 for stop in stops), stops
    little = usual(0.04, seconds=0.2, dollars=0.2, quality=0.03)
    assert guarded(rng, guard, new=little, old=usual(0.02), requests=2000) is None


def test_an_arm_that_always_fails_is_stopped_with_its_twentieth_request():
    cells: Cells = {"": {"new": {"errors": Sums()}, "old": {"errors": Sums(200, 2, 2)}}}
    for _ in range(sequential.LEAST):
        assert harm(cells, "new", "old", Guard(), quality="feedback", arms=1) is None
        cells[""]["new"]["errors"].add(1.0)
    found = harm(cells, "new", "old", Guard(), quality="feedback", arms=1)
    assert found == "100.0% errors in arm 'new', 1.0% errors in 'old'"


def test_too_little_says_nothing():
    few = Sums(5, 5, 5)
    assert sequential.difference(few, Sums(1000, 10, 10), "points") == Estimate()
    assert sequential.p_value(Estimate(), 1.0) == 1.0
    assert sequential.mean_interval(few, "points", 0.05, ALPHA) is None
