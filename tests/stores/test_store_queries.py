"""Asking: usage by any dimension, requests by any filter, keys and teams, retention."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from headgate.core.errors import Conflict, HeadgateError, PermissionDenied
from headgate.core.ports import Store
from headgate.core.records import AuditRecord, BudgetSpec, KeyRecord, LimitSpec, TeamRecord
from headgate.governance.desk import Desk
from headgate.governance.governor import KeyedGovernor
from headgate.governance.keys import make_key, state_of
from headgate.stores.memory import MemoryStore
from headgate.stores.postgres import PostgresStore
from support.books import NOON, intent, outcome, record

DAY = 86400.0
HOUR = 3600.0


async def fill(store: Store) -> None:
    await store.apply(
        [
            intent("at_1", key_id="k1", team="red", tags=("a", "b"), admitted=NOON - DAY),
            outcome("at_1", cost=100),
            intent("at_2", key_id="k1", tags=("a",), model="gpt", provider="openai", admitted=NOON),
            outcome("at_2", cost=20, outcome="failed", error="timeout", usage=None),
            intent("at_3", key_id="k2", role="judge", admitted=NOON + HOUR),
            outcome("at_3", cost=3),
            intent("at_4", key_id="k2", admitted=NOON + DAY),
            outcome("at_4", cost=None, state="released", outcome="cancelled", usage=None),
        ],
        holder="h1",
    )


async def groups(store: Store, *by: str, since: float = 0.0, until: float = NOON + 9 * DAY, **where: str):
    rows = await store.usage(since=since, until=until, by=by, where=where)
    return {row.group: row.cost for row in rows}


async def test_usage_by_each_dimension(store: Store) -> None:
    await fill(store)
    assert await groups(store) == {(): 123}
    assert await groups(store, "key", "model") == {("k1", "claude"): 100, ("k1", "gpt"): 20, ("k2", "claude"): 3}
    assert await groups(store, "day") == {("2026-11-23",): 100, ("2026-11-24",): 23, ("2026-11-25",): 0}
    assert await groups(store, "tag") == {("a",): 120, ("b",): 100}
    assert await groups(store, "role", "team") == {("", ""): 20, ("", "red"): 100, ("judge", ""): 3}
    assert await groups(store, "provider", error="timeout") == {("openai",): 20}
    assert await groups(store, "deployment", tag="b") == {("claude@anthropic",): 100}
    assert await groups(store, "user", key="nobody") == {}


async def test_usage_sums_tokens_and_failures(store: Store) -> None:
    await fill(store)
    (row,) = await store.usage(since=0, until=NOON + 9 * DAY, by=(), where={})
    assert (row.attempts, row.failed, row.input, row.output, row.cached) == (4, 1, 20, 10, 8)
    assert row.unknown_cost == 1


@pytest.mark.parametrize(
    ("since", "until", "cost"),
    [
        (NOON, NOON + 1, 20),
        (NOON + 1, NOON + 2 * DAY, 3),
        (NOON - DAY, NOON, 100),
        (NOON - DAY, NOON + HOUR, 120),
        (NOON - 12 * HOUR, NOON + 12 * HOUR, 23),
        (NOON - 5 * DAY, NOON - 12 * HOUR, 100),
        (NOON + HOUR, NOON + HOUR, 0),
        (0.0, 1e300, 123),
    ],
)
async def test_usage_of_any_stretch_of_time_is_exact(store: Store, since: float, until: float, cost: int) -> None:
    await fill(store)
    assert (await groups(store, since=since, until=until)).get((), 0) == cost


async def test_names_that_are_no_dimension_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no dimension"):
        await store.usage(since=0, until=1, by=("key_id; DROP TABLE attempts",), where={})
    with pytest.raises(ValueError, match="no filter"):
        await store.requests(limit=1, where={"1=1 --": "x"})


async def test_requests_come_newest_first_and_by_page(store: Store) -> None:
    await store.apply([record(f"tr_{n}", at=NOON + n) for n in range(10)], holder="h1")
    first = await store.requests(limit=4)
    assert [r.trace for r in first] == ["tr_9", "tr_8", "tr_7", "tr_6"]
    assert [r.trace for r in await store.requests(limit=2, before=first[-1].at)] == ["tr_5", "tr_4"]


async def test_requests_by_filter(store: Store) -> None:
    await store.apply(
        [
            record("tr_1", tags=("x",), task="code"),
            record("tr_2", status=502, error="timeout", at=NOON + 1),
            record("tr_3", key_id="k2", requested="100%_sure", at=NOON + 2),
        ],
        holder="h1",
    )

    async def found(**where: str) -> list[str]:
        return [r.trace for r in await store.requests(limit=9, where=where)]

    assert await found(tag="x", task="code") == ["tr_1"]
    assert await found(name="auto") == ["tr_2", "tr_1"]
    assert await found(name="claude", key="k2") == ["tr_3"]
    assert await found(failed="1") == await found(status="502") == await found(error="timeout") == ["tr_2"]
    assert await found(key="k2") == await found(search="0%_s") == ["tr_3"]
    assert await found(search="%%%") == []


async def test_a_request_of_another_key_does_not_exist(store: Store) -> None:
    await store.apply([record("tr_1", key_id="k1")], holder="h1")
    assert await store.request("tr_1", key_id="k2") is None
    assert await store.request("tr_1", key_id="k1") is not None
    assert await store.request("tr_1", key_id=None) is not None


async def test_pruning_drops_rows_and_keeps_sums(store: Store) -> None:
    await fill(store)
    await store.apply([record("tr_old", at=NOON - 3 * DAY), record("tr_new", at=NOON)], holder="h1")
    assert await store.prune(NOON) == 3
    assert await store.prune(NOON) == 0
    assert [r.trace for r in await store.requests(limit=9)] == ["tr_new"]
    assert {made.id for made, _ in await store.attempts("tr_1")} == {"at_2", "at_3", "at_4"}
    assert await groups(store) == {(): 123}
    assert await groups(store, since=NOON - DAY - HOUR, until=NOON) == {(): 100}
    lease = await store.lease("key:k1", "2026-11-01", limit=1000, want=0, holder="h1", expires=NOON)
    assert lease.spent == 120


async def test_pruning_leaves_open_attempts(store: Store) -> None:
    await store.apply([intent(admitted=NOON - 9 * DAY)], holder="h1")
    await store.prune(NOON)
    assert await store.sweep(NOON, holder="h1", charge=True) == 1


async def test_keys_and_teams_come_back_and_grow_the_version(store: Store) -> None:
    before = await store.version()
    key = KeyRecord(
        id="k1",
        hash="ab" * 32,
        hint="wxyz",
        name="Ann's",
        created=NOON,
        tags=("a",),
        models=("auto",),
        limits=LimitSpec(requests_per_minute=5),
        budgets=(BudgetSpec(limit=10**9, period="daily", hard=False),),
    )
    team = TeamRecord(id="red", name="Red", created=NOON, budgets=(BudgetSpec(limit=5),))
    await store.put_key(key)
    await store.put_team(team)
    assert list(await store.keys()) == [key]
    assert list(await store.teams()) == [team]
    revoked = KeyRecord(id="k1", hash=key.hash, hint="wxyz", name="Ann's", created=NOON, revoked=NOON + 1)
    await store.put_key(revoked)
    assert list(await store.keys()) == [revoked]
    assert await store.version() == before + 3


async def test_of_many_that_change_a_key_at_once_one_does(open_store, store: Store) -> None:
    others = [await open_store() for _ in range(3)] if isinstance(store, PostgresStore) else [store] * 3
    old = KeyRecord(id="k1", hash="a" * 64, hint="wxyz", name="one", created=NOON)
    await store.put_key(old)
    before = await store.version()
    changed = [msgspec.structs.replace(old, name=f"by {number}") for number in range(4)]
    fresh = [KeyRecord(id=f"f{n}", hash=f"{n:064x}", hint="wxyz", name="next", created=NOON) for n in range(4)]
    note = AuditRecord(at=NOON, actor="admin", action="key.rotate", target="k1")
    crowd = (store, *others)
    done = await asyncio.gather(*(one.swap_key(old, changed[n], fresh[n], note=note) for n, one in enumerate(crowd)))
    assert sorted(done) == [False, False, False, True]
    winner = done.index(True)
    assert {key.id: key for key in await store.keys()} == {"k1": changed[winner], f"f{winner}": fresh[winner]}
    assert len(await store.audits(9)) == 1
    assert await store.version() == before + 1
    assert not await store.swap_key(msgspec.structs.replace(old, id="nobody"), old)


async def test_of_many_that_make_the_first_key_at_once_one_does(open_store, store: Store) -> None:
    others = [await open_store() for _ in range(7)] if isinstance(store, PostgresStore) else []  # or one process alone
    crowd = [store, *others, *[store] * (7 - len(others))]
    for one in crowd:
        await one.version()  # connected

    def key(number: int) -> KeyRecord:
        return KeyRecord(id=f"k{number}", hash=f"{number:064x}", hint="wxyz", name="first", created=NOON)

    def note(number: int) -> AuditRecord:
        return AuditRecord(at=NOON, actor="first start", action="key.create", target=f"k{number}")

    before = await store.version()
    made = await asyncio.gather(*(one.put_first_key(key(n), note=note(n)) for n, one in enumerate(crowd)))
    assert sorted(made) == [False] * 7 + [True]
    winner = made.index(True)
    for one in crowd:
        assert list(await one.keys()) == [key(winner)]
    assert list(await store.audits(9)) == [note(winner)]
    assert await store.version() == before + 1
    assert await crowd[-1].put_first_key(key(winner), note=note(winner)), "whoever did not hear the answer asks again"
    assert list(await store.audits(9)) == [note(winner)]
    assert await store.version() == before + 1
    await store.put_key(msgspec.structs.replace(key(winner), revoked=NOON))
    assert not await store.put_first_key(key(winner)), "it is not what it was"
    assert not await store.put_first_key(key(99)), "a revoked key was a key"


async def corrupt(store: Store, folder: Path, sql: str) -> None:
    if isinstance(store, MemoryStore):
        pytest.skip("keeps no rows")
    if isinstance(store, PostgresStore):
        await store._link.write(lambda connection: connection.execute(sql))
    else:
        with contextlib.closing(sqlite3.connect(folder / "headgate.db")) as connection, connection:
            connection.execute(sql)


NO_TEXT = "CAST(replace(CAST(body AS BLOB), 'one', x'ff') AS TEXT)"
"""SQLite keeps what it is given; PostgreSQL refuses text that is not UTF-8."""
ANOTHER = "replace(body, 'k2', 'k3')"


@pytest.mark.parametrize("body", ['\'{"id": "k2"\'', "'[]'", NO_TEXT, ANOTHER])
async def test_a_key_whose_row_cannot_be_read_hides_no_other_and_can_be_revoked(
    store: Store, tmp_path: Path, body: str
) -> None:
    if body is NO_TEXT and isinstance(store, PostgresStore):
        pytest.skip("PostgreSQL keeps UTF-8 only")
    one, two = (KeyRecord(id=f"k{n}", hash=f"{n:064x}", hint="wxyz", name="one", created=NOON) for n in (1, 2))
    await store.put_key(one, two)
    await corrupt(store, tmp_path, f"UPDATE virtual_keys SET body = {body} WHERE id = 'k2'")  # noqa: S608
    sound, damaged = await store.keys()
    assert (sound, damaged.id, state_of(damaged, NOON)) == (one, "k2", "damaged")
    desk = Desk(store)
    assert {key["id"]: key["state"] for key in await desk.keys()} == {"k1": "active", "k2": "damaged"}
    with pytest.raises(Conflict, match="damaged"):
        await desk.rotate("k2", "test")
    assert (await desk.revoke("k2", "test"))["state"] == "revoked"
    assert {key["id"]: key["state"] for key in await desk.keys()} == {"k1": "active", "k2": "revoked"}


@pytest.mark.parametrize("body", ["'[]'", "'{\"at\": 1'", NO_TEXT])
async def test_a_row_of_the_audit_log_that_cannot_be_read_hides_no_other(
    store: Store, tmp_path: Path, body: str
) -> None:
    if body is NO_TEXT and isinstance(store, PostgresStore):
        pytest.skip("PostgreSQL keeps UTF-8 only")
    for number in (1, 2, 3):
        await store.audit(AuditRecord(at=NOON + number, actor="one", action="key.create", target=f"k{number}"))
    await corrupt(store, tmp_path, f"UPDATE audits SET body = {body} WHERE at = {NOON + 2}")  # noqa: S608
    told = await Desk(store).audit()
    assert [(row["at"], row["action"], row["target"]) for row in told] == [
        (NOON + 3, "key.create", "k3"), (NOON + 2, "(damaged)", ""), (NOON + 1, "key.create", "k1"),
    ]  # fmt: skip


@pytest.mark.parametrize("body", ["'[]'", NO_TEXT])
async def test_a_team_whose_row_cannot_be_read_is_missing_and_its_keys_alone_are_refused(
    store: Store, tmp_path: Path, body: str
) -> None:
    if body is NO_TEXT and isinstance(store, PostgresStore):
        pytest.skip("PostgreSQL keeps UTF-8 only")
    for name in ("blue", "red"):
        await store.put_team(TeamRecord(id=name, name="one", created=NOON))
    made = [make_key(KeyRecord(id="", hash="", hint="", name="k", created=NOON, team=team)) for team in ("blue", "red")]
    await store.put_key(*(one.record for one in made))
    await corrupt(store, tmp_path, f"UPDATE teams SET body = {body} WHERE id = 'red'")  # noqa: S608
    events: list[tuple[str, object]] = []
    governor = KeyedGovernor(store, on_event=lambda kind, facts: events.append((kind, facts["team"])))
    await governor.refresh()
    assert governor.authenticate([made[0].secret]).team == "blue"
    with pytest.raises(PermissionDenied):
        governor.authenticate([made[1].secret])
    assert events == [("team_missing", "red")]
    await Desk(store).put_team({"id": "red"}, "test")
    await governor.refresh()
    assert governor.authenticate([made[1].secret]).team == "red"


async def test_audits_come_newest_first(store: Store) -> None:
    for n in range(5):
        await store.audit(AuditRecord(at=NOON + n, actor="admin", action="key.create", target=f"k{n}"))
    assert [a.target for a in await store.audits(2)] == ["k4", "k3"]


async def test_a_change_and_its_note_are_written_together_or_not_at_all(store: Store) -> None:
    key = KeyRecord(id="k1", hash="a" * 64, hint="wxyz", name="Ann's", created=NOON)
    old = KeyRecord(id="k0", hash="b" * 64, hint="abcd", name="Ann's", created=NOON, expires=NOON + 60)
    note = AuditRecord(at=NOON, actor="admin", action="key.rotate", target="k1")
    before = await store.version()
    await store.put_key(key, old, note=note)
    assert {k.id for k in await store.keys()} == {"k0", "k1"}
    assert list(await store.audits(5)) == [note]
    assert await store.version() == before + 1
    await store.put_team(
        TeamRecord(id="t", name="t", created=NOON),
        note=AuditRecord(at=NOON, actor="a", action="team.create", target="t"),
    )
    assert [a.action for a in await store.audits(5)] == ["team.create", "key.rotate"]
    if isinstance(store, MemoryStore):
        return
    before, lost = await store.version(), KeyRecord(id="k2", hash="c" * 64, hint="efgh", name="x", created=NOON)
    with pytest.raises(HeadgateError, match="refused"):
        await store.put_key(lost, msgspec.structs.replace(lost, id="k3", hash=key.hash), note=note)
    assert {k.id for k in await store.keys()} == {"k0", "k1"}
    assert len(await store.audits(5)) == 2
    assert await store.version() == before
