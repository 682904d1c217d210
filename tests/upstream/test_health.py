"""The breaker: when it opens, who may probe, what late news of the time before counts, and when it closes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import fault
from headgate.upstream.health import FAILURES_IN_A_ROW, FIRST_COOL_DOWN, LONGEST_COOL_DOWN, Health, Ticket
from support.clock import FakeClock

DOWN = fault("unavailable", "down", upstream_status=503)


def admitted(health: Health) -> Ticket:
    ticket = health.admit()
    assert ticket is not None
    return ticket


def broken() -> tuple[Health, FakeClock]:
    clock = FakeClock()
    health = Health(clock)
    for _ in range(FAILURES_IN_A_ROW):
        health.failed(DOWN, admitted(health))
    assert health.state == "open"
    return health, clock


def test_it_opens_says_why_and_when_it_recovers():
    health, clock = broken()
    view = health.view()
    assert (view.state, view.reason, view.error) == ("open", "unavailable: 5 failures in a row", "unavailable")
    assert view.recovers_in == FIRST_COOL_DOWN
    assert health.admit() is None
    clock.now += FIRST_COOL_DOWN - 0.01
    assert health.admit() is None


def test_one_probe_at_a_time_and_its_success_closes():
    health, clock = broken()
    clock.now += FIRST_COOL_DOWN
    probe = admitted(health)
    assert probe.probe
    assert [health.admit() for _ in range(100)] == [None] * 100
    health.succeeded(probe)
    assert (health.state, health.view().reason) == ("closed", None)
    assert not admitted(health).probe


def test_a_failed_probe_doubles_the_cool_down_up_to_a_minute():
    health, clock = broken()
    waits: list[float] = []
    for _ in range(6):
        waits.append(health.ready_in())
        clock.now += health.ready_in()
        health.failed(DOWN, admitted(health))
    assert waits == [5, 10, 20, 40, LONGEST_COOL_DOWN, LONGEST_COOL_DOWN]


def test_calls_from_before_the_outage_neither_lengthen_nor_end_it():
    clock = FakeClock()
    health = Health(clock)
    early = [admitted(health) for _ in range(100)]
    for ticket in early[:50]:
        health.failed(DOWN, ticket)
    assert health.ready_in() == FIRST_COOL_DOWN
    for ticket in early[50:]:
        health.succeeded(ticket)  # a stream that had begun long before
    assert health.state == "open"
    clock.now += FIRST_COOL_DOWN
    probe = admitted(health)
    health.failed(DOWN, early[0])
    assert health.admit() is None, "a straggler must not make room for a second probe"
    health.succeeded(probe)
    assert health.state == "closed"


def test_who_is_asked_beside_the_breaker_can_close_it_and_cannot_lengthen_it():
    health, _ = broken()
    for _ in range(20):
        health.failed(DOWN, health.beside())
    assert health.ready_in() == FIRST_COOL_DOWN
    health.succeeded(health.beside())
    assert health.state == "closed"


def test_a_probe_that_speaks_lets_the_next_one_follow_and_one_that_is_given_up_too():
    health, clock = broken()
    clock.now += FIRST_COOL_DOWN
    health.spoke(admitted(health))
    assert health.state == "half_open"
    second = admitted(health)
    assert health.admit() is None
    health.abandoned(second)
    assert admitted(health).probe


@pytest.mark.parametrize(("kind", "wait"), [("rate_limit", 17.0), ("overloaded", 9.0)])
def test_a_providers_own_word_is_remembered(kind, wait):
    clock = FakeClock()
    health = Health(clock)
    health.failed(fault(kind, "wait", retry_after=wait, upstream_status=429), admitted(health))
    assert health.told_to_wait
    assert health.view().recovers_in == wait
    clock.now += wait
    assert health.well


@pytest.mark.parametrize("kind", ["bad_request", "context_length", "content_policy", "invalid_output"])
def test_what_is_the_requests_own_fault_says_nothing_of_health(kind):
    health = Health(FakeClock())
    for _ in range(50):
        health.failed(fault(kind, "no"), admitted(health))
    assert health.well


def test_mostly_failing_opens_it_too():
    health = Health(FakeClock())
    for number in range(20):
        ticket = admitted(health)
        if number % 5 < 2:
            health.succeeded(ticket)
        else:
            health.failed(DOWN, ticket)
    assert health.state == "open"
    assert health.reason == "unavailable: 12 of 20 calls failed"


@given(
    st.lists(st.tuples(st.sampled_from(["admit", "beside", "ok", "fail", "leave", "speak", "tick"]), st.integers(0, 9)))
)
def test_whatever_happens_at_most_one_probe_is_without_content_and_a_probe_is_always_possible_again(steps):
    clock = FakeClock()
    health = Health(clock)
    under_way: list[tuple[Ticket, bool]] = []
    for step, number in steps:
        if step in ("admit", "beside"):
            ticket = health.admit() if step == "admit" else health.beside()
            if ticket is not None:
                under_way.append((ticket, False))
        elif step == "tick":
            clock.now += number * 7
        elif under_way:
            ticket, _ = under_way.pop(number % len(under_way))
            if step == "ok":
                health.succeeded(ticket)
            elif step == "fail":
                health.failed(DOWN, ticket)
            elif step == "leave":
                health.abandoned(ticket)
            else:
                health.spoke(ticket)
                under_way.append((ticket, True))
        era = health.beside().era
        silent = [t for t, spoke in under_way if t.probe and not spoke and t.era == era and health.state != "closed"]
        assert len(silent) <= 1
    for ticket, _ in under_way:
        health.failed(DOWN, ticket)
    clock.now += LONGEST_COOL_DOWN
    assert health.admit() is not None
