"""Rows, sums and counters: written together, once, and still true after a restart."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headgate.core.ports import Store
from headgate.core.records import JournalEntry
from headgate.core.usage import Usage
from headgate.stores.booking import scopes_of
from support.books import NOON, intent, outcome, record

DAY = 86400.0


async def spent(store: Store, scope: str = "all", since: str = "") -> int:
    return (await store.lease(scope, since, limit=0, want=0, holder="probe", expires=NOON)).spent


async def total(store: Store, **where: str) -> int:
    rows = await store.usage(since=0, until=NOON + 400 * DAY, by=(), where=where)
    return rows[0].cost if rows else 0


async def test_an_attempt_and_its_request_come_back_as_they_were(store: Store) -> None:
    made = intent(user="ann", team="red", tags=("a", "b", "a"), role="judge")
    ended = outcome(
        usage=Usage(input=9, output=8, cached_input=3, cache_write=2, reasoning=1, audio_input=1, audio_output=1),
        upstream_id="resp_1",
        status=200,
    )
    asked = record(user="ann", team="red", tags=("a",), task="code", stream=True, saved=-5, trace_json=b'{"a":1}')
    await store.apply([made, ended, asked], holder="h1")
    ((found, closed),) = await store.attempts("tr_1")
    assert found == intent(user="ann", team="red", tags=("a", "b"), role="judge")
    assert closed == ended
    assert await store.request("tr_1", key_id="k1") == asked
    assert list(await store.requests(limit=10)) == [asked]


async def test_rows_survive_a_restart(open_store) -> None:
    first = await open_store()
    await first.apply([intent(), outcome(), record()], holder="h1")
    await first.aclose()
    second = await open_store()
    assert await spent(second, "key:k1") == 300
    assert (await second.request("tr_1", key_id=None)).cost == 300


async def test_every_scope_counts_the_attempt_once(store: Store) -> None:
    made = intent(user="ann", team="red", tags=("a", "b", "a"))
    await store.apply([made, outcome()], holder="h1")
    scopes = ("all", "key:k1", "model:claude", "user:ann", "team:red", "tag:a", "tag:b")
    assert scopes_of(made) == scopes
    assert [await spent(store, scope) for scope in scopes] == [300] * 7


async def test_an_entry_seen_before_changes_nothing(store: Store) -> None:
    batch: list[JournalEntry] = [intent(), outcome(), record()]
    await store.apply(batch, holder="h1")
    await store.apply(batch, holder="h1")
    await store.apply([intent(reserved=5), outcome(cost=9_999), record(cost=7)], holder="h2")
    await store.apply([outcome(cost=1), outcome(cost=2)], holder="h1")
    assert await spent(store) == await total(store) == 300
    assert len(await store.attempts("tr_1")) == 1
    assert (await store.request("tr_1", key_id=None)).cost == 300


async def test_a_settlement_in_a_later_batch_is_booked_on_the_day_of_admission(store: Store) -> None:
    await store.apply([intent(admitted=NOON, at=NOON + 11.99 * 3600)], holder="h1")
    assert await spent(store) == 0
    await store.apply([outcome(at=NOON + DAY)], holder="h1")
    assert await spent(store, since="2026-11-25") == 0
    assert await spent(store, since="2026-11-24") == await spent(store, since="") == 300


async def test_stale_attempts_become_unknown_and_are_charged_by_policy(store: Store) -> None:
    await store.apply([intent("at_1"), intent("at_2", expires=NOON + 10_000)], holder="h1")
    assert await store.sweep(NOON + 601, holder=None, charge=True) == 1
    assert await store.sweep(NOON + 601, holder=None, charge=True) == 0
    closed = {made.id: ended for made, ended in await store.attempts("tr_1")}
    assert closed["at_1"].state == "unknown"
    assert closed["at_1"].error == "lost"
    assert closed["at_1"].cost == 1000
    assert closed["at_2"] is None
    assert await spent(store) == await total(store) == 1000
    assert await store.sweep(NOON, holder="h1", charge=False) == 1
    assert await spent(store) == await total(store) == 1000


async def test_a_late_settlement_corrects_what_was_charged_as_unknown(store: Store) -> None:
    await store.apply([intent()], holder="h1")
    await store.sweep(NOON, holder="h1", charge=True)
    assert await total(store, error="lost") == 1000
    await store.apply([outcome(cost=250)], holder="h1")
    assert await spent(store, "key:k1") == await total(store) == 250
    assert await total(store, error="lost") == 0
    await store.apply([outcome(cost=999)], holder="h1")
    assert await spent(store) == 250


async def test_attempts_without_a_price_cost_nothing_and_are_counted(store: Store) -> None:
    await store.apply([intent(reserved=None), outcome(cost=None)], holder="h1")
    (row,) = await store.usage(since=0, until=NOON + DAY, by=(), where={})
    assert (row.attempts, row.cost, row.unknown_cost) == (1, 0, 1)


async def test_amounts_larger_than_a_column_do_not_stop_the_ledger(store: Store) -> None:
    huge = 10**30
    counts = [name for name in Usage.__struct_fields__ if name not in ("media", "estimated", "cache_write_1h")]
    usage = Usage(**dict.fromkeys(counts, huge))
    await store.apply([intent(reserved=huge), outcome(cost=huge, usage=usage), record(usage=usage)], holder="h1")
    ((_, ended),) = await store.attempts("tr_1")
    assert ended.cost == 2**62
    assert {getattr(ended.usage, name) for name in counts} <= {2**62, huge}  # memory has no columns


async def test_text_of_clients_is_stored_as_text(store: Store) -> None:
    nasty = "'; DROP TABLE attempts; -- %_\\ \x00 \u202e"
    await store.apply([intent(tags=(nasty,), key_id=nasty), outcome(), record(requested=nasty)], holder="h1")
    assert await spent(store, "tag:" + nasty) == 300
    assert len(await store.requests(limit=5, where={"search": "TABLE attempts; -- %_\\"})) == 1
    assert len(await store.requests(limit=5, where={"search": "%%%%_"})) == 0


@pytest.mark.parametrize("seed", range(4))
async def test_counters_are_the_rows_added_up_whatever_the_order(store: Store, seed: int) -> None:
    """I2, under batches, repeats, sweeps and late outcomes."""
    luck = random.Random(seed)
    made = [
        intent(
            f"at_{n}",
            trace=f"tr_{n % 7}",
            key_id=f"k{luck.randrange(3)}",
            team=luck.choice([None, "red", "blue"]),
            tags=tuple(luck.sample(["a", "b", "c"], luck.randrange(3))),
            admitted=NOON + luck.randrange(4) * DAY,
            reserved=luck.randrange(10_000),
        )
        for n in range(60)
    ]
    entries: list[JournalEntry] = []
    for one in made:
        entries.append(one)
        if luck.random() < 0.9:
            entries += [outcome(one.id, cost=luck.randrange(10_000))] * luck.choice([1, 1, 2])
    luck.shuffle(entries)
    entries.sort(key=lambda e: 0 if hasattr(e, "reserved") else luck.randrange(2))
    while entries:
        size = luck.randrange(1, 20)
        await store.apply(entries[:size], holder="h1")
        if luck.random() < 0.3:
            await store.apply(entries[:size], holder="h1")
        if luck.random() < 0.3:
            await store.sweep(NOON + luck.choice([0, 1000]), holder=None, charge=luck.random() < 0.5)
        entries = entries[size:]
    await store.sweep(NOON, holder="h1", charge=True)
    expected: dict[str, int] = {}
    for trace in {one.trace for one in made}:
        for one, ended in await store.attempts(trace):
            assert ended is not None
            for scope in scopes_of(one):
                expected[scope] = expected.get(scope, 0) + (ended.cost or 0)
    for scope, amount in expected.items():
        assert await spent(store, scope) == amount
    assert await total(store) == expected["all"]


def named(id: str, name: str, **more: Any) -> JournalEntry:
    """An intent of `openai/NAME`, as a client asked for it."""
    given = {"provider": "openai", "upstream": name, "model": f"openai/{name}", "deployment": f"openai/{name}"}
    return intent(id, **(given | {"price_version": None, "reserved": None} | more))


NOTHING: dict[str, Any] = {"usage": None, "cost": 0, "outcome": "failed", "status": 404}


async def test_names_that_clients_invent_are_one_row_of_sums_however_many_they_are(store: Store) -> None:
    entries: list[JournalEntry] = []
    for number in range(50):
        entries.append(named(f"at_{number}", f"invented-{number}", trace=f"tr_{number}"))
        error = ("not_found", "unavailable", "client_left")[number % 3]
        state = "unknown" if error == "client_left" else "settled"
        entries.append(outcome(f"at_{number}", **(NOTHING | {"error": error, "state": state})))
    await store.apply(entries[:31], holder="h1")  # some end in the batch in which they began, some later
    await store.apply(entries[31:], holder="h1")
    by = ("model", "deployment")
    day = await store.usage(since=NOON - NOON % DAY, until=NOON - NOON % DAY + DAY, by=by, where={})
    hour = await store.usage(since=NOON - 60, until=NOON + 60, by=by, where={})
    assert day == hour, "sums and rows tell the same"
    assert [(row.group, row.attempts, row.failed) for row in day] == [(("openai/(unknown)",) * 2, 50, 50)]
    ((row, _),) = await store.attempts("tr_7")
    assert (row.model, row.upstream) == ("openai/(unknown)", "invented-7"), "the row still says what was asked for"


async def test_names_that_something_is_known_of_keep_their_sums(store: Store) -> None:
    priced = {"price_version": "catalogue (input 1, output 2)", "reserved": 10}
    await store.apply(
        [
            named("at_1", "answers"), outcome("at_1"),
            named("at_2", "listed", **priced), outcome("at_2", **(NOTHING | {"error": "unavailable"})),
            named("at_3", "charged", **priced), outcome("at_3", **(NOTHING | {"cost": 10, "state": "unknown"})),
            named("at_4", "gone", **priced), outcome("at_4", **(NOTHING | {"error": "not_found"})),
            intent("at_5", price_version=None), outcome("at_5", **(NOTHING | {"error": "not_found"})),
        ],
        holder="h1",
    )  # fmt: skip
    rows = await store.usage(since=0, until=NOON + DAY, by=("model",), where={})
    assert {row.group[0]: row.attempts for row in rows} == {
        "openai/answers": 1, "openai/listed": 1, "openai/charged": 1, "openai/(unknown)": 1, "claude": 1,
    }  # fmt: skip


async def test_what_was_charged_to_an_invented_name_comes_off_it_again(store: Store) -> None:
    """Its process died, it was charged as unknown; then its journal said that the provider knows no such model."""
    await store.apply([named("at_1", "x", reserved=500, price_version="assumed (input 1, output 1)")], holder="h1")
    await store.sweep(NOON, holder="h1", charge=True)
    assert await spent(store, "model:openai/x") == 500
    await store.apply([outcome("at_1", **(NOTHING | {"error": "not_found"}))], holder="h1")
    assert [await spent(store, scope) for scope in ("all", "model:openai/x", "model:openai/(unknown)")] == [0, 0, 0]
    rows = await store.usage(since=0, until=NOON + DAY, by=("model",), where={})
    assert [(row.group[0], row.attempts, row.cost) for row in rows] == [("openai/(unknown)", 1, 0)]
