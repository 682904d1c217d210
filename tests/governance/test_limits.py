"""Limits against a reference: a tank that drains by exact fractions."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import RateLimited
from headgate.core.records import LimitSpec
from headgate.governance.admission import Pass
from headgate.governance.budgets import BudgetBook
from headgate.governance.limits import Bucket, Limiter, go_duration, headers_of, take_all
from headgate.stores.memory import MemoryStore
from support.clock import FakeClock


class Tank:
    """Holds `limit`, drains `limit` in 60 s. Exact."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.level = Fraction(0)
        self.at = Fraction(0)

    def drain(self, now: Fraction) -> None:
        self.level = max(Fraction(0), self.level - (now - self.at) * self.limit / 60)
        self.at = now

    def wait(self, amount: int) -> Fraction:
        over = self.level + min(amount, self.limit) - self.limit
        return max(Fraction(0), over * 60 / self.limit)


def over(limiter: Limiter, taken: int, used: int, now: float = 0.0) -> None:
    limiter.leave()
    limiter.correct(taken, used, now)


STEP = st.tuples(st.integers(0, 30_000), st.integers(0, 300), st.integers(0, 400) | st.none())


@given(limit=st.integers(1, 200), steps=st.lists(STEP, min_size=1, max_size=60))
@settings(max_examples=300, deadline=None)
def test_a_bucket_is_the_reference_tank(limit, steps):
    bucket, tank, now = Bucket(limit), Tank(limit), Fraction(1000)
    tank.at = now
    for ms, amount, used in steps:
        now += Fraction(ms, 1000)
        tank.drain(now)
        wait = tank.wait(amount)
        assert bucket.wait(amount, float(now)) == pytest.approx(float(wait), abs=1e-6)
        assert (bucket.wait(amount, float(now)) == 0) == (wait == 0)
        if wait == 0:
            bucket.take(amount, float(now))
            tank.level += min(amount, limit)
            if used is not None:
                bucket.correct(amount, used, float(now))
                tank.level += used - min(amount, limit)
                if tank.level < 0:
                    tank.level = Fraction(0)
        free = limit - tank.level
        assert abs(bucket.left(float(now)) - max(0, min(limit, int(free)))) <= (0 if free.denominator == 1 else 1)
        assert bucket.reset(float(now)) == pytest.approx(float(tank.level * 60 / limit), abs=1e-6)


@given(limit=st.integers(1, 120), gaps=st.lists(st.integers(0, 4000), min_size=10, max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_span_lets_more_through_than_the_limit_says(limit, gaps):
    bucket, now, let = Bucket(limit), 0.0, []
    for ms in gaps:
        now += ms / 1000
        if not bucket.wait(1, now):
            bucket.take(1, now)
            let.append(now)
    for i, first in enumerate(let):
        for j in range(i, len(let)):
            assert j - i + 1 <= limit + limit * (let[j] - first) / 60 + 1e-6


def test_retry_after_is_true_to_the_millisecond():
    limiter = Limiter("key:k", LimitSpec(requests_per_minute=7))
    now = 50.0
    for _ in range(7):
        take_all([limiter], 1, now)
    with pytest.raises(RateLimited) as caught:
        take_all([limiter], 1, now)
    wait = caught.value.retry_after
    assert wait is not None
    with pytest.raises(RateLimited):
        take_all([limiter], 1, now + wait - 0.001)
    take_all([limiter], 1, now + wait)


def test_all_or_nothing_over_several_scopes():
    key = Limiter("key:k", LimitSpec(requests_per_minute=10, tokens_per_minute=1000))
    team = Limiter("team:t", LimitSpec(tokens_per_minute=100, concurrent=5))
    take_all([key, team], 100, 0.0)
    with pytest.raises(RateLimited, match="team 't' is limited to 100 tokens") as caught:
        take_all([key, team], 50, 0.0)
    assert caught.value.retry_after == pytest.approx(30.0)
    assert (key.requests.left(0.0), key.tokens.left(0.0), key.running) == (9, 900, 1)  # type: ignore[union-attr]


def test_tokens_are_corrected_by_what_was_used():
    limiter = Limiter("key:k", LimitSpec(tokens_per_minute=600))
    take_all([limiter], 500, 0.0)
    over(limiter, 500, 100)
    assert limiter.tokens.left(0.0) == 500  # type: ignore[union-attr]
    take_all([limiter], 500, 0.0)
    over(limiter, 500, 800)
    assert limiter.wait(1, 0.0)[0] == pytest.approx(30.1), "a debt of 300, and one token more"


def test_what_was_used_beyond_an_estimate_is_owed_from_when_it_is_known():
    """A minute after an answer began, nothing of its estimate is left in the bucket."""
    limiter = Limiter("key:k", LimitSpec(tokens_per_minute=600))
    take_all([limiter], 100, 0.0)
    over(limiter, 100, 400, 60.0)
    assert limiter.tokens.left(60.0) == 300  # type: ignore[union-attr]


def test_a_request_larger_than_the_limit_is_let_in_once_nothing_else_is():
    limiter = Limiter("key:k", LimitSpec(tokens_per_minute=100))
    take_all([limiter], 5000, 0.0)
    over(limiter, 5000, 50)
    assert limiter.wait(5000, 0.0)[0] == pytest.approx(30.0)


def test_concurrency_is_freed_by_the_end_and_refusals_take_nothing():
    limiter = Limiter("key:k", LimitSpec(concurrent=2, requests_per_minute=100))
    take_all([limiter], 0, 0.0)
    take_all([limiter], 0, 0.0)
    with pytest.raises(RateLimited, match="2 requests at a time"):
        take_all([limiter], 0, 0.0)
    over(limiter, 0, 0)
    take_all([limiter], 0, 0.0)
    limiter.undo(0, 0.0)
    assert limiter.running == 1
    assert limiter.requests is not None
    assert limiter.requests.left(0.0) == 98


def test_a_changed_limit_keeps_what_was_taken():
    limiter = Limiter("key:k", LimitSpec(requests_per_minute=60))
    for _ in range(60):
        take_all([limiter], 0, 0.0)
    limiter.change(LimitSpec(requests_per_minute=120))
    assert limiter.wait(0, 0.0)[0] == pytest.approx(0.5)
    limiter.change(LimitSpec())
    assert limiter.wait(0, 0.0) == (0.0, "")


def test_a_limit_of_zero_lets_nothing_through():
    limiter = Limiter("key:k", LimitSpec(requests_per_minute=0))
    with pytest.raises(RateLimited) as caught:
        take_all([limiter], 0, 0.0)
    assert caught.value.retry_after is None


def test_headers_are_openais_and_name_the_tightest_limit():
    wide, tight = (Limiter(f"key:{n}", LimitSpec(requests_per_minute=n, tokens_per_minute=1000)) for n in (1000, 10))
    for _ in range(4):
        take_all([wide, tight], 100, 0.0)
    assert dict(headers_of([wide, tight], 0.0)) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "6",
        "x-ratelimit-reset-requests": "24s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "600",
        "x-ratelimit-reset-tokens": "24s",
    }
    assert headers_of([Limiter("all", LimitSpec(concurrent=3))], 0.0) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0121, "13ms"), (1.5, "1.5s"), (60, "1m0s"), (360, "6m0s"), (61.25, "1m1.25s")],
)
def test_durations_are_gos(seconds, text):
    assert go_duration(seconds) == text
    assert re.fullmatch(r"(\d+m)?[\d.]+(ms|s)", text)


def test_what_was_used_beyond_the_estimate_counts_though_one_attempt_was_never_heard_of():
    clock = FakeClock()
    limiter = Limiter("key:k", LimitSpec(tokens_per_minute=6000))
    limiter.take(100, clock.monotonic())
    grant = Pass(BudgetBook(MemoryStore(), "h", clock), clock, [limiter], 100)
    grant.settle(cost=0, tokens=2000, pending=True)  # a panel's other members
    assert limiter.tokens is not None
    assert limiter.tokens.left(clock.monotonic()) == 4000
    grant.late(500)
    assert limiter.tokens.left(clock.monotonic()) == 3500


def test_less_than_the_estimate_frees_nothing_until_the_last_attempt_has_said():
    clock = FakeClock()
    limiter = Limiter("key:k", LimitSpec(tokens_per_minute=6000))
    limiter.take(3000, clock.monotonic())
    grant = Pass(BudgetBook(MemoryStore(), "h", clock), clock, [limiter], 3000)
    grant.settle(cost=0, tokens=200, pending=True)
    assert limiter.tokens is not None
    assert limiter.tokens.left(clock.monotonic()) == 3000
    grant.late(500)
    assert limiter.tokens.left(clock.monotonic()) == 5300
