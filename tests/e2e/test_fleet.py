"""What holds together in a fleet, proved with real processes: one gateway on SQLite, three on PostgreSQL and Valkey.

`hang` keeps every admitted request under way until its client leaves, so that counts are exact however slow the machine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from headgate.core.money import NANO
from support import postgres
from support.fleet import ASK, Crowd, Fleet, Stores, fetch, is_possible, post
from support.served import Served, ServedGateway

needs_stores = pytest.mark.skipif(not is_possible(), reason="no PostgreSQL or Valkey: scripts/database.sh, shared.sh")
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("fleet")]
CROWD = 1000


async def eventually(test: Callable[[], Any], seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await asyncio.to_thread(test)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return found


def dollars(nano: int) -> str:
    return f"{nano // NANO}.{nano % NANO:09d}"


# -- one process on SQLite -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    found = ServedGateway(tmp_path_factory.mktemp("alone"))
    yield found
    found.close()


def stored(gateway: ServedGateway, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{gateway.data}/headgate.db?mode=ro", uri=True)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


async def test_of_a_thousand_at_once_exactly_a_hundred_enter_a_limit_of_a_hundred(alone: ServedGateway) -> None:
    key = alone.ask_admin("/keys", {"name": "seats", "limits": {"concurrent": 100}})["secret"]
    alone.loop.run(alone.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd([alone.url], key, CROWD)
    await crowd.until(100)
    assert Counter(crowd.answered) == {429: 900}
    await crowd.leave()
    alone.loop.run(alone.sim.mend())
    await eventually(lambda: alone.chat(key)[0] == 200)  # the places are free again


async def test_of_a_thousand_at_once_a_limit_per_minute_lets_a_minutes_worth_through(alone: ServedGateway) -> None:
    key = alone.ask_admin("/keys", {"name": "rate", "limits": {"requests_per_minute": 100}})["secret"]
    begun = time.monotonic()
    crowd = Crowd([alone.url], key, CROWD)
    await crowd.until(0)
    came_back = int((time.monotonic() - begun) * 100 / 60) + 1
    admitted = Counter(crowd.answered)
    assert set(admitted) == {200, 429}
    assert 100 <= admitted[200] <= 100 + came_back


async def test_of_a_thousand_at_once_exactly_a_hundred_enter_a_budget_for_a_hundred(alone: ServedGateway) -> None:
    first = alone.ask_admin("/keys", {"name": "first", "budgets": {"total": 1}})
    assert alone.chat(first["secret"])[0] == 200
    await eventually(lambda: stored(alone, "SELECT 1 FROM attempts WHERE key_id = ?", first["id"]))
    ((worst,),) = stored(alone, "SELECT reserved FROM attempts WHERE key_id = ?", first["id"])
    made = alone.ask_admin("/keys", {"name": "poor", "budgets": {"total": dollars(worst * 100)}})
    alone.loop.run(alone.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd([alone.url], made["secret"], CROWD)
    await crowd.until(100)
    assert Counter(crowd.answered) == {402: 900}
    await crowd.leave()
    alone.loop.run(alone.sim.mend())

    def spent() -> list[tuple[Any, ...]]:
        return stored(alone, "SELECT count(*), sum(cost) FROM attempts WHERE key_id = ? AND cost > 0", made["id"])

    # what was sent and never answered costs what was reserved for it: all of the budget, and not a nano more
    await eventually(lambda: spent() == [(100, worst * 100)])
    assert alone.chat(made["secret"])[0] == 402


# -- three replicas on PostgreSQL and Valkey --------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


@pytest.fixture(scope="module")
def _fleet(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Iterator[Fleet]:
    found = Fleet(tmp_path_factory.mktemp("fleet"), stores, replicas=3)
    found.replicas[0].ask_admin("/keys", {"name": "first"})
    for replica in found.replicas:
        deadline = time.monotonic() + 20
        while replica.chat(None)[0] != 401:  # open, until it has heard of the first key
            assert time.monotonic() < deadline
            time.sleep(0.1)
    yield found
    found.close()


@pytest.fixture
def fleet(_fleet: Fleet) -> Iterator[Fleet]:
    yield _fleet
    _fleet.loop.run(_fleet.sim.mend())


def urls(fleet: Fleet) -> list[str]:
    return [replica.url for replica in fleet.replicas]


async def make_key(fleet: Fleet, **fields: Any) -> dict[str, Any]:
    """Known to every replica."""
    made = await asyncio.to_thread(fleet.replicas[0].ask_admin, "/keys", {"name": "one", **fields})
    for url in urls(fleet):
        async with asyncio.timeout(20):
            # no body: nothing is asked of anybody
            while await post(url, made["secret"], {}) == 401:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    return made


async def rows(fleet: Fleet, sql: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(fleet.store_url)
    try:
        return await connection.fetch(sql, *values)
    finally:
        await connection.close()


async def wait_for_rows(fleet: Fleet, wanted: Callable[[list[Any]], bool], sql: str, *values: Any) -> list[Any]:
    async with asyncio.timeout(60):
        while not wanted(found := await rows(fleet, sql, *values)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return found


@needs_stores
def test_of_replicas_that_start_at_once_where_others_reach_them_one_makes_the_first_key(
    tmp_path: Path, stores: Stores
) -> None:
    fresh = Fleet(tmp_path, stores)
    try:
        with ThreadPoolExecutor(4) as pool:
            names = [f"data{number}" for number in range(4)]
            fresh.replicas = list(pool.map(lambda name: fresh.add(name, "--host", "0.0.0.0"), names))
        keys = [line.split()[-1] for one in fresh.replicas for line in one.said if "first key" in line]
        assert len(keys) == 1
        for replica in fresh.replicas:
            deadline = time.monotonic() + 20
            while (status := replica.chat(keys[0])[0]) == 401:  # the others hear of it at their next look
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert (status, replica.chat(None)[0]) == (200, 401)
        assert [key["name"] for key in fresh.replicas[0].ask_admin("/keys")] == ["first key"]
        assert [row["action"] for row in fresh.replicas[0].ask_admin("/audit")] == ["key.create"]
    finally:
        fresh.close()


@needs_stores
def test_replicas_that_others_can_reach_and_that_start_without_their_database_make_one_first_key_when_it_is_there(
    tmp_path: Path, stores: Stores
) -> None:
    database = postgres.Server()
    fresh = Fleet(tmp_path, stores)
    fresh.file.write_text(fresh.file.read_text().replace(fresh.store_url, database.url("postgres")))
    try:
        with ThreadPoolExecutor(2) as pool:
            more = [("data1",), ("data2", "--workers", "2")]
            fresh.replicas = list(pool.map(lambda one: fresh.add(*one, "--host", "0.0.0.0"), more))
        assert not [line for one in fresh.replicas for line in one.said if "first key" in line]
        assert fresh.replicas[0].chat("any")[0] == 503, "nobody is let in"
        database.start()
        deadline = time.monotonic() + 60
        while fresh.replicas[0].chat("any")[0] != 401 or len(fresh.replicas[0].ask_admin("/keys")) != 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for replica in fresh.replicas:
            replica.stop()
        keys = [
            line.split()[-1] for one in fresh.replicas for line in one.printed.splitlines() if "the first key" in line
        ]
        assert len(keys) == 1
        replica = fresh.replicas[0]
        replica.again()
        assert not [line for line in replica.said if "first key" in line]
        assert (replica.chat(keys[0])[0], replica.chat(None)[0]) == (200, 401)
    finally:
        fresh.close()
        database.remove()


@needs_stores
async def test_three_replicas_admit_a_limit_per_minute_within_two_per_cent(fleet: Fleet) -> None:
    limit = 600
    key = (await make_key(fleet, limits={"requests_per_minute": limit}))["secret"]
    statuses: Counter[int] = Counter()

    async def flood(url: str) -> None:
        refused = 0
        while refused < 15:
            status = await post(url, key)
            statuses[status] += 1
            if status == 429:
                refused += 1
                await asyncio.sleep(0.02)

    begun = time.monotonic()
    await asyncio.gather(*(flood(url) for url in urls(fleet) for _ in range(4)))
    due = limit + (time.monotonic() - begun) * limit / 60
    assert set(statuses) == {200, 429}
    assert 0.98 * due - 1 <= statuses[200] <= due + 1, f"{statuses[200]} of {due:.1f}"


@needs_stores
async def test_three_replicas_seat_exactly_a_hundred_of_a_thousand(fleet: Fleet) -> None:
    key = (await make_key(fleet, limits={"concurrent": 100}))["secret"]
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd(urls(fleet), key, CROWD)
    await crowd.until(100)
    assert Counter(crowd.answered) == {429: 900}
    await crowd.leave()


@needs_stores
async def test_three_replicas_never_spend_more_than_a_budget(fleet: Fleet) -> None:
    """The bound: 0 beyond the limit, where estimates are upper bounds; and what replicas hold ahead of use (a twentieth
    each, a quarter of the rest towards the end) is out of the others' reach for a moment."""
    first = await make_key(fleet, budgets={"total": 1})
    assert await post(fleet.replicas[0].url, first["secret"]) == 200
    sql = "SELECT reserved FROM attempts WHERE key_id = $1"
    worst = (await wait_for_rows(fleet, bool, sql, first["id"]))[0][0]
    made = await make_key(fleet, budgets={"total": dollars(worst * 100)})
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd(urls(fleet), made["secret"], CROWD)
    await crowd.until(100)
    refused = Counter(crowd.answered)
    assert set(refused) == {402}
    held_back = CROWD - refused[402]
    assert 100 - 2 * 5 <= held_back <= 100
    await crowd.leave()
    sql = "SELECT count(*), coalesce(sum(cost), 0)::bigint FROM attempts WHERE key_id = $1 AND state <> 'intent'"
    found = await wait_for_rows(fleet, lambda rows: rows[0][0] == held_back, sql, made["id"])
    assert found[0][1] == held_back * worst <= worst * 100
    # and what is left over is spent to the last request that fits, by whoever asks
    left = 100 - held_back
    fleet.loop.run(fleet.sim.mend())
    more = [await post(url, made["secret"]) for url in urls(fleet) for _ in range(left + 1)]
    assert (200 in more) == bool(left)
    (total,) = (await rows(fleet, "SELECT sum(cost)::bigint FROM attempts WHERE key_id = $1", made["id"]))[0]
    assert total <= worst * 100


@needs_stores
async def test_a_revoked_key_ends_on_all_replicas_within_five_seconds(fleet: Fleet) -> None:
    made = await make_key(fleet)
    assert [await post(url, made["secret"]) for url in urls(fleet)] == [200, 200, 200]
    begun = time.monotonic()
    await asyncio.to_thread(fleet.replicas[1].ask_admin, f"/keys/{made['id']}/revoke", {})
    open_at = set(urls(fleet))
    while open_at:
        open_at -= {url for url in open_at if await post(url, made["secret"], {}) == 401}
        assert time.monotonic() - begun < 5.0, open_at


@needs_stores
async def test_the_others_go_on_when_a_replica_is_killed_and_its_successor_books_what_it_had_sent(fleet: Fleet) -> None:
    key = await make_key(fleet)
    dead, *others = fleet.replicas
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd([dead.url], key["secret"], 20)
    before = fleet.served()
    await eventually(lambda: fleet.served() >= before + 20)
    sql = "SELECT state, count(*) FROM attempts WHERE key_id = $1 GROUP BY 1"
    await wait_for_rows(fleet, lambda rows: dict(rows) == {"intent": 20}, sql, key["id"])
    dead.kill()
    await crowd.until(0)
    assert Counter(crowd.answered) == {-1: 20}
    served = [await post(replica.url, key["secret"], {**ASK, "model": "gpt-5.5"}) for replica in others * 10]
    assert served == [200] * 20
    # nobody may settle what may still be running; the last outcome may be a batch behind its intent
    await wait_for_rows(fleet, lambda rows: dict(rows) == {"intent": 20, "settled": 20}, sql, key["id"])
    dead.again()
    found = await wait_for_rows(fleet, lambda rows: "intent" not in dict(rows), sql, key["id"])
    assert dict(found) == {"unknown": 20, "settled": 20}


@needs_stores
async def test_the_others_book_what_a_replica_had_sent_that_never_comes_back(fleet: Fleet) -> None:
    """Once its attempts cannot be running any more (their longest time, and a minute). That time is simulated here, by
    moving it in the store."""
    key = await make_key(fleet)
    dead = fleet.replicas[2]
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "hang"))
    crowd = Crowd([dead.url], key["secret"], 5)
    sql = "SELECT state, count(*) FROM attempts WHERE key_id = $1 GROUP BY 1"
    await wait_for_rows(fleet, lambda rows: dict(rows) == {"intent": 5}, sql, key["id"])
    dead.kill()
    await crowd.leave()
    await rows(fleet, "UPDATE attempts SET expires = 1 WHERE key_id = $1", key["id"])
    await wait_for_rows(fleet, lambda rows: dict(rows) == {"unknown": 5}, sql, key["id"])
    dead.again()
    await asyncio.sleep(1.0)
    assert dict(await rows(fleet, sql, key["id"])) == {"unknown": 5}, "its own journal changes nothing any more"


@needs_stores
async def test_a_request_sent_to_all_replicas_at_once_is_run_once(fleet: Fleet) -> None:
    key = (await make_key(fleet))["secret"]
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "slow_first_token", delay=2.0))
    before = fleet.served()
    asked = [fetch(url, key, idempotency_key="the same") for url in urls(fleet) for _ in range(3)]
    found = await asyncio.gather(*asked)
    assert fleet.served() == before + 1
    assert Counter(status for status, _ in found) == {200: 1, 409: 8}
    (answer,) = [body for status, body in found if status == 200]
    again = [await fetch(url, key, idempotency_key="the same") for url in urls(fleet)]
    assert again == [(200, answer)] * 3, "from then on, all of them give the same answer"
    assert fleet.served() == before + 1
    assert await post(fleet.replicas[2].url, key, {**ASK, "max_tokens": 7}, idempotency_key="the same") == 422


def state(replica: Served) -> tuple[str, str]:
    """(state, reason) of the first model's breaker there."""
    with urllib.request.urlopen(f"{replica.url}/health", timeout=20) as answer:
        (found,) = json.loads(answer.read())["models"]["claude-4.7"]["deployments"].values()
    return found["state"], found.get("reason", "")


@needs_stores
async def test_what_one_replica_finds_out_of_a_provider_the_others_keep_to(fleet: Fleet) -> None:
    key = (await make_key(fleet))["secret"]
    first, *others = fleet.replicas
    fleet.loop.run(fleet.sim.break_model("claude-4.7", "500"))

    async def chain(replica: Served) -> tuple[int, str, str]:
        status, headers, _ = await asyncio.to_thread(replica.chat, key, "reliable")
        return status, headers["x-headgate-model"], headers["x-headgate-attempts"]

    async with asyncio.timeout(60):
        while (await asyncio.to_thread(state, first))[0] == "closed":
            assert (await chain(first))[:2] == (200, "gpt-5.5")
    for replica in others:
        _, why = await eventually(lambda at=replica: state(at)[0] != "closed" and state(at))
        assert why.endswith("(another replica)"), why
    for replica in others:
        async with asyncio.timeout(60):
            while True:
                before, answer = await asyncio.to_thread(state, replica), await chain(replica)
                if before[0] == (await asyncio.to_thread(state, replica))[0] == "open":
                    break  # else its time was over: after a probe that fails it is twice as long
        assert answer == (200, "gpt-5.5", "1"), "nobody asks again what one has found out"
    fleet.loop.run(fleet.sim.mend())
    async with asyncio.timeout(120):
        while (await asyncio.to_thread(state, first))[0] != "closed":  # its probe, once the time is over
            await chain(first)
            await asyncio.sleep(0.2)
    for replica in others:
        await eventually(lambda at=replica: state(at)[0] == "closed")


@needs_stores
async def test_valkey_dies_and_returns_and_nobody_notices_but_the_log(fleet: Fleet, stores: Stores) -> None:
    key = (await make_key(fleet, limits={"requests_per_minute": 60_000, "concurrent": 300}))["secret"]
    statuses: Counter[int] = Counter()
    going = True

    async def ask(url: str) -> None:
        while going:
            statuses[await post(url, key)] += 1

    clients = [asyncio.create_task(ask(url)) for url in urls(fleet) for _ in range(2)]
    await asyncio.sleep(1.0)
    stores.valkey.stop()
    await eventually(lambda: all("shared_store_lost" in replica.log() for replica in fleet.replicas))
    await asyncio.sleep(2.0)
    stores.valkey.start()
    await eventually(lambda: all("shared_store_back" in replica.log() for replica in fleet.replicas))
    going = False
    await asyncio.gather(*clients)
    assert set(statuses) == {200}
    assert {replica.log().count('"shared_store_lost"') for replica in fleet.replicas} == {1}, "said once"


@needs_stores
async def test_postgres_dies_and_returns_requests_are_served_and_none_is_lost(fleet: Fleet, stores: Stores) -> None:
    key = await make_key(fleet)
    budgeted = await make_key(fleet, budgets={"total": 0.001})
    assert {await post(url, key["secret"]) for url in urls(fleet)} == {200}
    statuses: Counter[int] = Counter({200: 3})
    going = True

    async def ask(url: str) -> None:
        while going:
            statuses[await post(url, key["secret"])] += 1

    clients = [asyncio.create_task(ask(url)) for url in urls(fleet) for _ in range(2)]
    stores.postgres.stop()
    await eventually(lambda: all('"store_lost"' in replica.log() for replica in fleet.replicas))
    hard = [await post(url, budgeted["secret"]) for url in urls(fleet)]
    assert hard == [503, 503, 503], "a hard budget that nobody can check is closed"
    await asyncio.sleep(2.0)
    stores.postgres.start()
    await eventually(lambda: all('"store_back"' in replica.log() for replica in fleet.replicas))
    going = False
    await asyncio.gather(*clients)
    assert set(statuses) == {200}, "no storm of 500s, no 503: keys and the journal are here"
    sql = "SELECT state, count(*) FROM attempts WHERE key_id = $1 GROUP BY 1"
    await wait_for_rows(fleet, lambda rows: dict(rows) == {"settled": statuses[200]}, sql, key["id"])
    (count,) = (await rows(fleet, "SELECT count(*) FROM requests WHERE key_id = $1", key["id"]))[0]
    assert count == statuses[200]
    assert await post(fleet.replicas[0].url, budgeted["secret"]) in (200, 402)
