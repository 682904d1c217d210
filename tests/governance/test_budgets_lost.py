"""The answer to a question for money is lost, so that nobody knows whether the store has granted it, or taken it back: none
is held twice, and none lies idle for long, whichever way it went."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.core.errors import BudgetExceeded, StorageUnavailable, StorageUnsure
from headgate.core.ports import Store
from headgate.core.records import BudgetSpec, Lease
from headgate.governance.budgets import IDLE, BudgetBook, Window, day_of
from headgate.stores.memory import MemoryStore
from headgate.stores.postgres import PostgresStore
from support.books import NOON, intent, outcome
from support.clock import FakeClock
from support.cutting import Cut, Cutter
from support.postgres import Server, needs_postgres

LIMIT = 10_000
SLICE = LIMIT // 20
GRANT, RETURN = b"INSERT INTO leases", b"UPDATE leases SET amount = greatest(amount - $4"
BOTH_WAYS = pytest.mark.parametrize("cut", ["before", "after"])


class One:
    """A process with one budget, and how its store sees that."""

    def __init__(self, store: Store, name: str, clock: FakeClock) -> None:
        self.store, self.clock = store, clock
        self.book = BudgetBook(store, name, clock)

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.spec(hard=True)

    def spec(self, *, hard: bool) -> tuple[Window, ...]:
        spec = BudgetSpec(limit=LIMIT, period="total", hard=hard)
        return self.book.windows_of([("key:k1", spec)], day_of(NOON))

    @property
    def window(self) -> Window:
        return self.windows[0]

    async def leased(self) -> int:
        return (await self.probe()).leased

    async def probe(self) -> Lease:
        return await self.store.lease("key:k1", "", limit=0, want=0, holder="probe", expires=NOON + 1e6)

    async def rest(self) -> None:
        self.clock.now += IDLE + 1
        await self.book.tend()


class Line:
    """To one database: cut where it is told to be, and whole."""

    def __init__(self, cutter: Cutter, url: str) -> None:
        self.cutter, clock = cutter, FakeClock(NOON)
        self.one = One(PostgresStore(cutter.url), "h1", clock)
        self.other = One(PostgresStore(url), "h2", clock)


@pytest.fixture
async def line(postgres: Server, request: pytest.FixtureRequest) -> AsyncIterator[Line]:
    url = postgres.new_database()
    cutter = Cutter(url, mark=request.param)
    await cutter.start()
    made = Line(cutter, url)
    yield made
    for one in (made.one, made.other):
        await one.store.aclose()
    await cutter.close()


@needs_postgres
@BOTH_WAYS
@pytest.mark.parametrize("line", [GRANT], indirect=True)
async def test_a_slice_whose_grant_was_lost_is_asked_for_again_and_held_once(line: Line, cut: Cut) -> None:
    one, other = line.one, line.other
    line.cutter.cut = cut
    with pytest.raises(StorageUnavailable):
        await one.book.reserve(one.windows, 100)
    assert await other.leased() == (SLICE if cut == "after" else 0)
    await one.book.reserve(one.windows, 100)
    assert await other.leased() == one.window.granted == SLICE
    one.book.move(one.windows, reserved=-100, settled=0)
    await one.rest()
    assert await other.leased() == 0
    await other.book.reserve(other.windows, LIMIT)


@needs_postgres
@BOTH_WAYS
@pytest.mark.parametrize("line", [GRANT], indirect=True)
async def test_nobody_has_to_ask_for_it_again(line: Line, cut: Cut) -> None:
    """Also where the budget only tells by then."""
    one, other = line.one, line.other
    line.cutter.cut = cut
    with pytest.raises(StorageUnavailable):
        await one.book.reserve(one.windows, 100)
    one.spec(hard=False)
    await one.rest()
    assert await other.leased() == one.window.granted == 0
    await other.book.reserve(other.windows, LIMIT)


@needs_postgres
@BOTH_WAYS
@pytest.mark.parametrize("line", [RETURN], indirect=True)
async def test_a_slice_that_was_lost_on_its_way_back_is_given_back_once(line: Line, cut: Cut) -> None:
    one, other = line.one, line.other
    await one.book.reserve(one.windows, 100)
    one.book.move(one.windows, reserved=-100, settled=0)
    line.cutter.cut = cut
    with pytest.raises(StorageUnsure):
        await one.rest()
    assert one.window.left == 0, "others may have it"
    if cut == "after":
        await other.book.reserve(other.windows, LIMIT - 100)
    await one.rest()
    assert await other.leased() == other.window.granted
    await one.book.reserve(one.windows, 100)
    assert one.window.granted + other.window.granted == await other.leased() <= LIMIT


class Losing(MemoryStore):
    """Loses answers by chance: before anything has happened, or after, said or not."""

    def __init__(self, luck: random.Random) -> None:
        super().__init__()
        self._luck = luck
        self.loses = True

    async def lease(self, *args: Any, **more: Any) -> Lease:
        return await self._or_lose(super().lease, *args, **more)

    async def release(self, *args: Any, **more: Any) -> None:
        await self._or_lose(super().release, *args, **more)

    async def _or_lose(self, call: Any, *args: Any, **more: Any) -> Any:
        way = self._luck.randrange(8) if self.loses and more["holder"] != "probe" else 7
        if way == 0:
            raise StorageUnavailable("away")
        if way in (1, 2):
            raise (StorageUnsure("cut before"), TimeoutError())[way - 1]
        found = await call(*args, **more)
        if way in (3, 4):
            raise (StorageUnsure("cut after"), TimeoutError())[way - 3]
        return found


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_is_lost_no_money_is_held_twice_and_all_of_it_comes_back(seed: int) -> None:
    luck, clock = random.Random(seed), FakeClock(NOON)
    store = Losing(luck)
    crowd = [One(store, f"h{n}", clock) for n in range(3)]
    held: list[tuple[One, int]] = []
    for step in range(150):
        one = luck.choice(crowd)
        clock.now += luck.choice([0.0, 1.0, IDLE + 1])
        match luck.randrange(4):
            case 0 | 1:
                amount = luck.randrange(1, 400)
                try:
                    await one.book.reserve(one.windows, amount)
                except (StorageUnavailable, BudgetExceeded):
                    continue
                held.append((one, amount))
            case 2 if held:
                one, amount = held.pop(luck.randrange(len(held)))
                cost = luck.randrange(amount + 1) // 8
                one.book.move(one.windows, reserved=-amount, settled=cost)
                name = f"at_{step}"
                await store.apply([intent(name, admitted=NOON), outcome(name, cost=cost)], holder=one.book._holder)
            case _:
                try:
                    await one.book.tend()
                except (StorageUnavailable, TimeoutError):
                    continue
        spent = (await crowd[0].probe()).spent
        assert spent + sum(each.window.left + each.window.reserved for each in crowd) <= LIMIT
    store.loses = False
    for one, amount in held:
        one.book.move(one.windows, reserved=-amount, settled=0)
    for one in crowd:
        await one.rest()
    found = await crowd[0].probe()
    assert (found.leased, [one.window.left for one in crowd]) == (0, [0, 0, 0])
    await crowd[0].book.reserve(crowd[0].windows, LIMIT - found.spent)


class Away(MemoryStore):
    is_away = False

    async def lease(self, *args: Any, **more: Any) -> Lease:
        if self.is_away:
            raise StorageUnavailable("away")
        return await super().lease(*args, **more)


@pytest.mark.parametrize("loss", ["open", "local"])
@pytest.mark.parametrize("booked", ["before", "after", "half"])
async def test_what_was_spent_without_the_store_counts_once(loss: Any, booked: str) -> None:
    """Whether it is booked before its process asks for more, or after."""
    clock, store = FakeClock(NOON), Away()
    one = One(store, "h1", clock)
    one.book.on_store_loss = loss

    async def spend(name: str, cost: int) -> list[Any]:
        await one.book.reserve(one.windows, cost)
        one.book.move(one.windows, reserved=-cost, settled=cost)
        return [intent(name, admitted=NOON), outcome(name, cost=cost)]

    await store.apply(await spend("at_1", 100), holder="h1")
    store.is_away = True
    spent = [entry for n in range(6) for entry in await spend(f"at_away_{n}", 500)]
    store.is_away = False
    at = {"before": 12, "half": 6, "after": 0}[booked]
    await store.apply(spent[:at], holder="h1")
    spent += await spend("at_2", 100)
    await store.apply(spent[at:], holder="h1")
    found = await one.probe()
    assert (found.spent, found.leased) == (3200, one.window.left)
    await one.rest()
    assert await one.leased() == 0
    await one.book.reserve(one.windows, LIMIT - 3200)


async def test_attempts_dearer_than_their_reservations_count_once() -> None:
    clock, store = FakeClock(NOON), MemoryStore()
    one = One(store, "h1", clock)
    for n, cost in enumerate([900, 900, 100]):
        await one.book.reserve(one.windows, 100)
        one.book.move(one.windows, reserved=-100, settled=cost)
        await store.apply([intent(f"at_{n}", admitted=NOON), outcome(f"at_{n}", cost=cost)], holder="h1")
    found = await one.probe()
    assert (found.spent, found.leased) == (1900, max(one.window.left, 0))
