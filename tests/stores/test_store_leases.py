"""Slices of budgets: spent + leased <= limit, whatever happens to their holders."""

from __future__ import annotations

import asyncio

from headgate.core.ports import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.postgres import PostgresStore
from headgate.stores.sqlite import SqliteStore
from support.books import NOON, intent, outcome

SINCE = "2026-11-01"


async def ask(store: Store, want: int, holder: str = "h1", limit: int = 1000, scope: str = "key:k1", **more):
    return await store.lease(
        scope, more.get("since", SINCE), limit=limit, want=want, holder=holder, expires=more.get("expires", NOON + 60)
    )


async def test_all_leases_together_never_pass_the_limit(store: Store) -> None:
    grants = await asyncio.gather(*(ask(store, 70, f"h{n % 5}") for n in range(40)))
    assert sum(grant.granted for grant in grants) == 1000
    assert (await ask(store, 1, "h9")).granted == 0
    assert (await ask(store, 0)).leased == 1000


async def test_settled_attempts_turn_lease_into_spending(store: Store) -> None:
    await ask(store, 600)
    await store.apply([intent(), outcome(cost=250)], holder="h1")
    lease = await ask(store, 1000, "h2")
    assert (lease.spent, lease.granted, lease.leased) == (250, 400, 750)


async def test_another_holders_lease_and_other_windows_are_left_alone(store: Store) -> None:
    await ask(store, 300, "h1")
    await ask(store, 300, "h2")
    await ask(store, 300, "h1", since="2026-11-25")
    await store.apply([intent(), outcome(cost=100)], holder="h1")
    assert (await ask(store, 0, "h3")).leased == 500
    later = await ask(store, 0, "h3", since="2026-11-25")
    assert (later.spent, later.leased) == (0, 300)


async def test_an_attempt_dearer_than_its_lease_leaves_no_negative_hold(store: Store) -> None:
    await ask(store, 100)
    await store.apply([intent(), outcome(cost=250)], holder="h1")
    lease = await ask(store, 0)
    assert (lease.spent, lease.leased) == (250, 0)
    await store.release("key:k1", SINCE, holder="h1", amount=10**6)
    assert (await ask(store, 0)).leased == 0


async def test_what_was_spent_beyond_a_lease_and_is_booked_is_not_held_besides(store: Store) -> None:
    async def turn(number: int, want: int, owed: int, limit: int = 1000) -> tuple[int, int]:
        more = {"limit": limit, "holder": "h1", "expires": NOON + 60, "turn": number, "owed": owed}
        found = await store.lease("key:k1", SINCE, want=want, **more)
        return found.granted, found.leased

    assert await turn(1, 100, 0) == (100, 100)
    assert await turn(2, 150, 50) == (150, 250), "it owes 50, and nothing is booked yet"
    await store.apply([intent("at_1"), outcome("at_1", cost=400)], holder="h1")
    assert [await turn(3, 250, 150)] * 2 == [(250, 100)] * 2, "spent 400, of which 150 beyond the lease"
    await store.apply([intent("at_2"), outcome("at_2", cost=180)], holder="h1")
    assert await turn(4, 0, 80) == (0, 0), "it only renews"
    assert await turn(5, 30, 80, limit=0) == (30, 0), "where nothing is left, too: it is spent"
    assert await turn(6, 9, 50) == (9, 0)
    assert await turn(7, 100, 0) == (100, 100), "who owes nothing has begun anew"
    assert await turn(8, 60, 60) == (60, 160)
    assert (await ask(store, 1000, "h2")).granted == 1000 - 580 - 160


async def test_what_is_given_back_can_be_granted_again(store: Store) -> None:
    await ask(store, 1000)
    await store.release("key:k1", SINCE, holder="h1", amount=400)
    assert (await ask(store, 1000, "h2")).granted == 400


async def test_looking_leaves_no_row(store: Store) -> None:
    """Budgets that only tell are looked at every two seconds, each day in a window of its own."""
    for day in range(1, 29):
        await ask(store, 0, since=f"2026-11-{day:02}")
    assert await rows(store) == 0


async def test_empty_leases_that_nobody_renews_go(store: Store) -> None:
    for day in (23, 24):
        await ask(store, 100, since=f"2026-11-{day}")
    await store.apply([intent(), outcome(cost=100)], holder="h1")
    await ask(store, 50, "h2")
    await store.sweep(NOON + 60 + 3600, holder=None, charge=True)
    assert await rows(store) == 3, "their holder may still ask"
    await store.sweep(NOON + 60 + 7201, holder=None, charge=True)
    assert await rows(store) == 1
    assert (await ask(store, 0, "h3")).spent == 150, "the overdue one of h2 is charged, and stays"


async def rows(store: Store) -> int:
    sql = "SELECT count(*) FROM leases"
    if isinstance(store, SqliteStore):
        return await store._readers.do(lambda c: c.execute(sql).fetchone()[0])
    if isinstance(store, PostgresStore):
        return await store._link.read(lambda c: c.fetchval(sql))
    assert isinstance(store, MemoryStore)
    return sum(len(slices) for slices in store._leases.values())


async def test_a_question_that_is_asked_again_is_answered_once(store: Store) -> None:
    async def turn(number: int, want: int, limit: int = 1000) -> tuple[int, int]:
        found = await store.lease("key:k1", SINCE, limit=limit, want=want, holder="h1", expires=NOON + 60, turn=number)
        return found.granted, found.leased

    async def back(number: int, amount: int) -> None:
        await store.release("key:k1", SINCE, holder="h1", amount=amount, turn=number)

    assert [await turn(1, 300), await turn(1, 300), await turn(1, 9)] == [(300, 300)] * 3
    await ask(store, 100)  # without a number: forgets none
    assert [await turn(1, 300), await turn(2, 50), await turn(2, 50)] == [(300, 400), (50, 450), (50, 450)]
    await store.apply([intent(), outcome(cost=120)], holder="h1")
    assert await turn(2, 50) == (50, 330), "what was spent of it since is spent"
    assert await turn(3, 0, limit=0) == (0, 330)
    for _ in range(2):
        await back(4, 100)
    assert await turn(5, 0) == (0, 230)
    for _ in range(2):
        await back(6, 230)
    assert [await turn(7, 1000), await turn(7, 1000)] == [(880, 880)] * 2, "all but what was spent"
    await store.release("key:k1", SINCE, holder="h1", amount=80)
    await store.release("key:k1", SINCE, holder="h1", amount=80)
    assert await turn(7, 1000) == (880, 720)


async def test_a_dead_holders_leases_return_or_are_charged(store: Store) -> None:
    await ask(store, 300, "h1")
    await ask(store, 200, "h2")
    assert await store.end_holder("h1", charge=False) == 0
    assert (await ask(store, 0, "h9")).leased == 200
    assert await store.end_holder("h2", charge=True) == 200
    lease = await ask(store, 1000, "h9")
    assert (lease.spent, lease.granted) == (200, 800)


async def test_what_was_charged_for_a_lost_journal_is_corrected_when_it_is_found(store: Store) -> None:
    await ask(store, 300, "h1")
    await store.end_holder("h1", charge=True)
    await store.apply([intent(), outcome(cost=120)], holder="h1")
    assert (await ask(store, 0, "h9")).spent == 300
    await store.apply([intent("at_2"), outcome("at_2", cost=280)], holder="h1")
    assert (await ask(store, 0, "h9")).spent == 400


async def test_an_overdue_lease_counts_as_spent_until_its_holder_asks_again(store: Store) -> None:
    await ask(store, 300, "h1", expires=NOON)
    await store.sweep(NOON + 1, holder=None, charge=True)
    overdue = await ask(store, 0, "h9")
    assert (overdue.spent, overdue.leased) == (300, 0)
    back = await ask(store, 100, "h1", expires=NOON + 100)
    assert (back.spent, back.granted, back.leased) == (0, 100, 400)


async def test_unknown_attempts_of_a_dead_holder_are_charged_out_of_its_lease(store: Store) -> None:
    await ask(store, 1000, "h1")
    await store.apply([intent(reserved=400)], holder="h1")
    await store.sweep(NOON, holder="h1", charge=True)
    assert (await ask(store, 0, "h2")).leased == 600
    await store.end_holder("h1", charge=False)
    lease = await ask(store, 1000, "h2")
    assert (lease.spent, lease.granted) == (400, 600)


async def test_leases_survive_a_restart(open_store) -> None:
    first = await open_store()
    await ask(first, 300)
    await first.aclose()
    assert (await ask(await open_store(), 0, "h9")).leased == 300
