"""Adaptive concurrency, its queue, priorities; the retry budget."""

from __future__ import annotations

import asyncio

import pytest

from headgate.core.errors import Overloaded
from headgate.upstream.concurrency import LEAST, QUEUE, Gate
from headgate.upstream.retry import RetryBudget
from support.clock import FakeClock


def filled(limit: int) -> Gate:
    gate = Gate(limit)
    for _ in range(limit):
        assert gate.try_enter()
    assert not gate.try_enter()
    return gate


def test_one_overload_is_one_decrease_however_many_calls_tell_of_it():
    gate = filled(100)
    for _ in range(100):
        gate.leave()
        gate.overloaded()
    assert 65 < gate.limit <= 70
    assert gate.busy == 0


def test_a_lasting_overload_brings_it_down_to_a_few_calls_and_success_back_up():
    gate = Gate(64)
    for _ in range(40):
        while gate.try_enter():
            pass
        while gate.busy:
            gate.leave()
            gate.overloaded()
    assert gate.limit == LEAST
    for _ in range(2000):
        assert gate.try_enter()
        while gate.try_enter():
            pass
        while gate.busy:
            gate.leave()
            gate.praised()
    assert gate.limit == 64


def test_success_below_the_limit_proves_nothing_and_raises_nothing():
    gate = Gate(1000)
    gate.try_enter()
    gate.leave()
    gate.overloaded()
    low = gate.limit
    for _ in range(3):
        gate._limit = 50.0
        gate.try_enter()
        gate.leave()
        gate.praised()
    assert low == LEAST
    assert gate.limit == 50.0


async def test_waiters_come_in_by_priority_then_in_order():
    gate = filled(1)
    came: list[str] = []

    async def enter(name: str, priority: int) -> None:
        await gate.enter(priority, 5.0)
        came.append(name)

    tasks = []
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
        tasks.append(asyncio.create_task(enter(name, priority)))
        await asyncio.sleep(0)
    assert gate.waiting == 4
    for _ in tasks:
        gate.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert came == ["high", "first", "second", "low"]


async def test_a_full_queue_sheds_the_lowest_priority_first():
    gate = filled(1)
    waiting = [asyncio.create_task(gate.enter(0, 5.0)) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await gate.enter(0, 5.0)
    important = asyncio.create_task(gate.enter(1, 5.0))
    await asyncio.sleep(0.01)
    assert isinstance(waiting[-1].exception(), Overloaded)  # the last to come of the least important
    assert gate.shed == 2
    gate.leave()
    await important
    for task in waiting[:-1]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (gate.waiting, gate.busy) == (0, 1)


async def test_waiting_has_an_end_and_leaves_nothing_behind():
    gate = filled(1)
    with pytest.raises(Overloaded):
        await gate.enter(0, 0.02)
    assert (gate.waiting, gate.busy, gate.shed) == (0, 1, 1)
    gate.leave()
    assert gate.try_enter()


def test_a_deployment_that_stands_less_is_capped_by_its_configuration():
    gate = filled(2)
    gate.leave()
    gate.overloaded()
    assert gate.limit == 2


def test_retries_are_a_fifth_of_the_first_tries_and_one_a_second():
    clock = FakeClock(1000.0)
    budget = RetryBudget(clock)
    spent = 0
    for _ in range(60 * 500):
        budget.earn()
        spent += budget.spend()
        clock.now += 1 / 500
    assert spent <= 60 * 500 * 0.2 + 60 + 20
    assert spent >= 60 * 500 * 0.19


def test_a_good_hour_saves_up_no_storm_of_retries():
    clock = FakeClock(1000.0)
    budget = RetryBudget(clock)
    for _ in range(36_000):
        budget.earn()
        clock.now += 0.1
    clock.now += 60
    assert sum(budget.spend() for _ in range(1000)) == 10
