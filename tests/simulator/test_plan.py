"""A fault plan keeps to what it promises."""

from __future__ import annotations

import pytest

from headgate.simulator.app import Simulator
from headgate.simulator.demo import MODELS
from headgate.simulator.inprocess import VirtualClock, run_virtually
from headgate.simulator.plan import FaultPlan, Weather, play

NAMES = [model.name for model in MODELS]
DAYS = 30 * 86_400.0


def test_every_provider_is_up_for_exactly_the_planned_share_of_the_time():
    plan = FaultPlan.drawn(NAMES, DAYS, seed=1)
    assert [plan.down(name) for name in NAMES] == pytest.approx([0.01] * len(NAMES))
    lengths = [spell.end - spell.start for spell in plan.outages]
    assert sum(lengths) / len(lengths) == pytest.approx(240.0, rel=0.25)
    assert all(0 <= spell.start < spell.end <= DAYS for spell in (*plan.outages, *plan.others))


def test_the_same_seed_gives_the_same_plan():
    assert FaultPlan.drawn(NAMES, DAYS, seed=1) == FaultPlan.drawn(NAMES, DAYS, seed=1)
    assert FaultPlan.drawn(NAMES, DAYS, seed=1) != FaultPlan.drawn(NAMES, DAYS, seed=2)


@pytest.mark.parametrize(
    ("common", "hit", "low", "high"), [(0, 0.5, -0.02, 0.03), (0.2, 0.5, 0.04, 0.2), (1, 1, 0.99, 1.01)]
)
def test_outages_are_correlated_as_far_as_they_are_shared(common, hit, low, high):
    plans = [FaultPlan.drawn(NAMES, DAYS, seed=s, weather=Weather(common=common, hit=hit)) for s in range(5)]
    assert low <= sum(plan.correlation() for plan in plans) / 5 <= high
    if common == 1:
        assert plans[0].all_down(NAMES) == pytest.approx(0.01)


def test_the_worst_is_in_force_and_everything_ends():
    plan = FaultPlan.drawn(NAMES, DAYS / 10, seed=4)
    now = dict.fromkeys(NAMES)
    for at, model, broken in plan.changes():
        assert broken is not now[model]
        now[model] = broken
        if any(spell.model == model and spell.start <= at < spell.end for spell in plan.outages):
            assert broken is not None
            assert broken.mode not in ("429", "slow")
    assert set(now.values()) == {None}


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        FaultPlan.drawn(NAMES, 100.0, seed=1, weather=Weather(up=0.05, common=0.0, outage=30.0))


def test_it_is_played_on_time():
    async def main() -> None:
        clock = VirtualClock()
        simulator = Simulator(MODELS, clock=clock)
        plan = FaultPlan.drawn(NAMES, 3 * 86_400.0, seed=1)
        heard: list[tuple[float, str]] = []
        real = simulator.set_break

        async def listened(name, broken) -> None:
            heard.append((clock.monotonic(), name))
            await real(name, broken)

        simulator.set_break = listened  # type: ignore[method-assign]
        await play(plan, simulator, clock)
        assert [name for _, name in heard] == [name for _, name, _ in plan.changes()]
        assert [at for at, _ in heard] == pytest.approx([at for at, _, _ in plan.changes()])
        assert all(model.broken is None for model in simulator.models.values())
        assert all(len(model.mishaps) == 9 for model in simulator.models.values())

    run_virtually(main())
