"""The doubly robust estimator on logs whose truth is known, and what it refuses to say."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from headgate.insight.estimate import LEAST, Seen, difference, value

WORTH = {("strong", False): 0.95, ("strong", True): 0.6, ("weak", False): 0.9, ("weak", True): 0.2}
TRUE = {"strong": 0.775, "weak": 0.55}
"""Mean of WORTH where half of the requests are hard."""


def confounded(seed: int, count: int) -> list[Seen]:
    """Hard requests mostly went to the strong model, easy ones to the weak one; that they are hard is written nowhere."""
    luck = random.Random(seed)
    rows: list[Seen] = []
    for number in range(count):
        hard = luck.random() < 0.5
        chances = {"strong": 0.9, "weak": 0.1} if hard else {"strong": 0.1, "weak": 0.9}
        action = "strong" if luck.random() < chances["strong"] else "weak"
        score = float(luck.random() < WORTH[action, hard])
        rows.append(Seen(id=f"{seed} {number}", task="t", action=action, propensities=chances, score=score))
    return rows


def naive(rows: list[Seen], action: str) -> float:
    scores = [row.score for row in rows if row.action == action]
    return sum(scores) / len(scores)


def test_where_the_naive_mean_is_wrong_the_interval_holds_the_truth():
    held = {"strong": 0, "weak": 0, "difference": 0}
    runs = 60
    for seed in range(runs):
        rows = confounded(seed, 1500)
        assert naive(rows, "weak") - naive(rows, "strong") > 0.1, "the log must mislead: truly it is 0.225 less"
        for action in ("strong", "weak"):
            found = value(rows, [action] * len(rows))
            assert found.low is not None
            assert found.high is not None
            held[action] += found.low <= TRUE[action] <= found.high
        found = difference(rows, ["strong"] * len(rows), ["weak"] * len(rows))
        assert found.mean is not None
        assert found.mean < 0
        held["difference"] += found.low <= TRUE["weak"] - TRUE["strong"] <= found.high
    assert min(held.values()) >= 0.88 * runs, held


def test_what_does_not_change_adds_nothing():
    rows = confounded(1, 400)
    after = ["weak" if index < 100 else "strong" for index in range(400)]
    part = difference(rows, ["strong"] * 400, after)
    whole = difference(rows[:100], ["strong"] * 100, ["weak"] * 100)
    assert (part.changed, part.scored) == (100, 400)
    assert part.mean == pytest.approx(whole.mean / 4, abs=0.06)
    assert difference(rows, after, after).verdict == "nothing changes"


def seen(action: str, score: float, chances: Mapping[str, float] | None = None, id: str = "") -> Seen:
    return Seen(
        id=id or f"{action}{score}", task="t", action=action, propensities=chances or {action: 1.0}, score=score
    )


def test_choices_without_a_chance_are_bounded_not_guessed():
    rows = [seen("a", 0.8, id=str(number)) for number in range(200)]
    found = difference(rows, ["a"] * 200, ["b"] * 200)
    assert (found.mean, found.unsupported, found.is_known) == (None, 200, False)
    assert found.verdict.startswith("cannot be known")
    assert found.bounds == pytest.approx((-0.8, 0.2))


def test_a_part_without_a_chance_is_told():
    rows = confounded(2, 1000) + [seen("strong", 0.5, id=f"d{number}") for number in range(500)]
    found = difference(rows, ["strong"] * 1500, ["weak"] * 1500)
    assert found.verdict == "known in part: 500 of 1500 choices had no chance in the log"
    assert not found.is_known
    low, high = found.bounds
    assert low < -0.5 / 3 < high
    assert high - low > 1 / 3  # a third of the requests may be anything


def test_too_few_of_them_say_nothing():
    chances = {"a": 0.99, "b": 0.01}
    rows = [seen("a", 1.0, chances, id=f"a{number}") for number in range(990)]
    rows += [seen("b", 0.0, chances, id=f"b{number}") for number in range(10)]
    found = difference(rows, ["a"] * 1000, ["b"] * 1000)
    assert found.effective == 10.0 < LEAST
    assert found.verdict.startswith("cannot be known: 10 effective answers")
    assert difference([], [], []).verdict.startswith("cannot be known")
