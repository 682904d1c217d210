"""The shared store on a real server, and what one process keeps for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from headgate.core.errors import StorageUnavailable
from headgate.core.fleet import About, Draw, Notice, Seating
from headgate.core.ports import Answers
from headgate.stores.memory import MemoryAnswers
from headgate.stores.valkey import ValkeyShared
from support.clock import FakeClock
from support.valkey import Server, program

needs_valkey = pytest.mark.skipif(program() is None, reason="no Valkey or Redis: sh scripts/shared.sh")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    one = Server()
    one.start()
    yield one
    one.stop()


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database()


@pytest.fixture
async def shared(url: str) -> AsyncIterator[ValkeyShared]:
    one = ValkeyShared(url, timeout=5.0)
    yield one
    await one.aclose()


@pytest.fixture(params=["memory", pytest.param("valkey", marks=needs_valkey)])
async def answers(request: pytest.FixtureRequest) -> AsyncIterator[Answers]:
    if request.param == "memory":
        yield MemoryAnswers()
        return
    one = ValkeyShared(request.getfixturevalue("server").new_database(), timeout=5.0)
    yield one
    await one.aclose()


# -- limits ----------------------------------------------------------------------------------------------------------------
@needs_valkey
async def test_slices_are_granted_up_to_the_limit_and_no_further(shared: ValkeyShared) -> None:
    async def ask() -> int:
        return (await shared.draw(Draw(bucket="b", limit=1000, want=7))).granted

    granted = await asyncio.gather(*(ask() for _ in range(200)))
    assert 1000 <= sum(granted) <= 1000 + 1000 // 20, "the limit, and what three seconds at most have brought back"
    last = await shared.draw(Draw(bucket="b", limit=1000, want=500, least=500))
    assert last.granted == 0
    assert last.ahead == pytest.approx(60, abs=1)


@needs_valkey
async def test_debts_are_booked_and_what_is_given_back_is_free_again(shared: ValkeyShared) -> None:
    first = await shared.draw(Draw(bucket="b", limit=60, want=20))
    assert first.granted == 20
    assert first.ahead == pytest.approx(20, abs=0.5)
    debt = await shared.draw(Draw(bucket="b", limit=60, debt=50))
    assert debt.ahead == pytest.approx(70, abs=1.5), "more was used than there was: others wait for it"
    assert (await shared.draw(Draw(bucket="b", limit=60, want=1))).granted == 0
    back = await shared.draw(Draw(bucket="b", limit=60, debt=-70, want=60))
    assert (back.granted, back.born) == (60, first.born)
    more = await shared.draw(Draw(bucket="b", limit=60, debt=-600))
    assert more.ahead == 0, "nobody can give back more than was taken"


@needs_valkey
async def test_a_clock_that_is_put_back_keeps_nobody_waiting(shared: ValkeyShared) -> None:
    draw = Draw(bucket="clock", limit=60, want=30)
    first = await shared.draw(draw)
    assert (first.granted, first.ahead) == (30, pytest.approx(30, abs=1))
    tat, born, at = (await shared._redis.get("hg:limit:clock")).split()
    later = b"%.9f %b %.6f" % (float(tat) + 3600, born, float(at) + 3600)  # written an hour from now
    await shared._redis.set("hg:limit:clock", later)
    again = await shared.draw(draw)
    assert again.granted in (30, 29)
    assert again.ahead == pytest.approx(60, abs=2)
    assert again.born == first.born


@needs_valkey
async def test_places_never_pass_the_limit_and_those_of_the_dead_come_back(shared: ValkeyShared) -> None:
    def seating(held: int, want: int, **more: float) -> Seating:
        return Seating(bucket="b", limit=10, held=held, want=want, **more)  # type: ignore[arg-type]

    async def seat(seating: Seating, holder: str) -> int:
        return (await shared.seat(seating, holder=holder)).granted

    assert await seat(seating(0, 6), holder="h1") == 6
    assert await seat(seating(0, 6), holder="h2") == 4
    assert await seat(seating(4, 1), holder="h2") == 0
    assert await seat(Seating(bucket="b", limit=10, held=3, want=4, least=2), holder="h1") == 3, "it gave back 3"
    assert await seat(seating(1, 0, seconds=0.05), holder="h1") == 0
    await asyncio.sleep(0.1)
    assert await seat(seating(4, 6), holder="h2") == 6, "h1 has not said for too long that it lives"
    assert await seat(seating(3, 0), holder="h1") == 0, "what it holds, it holds: nothing is granted beyond"
    assert await seat(seating(10, 1), holder="h2") == 0


@needs_valkey
async def test_a_store_that_was_emptied_grants_no_place_until_all_could_say_what_they_hold(
    shared: ValkeyShared, url: str
) -> None:
    def seating(held: int, want: int, alone: float = 0.5) -> Seating:
        return Seating(bucket="b", limit=10, held=held, want=want, alone=alone)

    newcomer = ValkeyShared(url, timeout=5.0)
    first = await shared.seat(seating(0, 10), holder="h1")
    assert first.granted == 10, "a store that was never used before grants at once"
    await shared._redis.flushdb()
    emptied = await shared.seat(seating(0, 10), holder="h2")
    assert emptied.granted == 0
    assert emptied.store not in ("", first.store)
    assert (await newcomer.seat(seating(0, 10), holder="h3")).granted == 0, "who never knew the old one learns it too"
    assert (await shared.draw(Draw(bucket="l", limit=60, want=5))).store == emptied.store
    assert (await shared.seat(seating(7, 0), holder="h1")).granted == 0  # says what it has
    await asyncio.sleep(0.6)
    assert (await shared.seat(seating(0, 10), holder="h2")).granted == 3
    await newcomer.aclose()


@needs_valkey
@pytest.mark.parametrize("ask", ["beat", "draw"])
async def test_whoever_asks_first_finds_out_that_a_store_was_emptied(shared: ValkeyShared, ask: str) -> None:
    await shared.beat("h1", {})
    await shared._redis.flushdb()
    await (shared.beat("h1", {}) if ask == "beat" else shared.draw(Draw(bucket="l", limit=60, want=5)))
    assert (await shared.seat(Seating(bucket="b", limit=10, held=0, want=10), holder="h2")).granted == 0


@needs_valkey
async def test_replicas_hear_of_each_other(shared: ValkeyShared) -> None:
    first = await shared.beat("h1", {"d1": Notice(state="open", seconds=5, reason="unavailable", kind="connect")})
    assert first.replicas == ("h1",)
    second = await shared.beat("h2", {})
    assert second.replicas == ("h1", "h2")
    heard = second.heard["d1"]
    assert (heard.by, heard.notice.state, heard.notice.kind) == ("h1", "open", "connect")
    assert heard.seconds == pytest.approx(5, abs=1)
    assert heard.age == pytest.approx(0, abs=1)
    await shared.beat("h2", {"d1": Notice(state="closed", seconds=0.05)})
    await asyncio.sleep(0.1)
    assert "d1" not in (await shared.beat("h1", {})).heard
    await shared.leave("h2")
    assert (await shared.beat("h1", {})).replicas == ("h1",)


@needs_valkey
async def test_replicas_say_who_they_are_until_they_are_silent(shared: ValkeyShared) -> None:
    about = About(version="1", host="a", pid=7, worker=2, up=3.5, inflight=4, money_held=10**9)
    await shared.beat("h1", {}, about)
    await shared.beat("h2", {}, None)  # an older release
    one, two = await shared.members()
    assert (one.holder, one.about, two.about) == ("h1", about, None)
    assert 0 <= one.silent < 3
    await shared.leave("h1")
    assert await shared._redis.hkeys(shared._fleet_keys[2]) == [b"h2"]
    assert [member.holder for member in await shared.members()] == ["h2"]


async def test_a_server_that_is_away_reads_only_or_stays_silent_is_said_so_and_found_again() -> None:
    server = Server()
    server.start()
    shared = ValkeyShared(server.url(), timeout=1.0)
    draw = Draw(bucket="b", limit=60, want=1)
    try:
        first, *_ = await asyncio.gather(*(shared.draw(draw) for _ in range(5)))
        server.say("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StorageUnavailable):
            await shared.draw(draw)
        with pytest.raises(StorageUnavailable):
            await shared.beat("h1", {})
        server.say("REPLICAOF", "NO", "ONE")
        assert (await shared.draw(draw)).granted == 1
        server.freeze()
        with pytest.raises(StorageUnavailable):
            await shared.draw(draw)
        server.thaw()
        server.say("FLUSHALL")
        server.say("SCRIPT", "FLUSH")
        assert (await shared.draw(draw)).born != first.born, "told by its name that it was emptied"
        server.stop()
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await shared.draw(draw)
        server.start()
        assert (await shared.draw(draw)).granted == 1, "the first try after it is back"
    finally:
        await shared.aclose()
        server.stop()


# -- answers ---------------------------------------------------------------------------------------------------------------
async def test_of_many_one_gets_the_name_and_the_others_its_answer(answers: Answers) -> None:
    claims = await asyncio.gather(*(answers.claim("n", print="p", holder=f"h{i}", seconds=60) for i in range(20)))
    assert sorted(claim.state for claim in claims) == ["mine"] + ["running"] * 19
    winner = f"h{[claim.state for claim in claims].index('mine')}"
    await answers.renew(["n"], holder=winner, seconds=60)
    await answers.drop("n", holder="somebody else")
    await answers.keep("n", holder="somebody else", kept=b"wrong", seconds=60)
    assert (await answers.claim("n", print="p", holder="h", seconds=60)).state == "running"
    assert (await answers.claim("n", print="q", holder="h", seconds=60)).state == "other"
    await answers.keep("n", holder=winner, kept=b"\x00right", seconds=60)
    done = await answers.claim("n", print="p", holder="h", seconds=60)
    assert (done.state, done.kept) == ("done", b"\x00right")
    await answers.drop("n", holder=winner)
    assert (await answers.claim("n", print="p", holder="h", seconds=60)).state == "done", "what is done stays"
    assert (await answers.claim("m", print="p", holder="h", seconds=60)).state == "mine"
    await answers.drop("m", holder="h")
    assert (await answers.claim("m", print="q", holder="h", seconds=60)).state == "mine", "free again"


async def test_what_ends_is_free_again(answers: Answers) -> None:
    await answers.claim("n", print="p", holder="h1", seconds=0.05)
    await asyncio.sleep(0.1)
    assert (await answers.claim("n", print="q", holder="h2", seconds=60)).state == "mine", "its holder has died"
    await answers.keep("n", holder="h1", kept=b"late", seconds=60)
    assert (await answers.claim("n", print="q", holder="h3", seconds=60)).state == "running"
    await answers.keep("n", holder="h2", kept=b"in time", seconds=0.05)
    await asyncio.sleep(0.1)
    assert (await answers.claim("n", print="p", holder="h1", seconds=60)).state == "mine", "a day is over"


async def test_one_process_keeps_within_its_bounds_and_never_forgets_what_runs() -> None:
    answers = MemoryAnswers(FakeClock(), most_bytes=1000, most_names=50)
    await answers.claim("running", print="p", holder="h", seconds=60)
    for i in range(200):
        await answers.claim(f"n{i}", print="p", holder="h", seconds=60)
        await answers.keep(f"n{i}", holder="h", kept=b"x" * 100, seconds=86400)
    states = [(await answers.claim(f"n{i}", print="p", holder="h2", seconds=1)).state for i in range(190, 200)]
    assert states == ["done"] * 10
    assert (await answers.claim("running", print="p", holder="h2", seconds=1)).state == "running"
    assert (await answers.claim("n0", print="p", holder="h2", seconds=1)).state == "mine"


@needs_valkey
async def test_who_is_cancelled_at_any_moment_of_a_call_ends(shared: ValkeyShared) -> None:
    """redis-py sends within asyncio.wait_for, which loses a cancellation that meets its end (until Python 3.12): a process
    that was told to end never did."""
    draw = Draw(bucket="cancelled", limit=1000, want=1)
    await shared.draw(draw)  # connected, and the script is there
    cancelled = 0
    for moment in range(40):
        calling = asyncio.create_task(shared.draw(draw))
        for _ in range(moment):
            await asyncio.sleep(0)
        was_running = calling.cancel()
        await asyncio.wait([calling])
        assert calling.cancelled() == was_running, f"cancelled after {moment} turns of the loop"
        cancelled += was_running
    assert cancelled > 1
    assert (await shared.draw(draw)).granted >= 0, "its connections are whole"


@needs_valkey
async def test_it_is_known_for_emptied_also_where_a_new_process_speaks_to_it_first(server: Server) -> None:
    url = server.new_database()
    old, new = ValkeyShared(url, timeout=5.0), ValkeyShared(url, timeout=5.0)

    async def beat(one: ValkeyShared, holder: str) -> str:
        return (await one.beat(holder, {}, None)).store

    known = await beat(old, "h1")
    server.say("FLUSHALL")
    first = await beat(new, "h2")
    told = await beat(old, "h1")
    assert len({known, first, told}) == 3
    assert await beat(new, "h2") == told == await beat(old, "h1"), "both hear of it, once"
    seating = Seating(bucket="b", limit=4, held=0, want=4, seconds=20.0, alone=20.0)
    assert (await new.seat(seating, holder="h2")).granted == 0
    await old.aclose()
    await new.aclose()
