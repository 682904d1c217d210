"""What only a server has: it goes away and comes back, several processes write at once, partitions, migrations."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import asyncpg
import pytest

from headgate.core.errors import StorageUnavailable, StorageUnsure
from headgate.ledger.journal import Journal
from headgate.ledger.tail import Tail, TailOptions
from headgate.stores.migrations import Step, steps
from headgate.stores.postgres import PostgresStore, books
from headgate.stores.postgres.link import migrate
from support.books import NOON, intent, outcome, record
from support.postgres import Server, needs_postgres

pytestmark = needs_postgres
DAY = 86400.0


@pytest.fixture
def url(postgres: Server) -> str:
    return postgres.new_database()


async def spent(store: PostgresStore, scope: str = "all") -> int:
    return (await store.lease(scope, "", limit=0, want=0, holder="probe", expires=0)).spent


async def names(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relname ~ '^(attempts|requests)_[0-9]+$' ORDER BY 1"
    )
    await connection.close()
    return [row[0] for row in rows]


async def test_many_processes_start_and_write_at_once(url: str) -> None:
    """Migration, partitions, sums and rows: each exactly once."""
    stores = [PostgresStore(url) for _ in range(6)]

    async def work(n: int, store: PostgresStore) -> None:
        for batch in range(10):
            ids = [f"at_{n}_{batch}_{k}" for k in range(5)]
            entries = [intent(id, key_id=f"k{k}", admitted=NOON + batch % 3 * DAY) for k, id in enumerate(ids)]
            await store.apply([*entries, *(outcome(id, cost=1) for id in ids)], holder=f"h{n}")
            await store.apply([intent("at_same"), outcome("at_same", cost=1)], holder="h0")

    await asyncio.gather(*(work(n, store) for n, store in enumerate(stores)))
    assert await spent(stores[0]) == 6 * 10 * 5 + 1
    (row,) = await stores[0].usage(since=0, until=NOON + 9 * DAY, by=(), where={})
    assert (row.attempts, row.cost) == (301, 301)
    for store in stores:
        await store.aclose()


@pytest.mark.parametrize(
    ("away", "back"),
    [
        ("ALTER TABLE usage_days RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO usage_days"),
        ("REVOKE ALL ON usage_days FROM modest", "GRANT ALL ON usage_days TO modest"),
    ],
    ids=["tables", "rights"],
)
async def test_a_database_without_its_tables_or_rights_is_down_and_no_entry_is_to_blame(
    url: str, tmp_path: Path, away: str, back: str
) -> None:
    owner, superuser = await asyncpg.connect(url), PostgresStore(url)
    await superuser.apply([intent("at_0")], holder="h0")  # the schema, and the day's partition
    await owner.execute("DROP ROLE IF EXISTS modest")
    await owner.execute("CREATE ROLE modest LOGIN")
    await owner.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO modest")
    await owner.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO modest")
    await owner.execute("GRANT ALL ON SCHEMA public TO modest")
    store = PostgresStore(url.replace("postgres@", "modest@"))
    journal = Journal(tmp_path / "journal")
    tail = Tail(journal, store, TailOptions(every=0.005))
    await owner.execute(away)
    tail.start()
    journal.intend(intent("at_1"))
    journal.settle(outcome("at_1", cost=300))
    async with asyncio.timeout(20):
        while tail.store_error is None and not tail.quarantined:  # noqa: ASYNC110 - another thread works
            await asyncio.sleep(0.01)
        assert tail.store_error == "the database lacks tables, or rights on them"
        await owner.execute(back)
        while journal.behind:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert tail.quarantined == 0
    assert await spent(superuser) == 300
    await tail.stop()
    await store.aclose()
    await superuser.aclose()
    await owner.execute("DROP OWNED BY modest")
    await owner.execute("DROP ROLE modest")
    await owner.close()


async def test_who_loses_the_server_in_a_commit_is_told_that_nobody_knows(url: str) -> None:
    store = PostgresStore(url)
    await store.version()

    async def cut(connection) -> None:
        await connection.execute("UPDATE facts SET value = value + 1 WHERE name = 'version'")
        connection.terminate()  # sent and answered; the commit never is

    async def cut_before(connection) -> None:
        connection.terminate()
        await connection.execute("SELECT 1")

    with pytest.raises(StorageUnsure):
        await store._link.write(cut)
    with pytest.raises(StorageUnavailable) as caught:
        await store._link.write(cut_before)
    assert not isinstance(caught.value, StorageUnsure)
    assert await store.version() >= 0, "and the next one gets a new connection"
    await store.aclose()


@pytest.mark.parametrize("happens", [True, False])
async def test_a_grant_that_is_still_under_way_is_waited_for_by_who_asks_again(url: str, happens: bool) -> None:
    store = PostgresStore(url)
    await store.version()
    connection, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    asked = {"limit": 1000, "want": 300, "holder": "h1", "expires": NOON, "turn": 1}
    transaction = connection.transaction()
    await transaction.start()
    await books.lease(connection, "all", "", **asked)
    again = asyncio.create_task(store.lease("all", "", **asked))
    while not await watching.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert not again.done()
    await (transaction.commit() if happens else transaction.rollback())
    found = await again
    assert (found.granted, found.leased) == (300, 300)
    for one in (connection, watching):
        await one.close()
    await store.aclose()


async def test_leases_of_many_processes_never_pass_the_limit(url: str) -> None:
    stores = [PostgresStore(url) for _ in range(4)]

    async def ask(n: int, store: PostgresStore) -> int:
        granted = 0
        for k in range(12):
            lease = await store.lease("all", "", limit=1000, want=37, holder=f"h{n}", expires=NOON)
            granted += lease.granted
            if lease.granted:
                await store.apply([intent(f"at_{n}_{k}"), outcome(f"at_{n}_{k}", cost=lease.granted)], holder=f"h{n}")
        return granted

    granted = sum(await asyncio.gather(*(ask(n, store) for n, store in enumerate(stores))))
    last = await stores[0].lease("all", "", limit=1000, want=0, holder="probe", expires=0)
    assert granted == last.spent == 1000
    assert last.leased == 0
    for store in stores:
        await store.aclose()


async def test_a_server_that_goes_away_is_said_so_and_found_again() -> None:
    server = Server()
    server.start()
    store = PostgresStore(server.url("postgres"))
    try:
        await store.apply([intent(), outcome()], holder="h1")
        server.stop()
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await store.apply([intent("at_2"), outcome("at_2")], holder="h1")
            with pytest.raises(StorageUnavailable):
                await store.keys()
        server.start()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(StorageUnavailable):
                    await store.apply([intent("at_2"), outcome("at_2")], holder="h1")
                    break
        assert await spent(store) == 600
    finally:
        await store.aclose()
        server.remove()


async def test_a_server_that_is_not_there_yet_is_asked_again(postgres: Server) -> None:
    store = PostgresStore(postgres.url("not_there_yet"))
    with pytest.raises(StorageUnavailable, match="does not exist"):
        await store.version()
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.execute("CREATE DATABASE not_there_yet")
    await connection.close()
    assert await store.version() == 0
    await store.aclose()


async def test_a_server_without_room_for_another_connection_is_found_again(postgres: Server, url: str) -> None:
    others = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while len(others) < 100:
            others.append(await asyncpg.connect(url))
    store = PostgresStore(url)
    try:
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await store.apply([intent(), outcome()], holder="h1")
    finally:
        for other in others:
            await other.close()
    await store.apply([intent(), outcome()], holder="h1")
    assert await spent(store) == 300
    await store.aclose()


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    store = PostgresStore(url)
    await store.version()

    async def slow(connection) -> None:
        await connection.execute("SET LOCAL statement_timeout = '50ms'")
        await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(StorageUnavailable, match="too long"):
        await store._link.write(slow)
    await store.aclose()


async def test_days_are_partitions_and_are_dropped_whole(url: str) -> None:
    store = PostgresStore(url)
    await store.apply(
        [intent("at_1", admitted=NOON - 9 * DAY), outcome("at_1"), record(at=NOON - 8 * DAY)], holder="h1"
    )
    await store.apply([intent("at_2"), outcome("at_2")], holder="h1")
    made = await names(url)
    assert made == sorted(f"{table}_202611{day}" for table in ("attempts", "requests") for day in (15, 16, 24))
    assert await store.prune(NOON) == 9
    assert await names(url) == ["attempts_20261124", "requests_20261124"]
    await store.apply([intent("at_late", admitted=NOON - 9 * DAY), outcome("at_late")], holder="h1")
    assert await spent(store) == 900
    await store.aclose()


async def test_a_partition_that_another_process_dropped_is_made_again(url: str) -> None:
    store = PostgresStore(url)
    await store.apply([intent("at_1"), outcome("at_1")], holder="h1")
    connection = await asyncpg.connect(url)
    await connection.execute("DROP TABLE attempts_20261124")
    await connection.close()
    await store.apply([intent("at_2"), outcome("at_2")], holder="h1")
    assert await spent(store) == 600
    await store.aclose()


async def test_an_outcome_that_comes_days_later_finds_its_attempt(url: str) -> None:
    store = PostgresStore(url)
    await store.apply([intent()], holder="h1")
    await store.apply([outcome(at=NOON + 5 * DAY)], holder="h1")
    assert await spent(store) == 300
    assert store.orphans == 0
    await store.aclose()


async def test_a_step_that_fails_leaves_the_schema_before_it_and_is_taken_again(url: str) -> None:
    connection = await asyncpg.connect(url)
    start = steps("postgres")
    await migrate(connection, start)
    number = len(start) + 1
    bad = Step(version=number, name="bad", statements=("CREATE TABLE half (x int)", "CREATE TABLE half (x int)"))
    with pytest.raises(asyncpg.PostgresError):
        await migrate(connection, (*start, bad))
    assert await connection.fetchval("SELECT max(version) FROM headgate_schema") == len(start)
    assert await connection.fetchval("SELECT to_regclass('half') IS NULL")
    await migrate(connection, (*start, Step(version=number, name="good", statements=("CREATE TABLE whole (x int)",))))
    assert await connection.fetchval("SELECT max(version) FROM headgate_schema") == number
    await connection.close()


async def test_an_expanded_schema_serves_the_older_release_and_a_contracted_one_refuses_it(url: str) -> None:
    connection = await asyncpg.connect(url)
    start = steps("postgres")
    number = len(start) + 1
    await migrate(connection, (*start, Step(version=number, name="expand", statements=("CREATE TABLE more (x int)",))))
    old = PostgresStore(url)
    await old.apply([intent(), outcome()], holder="h1")
    await old.aclose()
    contract = Step(version=number + 1, name="contract", statements=("DROP TABLE more",), oldest=number)
    expand = Step(version=number, name="expand", statements=())
    await migrate(connection, (*start, expand, contract))
    await connection.close()
    refused = PostgresStore(url)
    with pytest.raises(StorageUnavailable, match="newer release"):
        await refused.version()
    await refused.aclose()
