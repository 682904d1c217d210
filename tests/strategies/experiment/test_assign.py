"""Who gets which arm: true to the shares, the same every time, and moved as little as new shares allow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.strategies.experiment.assign import arm_of

UNITS = [f"unit-{number}" for number in range(4000)]


def drawn(shares: dict[str, float], salt: str = "trial", units: list[str] = UNITS) -> dict[str, str]:
    return {unit: arm_of(salt, unit, shares) for unit in units}


def normal(weights: list[float]) -> dict[str, float]:
    return {f"arm-{number}": weight / sum(weights) for number, weight in enumerate(weights)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.02, 1), min_size=2, max_size=6))
def test_every_arm_gets_its_share(weights):
    shares = normal(weights)
    arms = list(drawn(shares).values())
    for arm, share in shares.items():
        spread = (share * (1 - share) / len(arms)) ** 0.5
        assert abs(arms.count(arm) / len(arms) - share) < 5 * spread


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=5), st.floats(1.01, 5))
def test_a_larger_share_moves_units_to_that_arm_only(weights, factor):
    before = normal(weights)
    after = normal([weights[0] * factor, *weights[1:]])
    old, new = drawn(before), drawn(after)
    moved = [unit for unit in UNITS if old[unit] != new[unit]]
    assert {new[unit] for unit in moved} <= {"arm-0"}
    grown = after["arm-0"] - before["arm-0"]
    assert abs(len(moved) / len(UNITS) - grown) < 5 * (0.25 / len(UNITS)) ** 0.5


def test_the_same_unit_gets_the_same_arm_whatever_the_order_of_arms():
    shares = {"a": 0.3, "b": 0.3, "c": 0.4}
    turned = dict(reversed(shares.items()))
    assert drawn(shares) == drawn(turned) == drawn(shares)


def test_experiments_draw_independently_of_each_other():
    half = {"a": 0.5, "b": 0.5}
    one, two = drawn(half, "one"), drawn(half, "two")
    same = sum(one[unit] == two[unit] for unit in UNITS) / len(UNITS)
    assert abs(same - 0.5) < 5 * (0.25 / len(UNITS)) ** 0.5
