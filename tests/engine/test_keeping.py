"""What routes and cascades have learned outlives the process and reaches the other replicas, and nothing counts twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from headgate.core.errors import StorageUnavailable
from headgate.core.records import LearnedRow
from headgate.engine.keeping import DEAD, LONGEST
from headgate.stores.memory import MemoryStore
from headgate.strategies.cascade.accuracy import Accuracy
from headgate.strategies.route.learning import Conversation, Learning
from headgate.strategies.route.neighbours import features, pressed, vector
from support.clock import FakeClock
from support.replica import PRIOR, Replica


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_restart_goes_on_where_the_last_life_ended(clock) -> None:
    store = MemoryStore()
    first = Replica(store, "h1", clock)
    first.told(1.0, 30)
    for right in (True, True, False):
        first.accuracy.note(right)
    worth = {"claude": 0.3}
    seen = vector(features("write a parser for dates in go"))
    first.learning.neighbours.add_vector(seen, worth)
    first.learning._near.append((pressed(seen), worth))
    first.learning.conversations["c1"] = Conversation("claude", "code", "t", clock.time(), 7)
    await first.keeper.tend()
    await first.keeper.end()
    second = Replica(store, "h2", clock)
    await second.keeper.tend()
    assert second.answers == pytest.approx(first.answers)
    assert second.quality == pytest.approx(first.quality)
    assert second.quality > PRIOR.mean
    assert second.accuracy.view() == first.accuracy.view()
    near = second.learning.neighbours.corrections(features("write a parser for dates in go"), ["claude"])
    assert near["claude"] > 0
    assert second.learning.home("c1", clock.time(), within=60.0) is not None
    assert [row.holder for row in await store.learned()] == ["h2", "h2"]


async def test_replicas_hear_each_other_and_adoption_counts_nothing_twice(clock) -> None:
    store = MemoryStore()
    one, two = Replica(store, "h1", clock), Replica(store, "h2", clock)
    one.told(1.0, 10)
    two.told(0.0, 10)
    for replica in (one, two, one):
        await replica.keeper.tend()
    both = Learning().beliefs
    both.add(one.learning._mine.pack())
    both.add(two.learning._mine.pack())
    assert one.answers == two.answers == pytest.approx(both.answers("code", "claude"))
    before = one.answers
    await one.keeper.end()
    for _ in range(3):
        await two.keeper.tend()
    assert two.answers == pytest.approx(before)
    assert len([row for row in await store.learned() if row.entry == "route:auto"]) == 1


async def test_a_process_that_was_thought_dead_hears_its_own_back(clock) -> None:
    store = MemoryStore()
    slept, awake = Replica(store, "h1", clock), Replica(store, "h2", clock)
    slept.told(1.0, 10)
    await slept.keeper.tend()
    before = slept.answers
    await clock.advance(DEAD + 1)
    await awake.keeper.tend()
    assert awake.answers == pytest.approx(before)
    await slept.keeper.tend()
    assert slept.answers == pytest.approx(before)
    await awake.keeper.tend()
    assert slept.answers == pytest.approx(before)
    assert awake.answers == pytest.approx(before)


async def test_what_cannot_be_read_is_left_alone(clock) -> None:
    store = MemoryStore()
    await store.swap_learned(LearnedRow(entry="route:auto", holder="odd", at=0.0, body=b"\xff\xffnot ours"), over=[])
    replica = Replica(store, "h1", clock)
    replica.told(1.0, 3)
    await replica.keeper.tend()
    assert replica.keeper.problem is None
    assert {row.holder for row in await store.learned() if row.entry == "route:auto"} == {"odd", "h1"}


async def test_what_is_asked_to_be_kept_is_in_the_store_when_that_returns_and_those_who_come_together_share_a_save(
    clock,
) -> None:
    store = Counting(clock)
    replica = Replica(store, "h1", clock)
    await replica.keeper.tend()
    told = [asyncio.create_task(_told_and_kept(replica, number)) for number in range(50)]
    await clock.advance(0.5)
    assert not any(task.done() for task in told), "the last save took a twentieth of a second, less than one ago"
    before = store.swaps
    await clock.advance(LONGEST)
    await asyncio.gather(*told)
    assert store.swaps == before + 2, "one row for the route, one for the cascade"
    again = Replica(store, "h2", clock)  # the first one is killed here
    await again.keeper.look()
    assert again.answers == pytest.approx(replica.answers) != 0


async def test_a_waiter_that_leaves_takes_no_other_ones_save_with_it_and_a_store_that_is_away_is_said(clock) -> None:
    store = Counting(clock)
    replica = Replica(store, "h1", clock)
    await replica.keeper.tend()
    gone, stays = (asyncio.create_task(_told_and_kept(replica, number)) for number in range(2))
    await clock.advance(0.1)
    gone.cancel()
    await clock.advance(LONGEST)
    await stays
    store.is_away = True
    refused = asyncio.create_task(_told_and_kept(replica, 2))
    await clock.advance(LONGEST)
    with pytest.raises(StorageUnavailable):
        await refused


async def test_a_process_that_slept_learns_that_it_was_thought_dead_before_it_learns_more(clock) -> None:
    store = MemoryStore()
    slept, awake = Replica(store, "h1", clock), Replica(store, "h2", clock)
    slept.told(1.0, 10)
    await slept.keeper.tend()
    await clock.advance(DEAD + 1)
    await awake.keeper.tend()
    await slept.keeper.ready()
    told = asyncio.create_task(_told_and_kept(slept, 99))
    await clock.advance(LONGEST)
    await told
    third = Replica(store, "h3", clock)
    await third.keeper.look()
    both = Replica(MemoryStore(), "h4", clock)
    both.told(1.0, 10)
    assert third.answers == pytest.approx(both.answers + 1, abs=0.05)


class Counting(MemoryStore):
    """Slow enough for saves to be spared."""

    swaps = 0
    is_away = False

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        if self.is_away:
            raise StorageUnavailable("away")
        self.swaps += 1
        self._clock.now += 0.025
        return await super().swap_learned(row, over=over)


async def _told_and_kept(replica: Replica, number: int) -> None:
    replica.learning.told_late(f"told {number}", "code", "claude", 1.0, PRIOR)
    await replica.keeper.kept()


async def test_the_last_word_on_a_verdict_counts_once_whichever_life_or_replica_it_is_told(clock) -> None:
    store = MemoryStore()
    one, two = Replica(store, "h1", clock), Replica(store, "h2", clock)
    one.accuracy.tell("tr_1", True)
    for replica in (one, two):
        await replica.keeper.tend()
    two.accuracy.tell("tr_1", False)
    for replica in (two, one, two):
        await replica.keeper.tend()
    assert [replica.accuracy.view() for replica in (one, two)] == [{"accuracy": 0.0, "measured": 1.0}] * 2
    one.accuracy.tell("tr_1", True)
    await one.keeper.tend()
    await one.keeper.end()
    await two.keeper.end()
    later = Replica(store, "h3", clock)
    await later.keeper.tend()
    later.accuracy.tell("tr_1", True)
    assert later.accuracy.view() == {"accuracy": 1.0, "measured": 1.0}
    later.accuracy.tell("tr_2", False)
    assert later.accuracy.view() == {"accuracy": 0.499, "measured": 2.0}


def test_an_accuracy_from_before_words_were_kept_is_read() -> None:
    accuracy = Accuracy()
    accuracy.adopt([msgspec.msgpack.encode((3.0, 4.0))])
    assert accuracy.view() == {"accuracy": 0.75, "measured": 4.0}


def test_an_accuracy_is_a_share_also_where_an_old_word_is_taken_back() -> None:
    for old, new in ((True, False), (False, True)):
        accuracy = Accuracy()
        accuracy.tell(f"tr_{old}", old)
        for _ in range(900):
            accuracy.note(new)
        accuracy.tell(f"tr_{old}", new)
        assert accuracy.view()["accuracy"] == float(new)
