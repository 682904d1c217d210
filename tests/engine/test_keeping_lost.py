"""The answer to a commit is lost, so that nobody knows whether it happened: nothing that was learned is lost by that, and
nothing counts twice, whichever way it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from headgate.core.errors import StorageUnavailable, StorageUnsure
from headgate.core.ports import Store
from headgate.core.records import LearnedRow
from headgate.engine.keeping import DEAD, Keeper
from headgate.stores.memory import MemoryStore
from headgate.stores.postgres import PostgresStore, books
from headgate.stores.sqlite import SqliteStore
from headgate.strategies.route.learning import Learning
from support.clock import FakeClock
from support.postgres import Server, needs_postgres
from support.replica import Replica

BOTH_WAYS = pytest.mark.parametrize("happens", [True, False], ids=["committed", "not committed"])


class Lossy(PostgresStore):
    """Loses its connection in the next commit of a swap (`loses`), after that has happened or instead."""

    loses: bool | None = None

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        happens, self.loses = self.loses, None
        if happens is None:
            return await super().swap_learned(row, over=over)
        if happens:
            await super().swap_learned(row, over=over)
            raise StorageUnsure("lost in a commit that came through")

        async def cut(connection: Any) -> None:
            await books.swap_learned(connection, row, over)
            connection.terminate()

        await self._link.write(cut)
        raise AssertionError("a connection that is cut commits nothing")


@pytest.fixture
async def opened(postgres: Server) -> AsyncIterator[Callable[[], Lossy]]:
    url, stores = postgres.new_database(), list[Lossy]()

    def make() -> Lossy:
        stores.append(Lossy(url))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


class Router(Replica):
    """With one entry, whose swap is the one that is lost."""

    def __init__(self, store: Store, name: str, clock: FakeClock) -> None:
        self.learning = Learning()
        self.keeper = Keeper(store, lambda: {"route:auto": self.learning}, holder=name, clock=clock)


def worth(told: int) -> float:
    """What so many good signs come to."""
    alone = Router(MemoryStore(), "alone", FakeClock())
    alone.told(1.0, told)
    return alone.answers


async def all_that_is_kept(store: Store, clock: FakeClock) -> float:
    """What a later life finds."""
    await clock.advance(DEAD + 1)
    later = Router(store, "later", clock)
    await later.keeper.tend()
    return later.answers


@needs_postgres
@BOTH_WAYS
async def test_after_a_first_row_whose_commit_was_lost_feedback_is_kept_again(opened, happens: bool) -> None:
    clock, store = FakeClock(), opened()
    one = Router(store, "h1", clock)
    one.told(1.0, 5)
    store.loses = happens
    with pytest.raises(StorageUnsure):
        await one.keeper.save()
    one.told(1.0, 7)
    told = asyncio.create_task(one.keeper.kept())
    await clock.advance(1.0)
    await told
    assert one.answers == pytest.approx(worth(7), rel=0.1)
    before = one.answers
    await one.keeper.tend()
    assert await all_that_is_kept(store, clock) == pytest.approx(before)


@needs_postgres
@BOTH_WAYS
@pytest.mark.parametrize("had", [0, 4])
async def test_an_adoption_whose_commit_was_lost_counts_once(opened, happens: bool, had: int) -> None:
    clock, store = FakeClock(), opened()
    dead = Router(store, "h1", clock)
    dead.told(1.0, 20)
    await dead.keeper.end()
    one = Router(store, "h2", clock)
    one.told(1.0, had)
    if had:
        await one.keeper.save()
    both = Learning()
    both.adopt([dead.learning.pack(), one.learning.pack()])
    expected = both.beliefs.answers("code", "claude")
    store.loses = happens
    with pytest.raises(StorageUnsure):
        await one.keeper.look()
    await one.keeper.save()
    if happens:
        assert one.answers == pytest.approx(expected), "known at once, and in use"
    await one.keeper.look()
    assert one.answers == pytest.approx(expected)
    await one.keeper.tend()
    assert one.answers == pytest.approx(expected)
    assert [row.holder for row in await store.learned()] == ["h2"]
    assert await all_that_is_kept(store, clock) == pytest.approx(expected)


@needs_postgres
@BOTH_WAYS
@pytest.mark.parametrize("is_first", [True, False])
async def test_who_cannot_ask_for_so_long_that_it_is_thought_dead_counts_nothing_twice(
    opened, happens: bool, is_first: bool
) -> None:
    clock, store, other = FakeClock(), opened(), opened()
    one, two = Router(store, "h1", clock), Router(other, "h2", clock)
    if not is_first:
        await one.keeper.save()
    one.told(1.0, 10)
    before = one.answers
    store.loses = happens
    with pytest.raises(StorageUnsure):
        await one.keeper.save()
    await clock.advance(DEAD + 1)
    await two.keeper.tend()
    assert two.answers == pytest.approx(before if happens else 0.0)
    for replica in (one, two, one):
        await replica.keeper.tend()
    assert one.answers == two.answers
    assert two.answers <= before * 1.001
    assert await all_that_is_kept(store, clock) == pytest.approx(two.answers)


@needs_postgres
async def test_a_first_row_that_never_came_and_that_nobody_can_have_taken_over_is_not_forgotten(opened) -> None:
    clock, store = FakeClock(), opened()
    one = Router(store, "h1", clock)
    one.told(1.0, 10)
    before = one.answers
    store.loses = False
    with pytest.raises(StorageUnsure):
        await one.keeper.save()
    await clock.advance(DEAD + 1)  # the store was away for so long, for everybody
    await one.keeper.tend()
    assert one.answers == pytest.approx(before)
    assert await all_that_is_kept(store, clock) == pytest.approx(before)


@needs_postgres
async def test_a_commit_that_is_still_under_way_is_waited_for(postgres: Server, opened) -> None:
    store = opened()
    await store.learned()
    connection = await asyncpg.connect(store._link._url)
    row = LearnedRow(entry="route:auto", holder="h1", at=1.0, body=b"late")
    transaction = connection.transaction()
    await transaction.start()
    await books.swap_learned(connection, row, [])
    assert await store.learned() == []
    asked = asyncio.create_task(store.learned(settled=True))
    while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not asked.done()
    await transaction.commit()
    assert await asked == [row]
    await connection.close()


class Hanging(SqliteStore):
    """Does what it is asked, and its answer never comes."""

    hangs = False

    async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
        done = await super().swap_learned(row, over=over)
        if self.hangs:
            await asyncio.Event().wait()
        return done


async def test_who_is_stopped_in_the_middle_of_an_adoption_takes_it_along_into_the_last_words(tmp_path) -> None:
    clock, store = FakeClock(), Hanging(tmp_path / "headgate.db")
    dead, one = Router(store, "h1", clock), Router(store, "h2", clock)
    dead.told(1.0, 20)
    await dead.keeper.end()
    store.hangs = True
    looking = asyncio.create_task(one.keeper.look())
    while [row.holder for row in await store.learned()] != ["h2"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.wait([looking])
    store.hangs = False
    await one.keeper.end()
    assert one.keeper.problem is None
    assert await all_that_is_kept(store, clock) == pytest.approx(dead.answers) != 0
    await store.aclose()


async def test_a_store_that_did_nothing_leaves_no_doubt() -> None:
    class Away(MemoryStore):
        is_away, asked = True, 0

        async def swap_learned(self, row: LearnedRow, *, over: Sequence[str]) -> bool:
            if self.is_away:
                raise StorageUnavailable("away")
            return await super().swap_learned(row, over=over)

        async def learned(self, *, settled: bool = False) -> Sequence[LearnedRow]:
            self.asked += settled
            return await super().learned(settled=settled)

    store = Away()
    one = Router(store, "h1", FakeClock())
    one.told(1.0, 3)
    await one.keeper.tend()
    store.is_away = False
    await one.keeper.tend()
    assert [row.holder for row in await store.learned()] == ["h1"]
    assert store.asked == 0, "no table is locked for nothing"
