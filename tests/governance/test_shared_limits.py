"""Limits of a fleet, on a real server: what is admitted by all together, with the store there, slow, emptied or gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from headgate.core.clock import SYSTEM
from headgate.core.errors import RateLimited, StorageUnavailable
from headgate.core.fleet import Draw, Drawn
from headgate.core.records import LimitSpec
from headgate.governance.limits import Bucket, Limiter, headers_of, take_all
from headgate.governance.places import ALONE
from headgate.governance.shared import SharedLimits
from headgate.governance.slices import Slice
from headgate.server.fleet import Fleet
from headgate.stores.valkey import ValkeyShared
from support.polling import until
from support.valkey import Server, Way, program

pytestmark = pytest.mark.skipif(program() is None, reason="no Valkey or Redis: sh scripts/shared.sh")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    one = Server()
    one.start()
    yield one
    one.stop()


class Counting:
    """Counts the questions that go to the store."""

    def __init__(self, inner: ValkeyShared) -> None:
        self._inner = inner
        self.asked = 0

    async def draw(self, draw: Draw) -> Drawn:
        self.asked += 1
        return await self._inner.draw(draw)

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


class Replica:
    def __init__(self, name: str, url: str, spec: LimitSpec, replicas: int, timeout: float = 5.0) -> None:
        self.events: list[str] = []
        self.shared = Counting(ValkeyShared(url, timeout=timeout))
        self.limits = SharedLimits(self.shared, name, SYSTEM, lambda kind, facts: self.events.append(kind))  # type: ignore[arg-type]
        self.limits.replicas = replicas
        self.limiters: list[Limiter] = [self.limits.limiter("key:k", spec)]
        self.used = Bucket(spec.requests_per_minute or 0)
        """What this one has admitted lately, as a limit of its own would see it."""

    async def ask(self, tokens: int = 1) -> float:
        """0 where it was admitted, else the seconds to wait."""
        for _ in range(3):
            if not self.limits.is_short(self.limiters, tokens):
                break
            await self.limits.ready(self.limiters, tokens)
        try:
            take_all(self.limiters, tokens, SYSTEM.monotonic())
        except RateLimited as error:
            return error.retry_after or 1e9
        self.used.take(1, SYSTEM.monotonic())
        return 0.0

    def over(self, tokens: int = 1, used: int = 1) -> None:
        self.limiters[0].leave()
        self.limiters[0].correct(tokens, used, SYSTEM.monotonic())

    async def flood(self, refusals: int, tokens: int = 1, used: int | None = None, pause: float = 0.005) -> int:
        """Asks without end until it has been refused so many times; how many requests were admitted."""
        admitted = 0
        while refusals:
            if await self.ask(tokens):
                refusals -= 1
                await asyncio.sleep(pause)
            else:
                admitted += 1
                self.over(tokens, tokens if used is None else used)
                if admitted % 20 == 0:
                    await asyncio.sleep(0)
        return admitted


@pytest.fixture
async def fleet(server: Server) -> AsyncIterator:
    made: list[Replica] = []
    url = server.new_database()

    def make(spec: LimitSpec, replicas: int = 3, *, at: str = url, timeout: float = 5.0) -> list[Replica]:
        made.extend(Replica(f"h{n}", at, spec, replicas, timeout) for n in range(replicas))
        return made

    yield make
    for replica in made:
        await replica.shared.aclose()


def check(admitted: int, limit: int, since: float, *, share: float = 0.98) -> None:
    """Never more than the limit and what comes back meanwhile; at least 98 % of it."""
    due = limit + limit * (time.monotonic() - since) / 60
    assert share * due - 1 <= admitted <= due + 1


@pytest.mark.parametrize("limit", [120, 3000, 30_000])
async def test_three_replicas_admit_the_limit_together(fleet, limit: int) -> None:
    replicas = fleet(LimitSpec(requests_per_minute=limit))
    start = time.monotonic()
    admitted = sum(await asyncio.gather(*(replica.flood(60) for replica in replicas)))
    check(admitted, limit, start)
    asked, seconds = sum(replica.shared.asked for replica in replicas), time.monotonic() - start
    # at the limit, each asks for the little that comes back: by the second, not by the request
    assert asked < admitted / 10 + 600 + 200 * seconds, f"{asked} questions for {admitted} requests in {seconds:.1f} s"


async def test_three_replicas_admit_the_tokens_of_the_limit_together_by_what_was_used(fleet) -> None:
    """Estimated at 1500, used 500: three times as many requests fit as the estimates say."""
    replicas = fleet(LimitSpec(tokens_per_minute=300_000))
    start = time.monotonic()
    admitted = sum(await asyncio.gather(*(replica.flood(60, 1500, 500) for replica in replicas)))
    for replica in replicas:
        await replica.limits.tend()
    due = 300_000 + 5000 * (time.monotonic() - start)
    assert admitted * 500 <= due + 1500
    # the last requests are refused by their estimates, not by what they would have used
    assert admitted * 500 >= 0.98 * due - 3 * 1500


async def test_a_lonely_replica_gets_what_the_others_do_not_use(fleet) -> None:
    replicas = fleet(LimitSpec(requests_per_minute=600))
    start = time.monotonic()
    for replica in replicas:
        assert await replica.ask() == 0
    admitted = len(replicas) + await replicas[0].flood(40)
    check(admitted, 600, start)
    waits = [await replica.ask() for replica in replicas[1:]]
    assert waits == [0.0, 0.0], "each of the others still has what it keeps ahead of use"


async def test_ordinary_requests_do_not_ask_the_store(fleet) -> None:
    (replica,) = fleet(LimitSpec(requests_per_minute=60_000, concurrent=1000), 1)
    assert await replica.ask() == 0
    before, waited = replica.shared.asked, 0
    for _ in range(2000):
        waited += replica.limits.is_short(replica.limiters, 1)
        assert await replica.ask() == 0
        replica.over()
        await asyncio.sleep(0)
    assert waited <= 5, "slices are drawn before they are needed"
    assert replica.shared.asked - before <= 10


async def test_a_refusal_tells_when_to_come_again_and_the_headers_what_is_left(fleet) -> None:
    one, other = fleet(LimitSpec(requests_per_minute=60), 2)
    assert [await one.ask() for _ in range(30)] == [0.0] * 30
    assert [await other.ask() for _ in range(28)] == [0.0] * 28
    told = dict(headers_of(one.limiters, SYSTEM.monotonic()))
    assert told["x-ratelimit-limit-requests"] == "60"
    while not (wait := await other.ask()):
        pass
    assert 0.3 < wait <= 1.0, "one comes back each second"
    told = dict(headers_of(other.limiters, SYSTEM.monotonic()))
    assert told["x-ratelimit-remaining-requests"] == "0"
    await asyncio.sleep(wait + 0.05)
    assert await other.ask() == 0, "the time that was told was true"


async def test_places_are_shared_and_come_back(fleet) -> None:
    replicas = fleet(LimitSpec(concurrent=10))

    async def enter(replica: Replica) -> bool:
        return not await replica.ask()

    came = await asyncio.gather(*(enter(replica) for replica in replicas for _ in range(10)))
    assert sum(came) == 10
    for replica in replicas:
        assert replica.limiters[0].running <= 10
    first = next(replica for replica in replicas if replica.limiters[0].running)
    first.over()
    await first.limits.tend()
    await asyncio.sleep(1.1)
    await first.limits.tend()
    other = next(replica for replica in replicas if replica is not first)
    assert await enter(other), "a place that is free here is free for all"
    assert not await enter(first)


# -- without the store -----------------------------------------------------------------------------------------------------
async def test_without_the_store_each_goes_on_with_its_share_and_tells_what_it_used(fleet) -> None:
    server = Server()
    server.start()
    try:
        replicas = fleet(LimitSpec(requests_per_minute=600), 3, at=server.url())
        start = time.monotonic()
        assert [await replica.ask() for replica in replicas for _ in range(100)] == [0.0] * 300
        server.stop()
        admitted = 300 + sum(await asyncio.gather(*(replica.flood(20) for replica in replicas)))
        check(admitted, 600, start, share=0.95)
        assert [replica.events for replica in replicas] == [["shared_store_lost"]] * 3, "said once"
        server.start()
        for replica in replicas:
            await replica.shared.beat("h", {})
            replica.limits.found()
        for replica in (*replicas, *replicas):  # what was used meanwhile, then what the store has forgotten
            await replica.limits.tend()
        more = sum(await asyncio.gather(*(replica.flood(10) for replica in replicas)))
        passed = time.monotonic() - start  # each has told its own part of the minute, less what came back since
        assert admitted + more <= 600 + 3 * 10 * passed + 1, "what was used without the store is booked"
        assert all(replica.events[-1] == "shared_store_back" for replica in replicas)
    finally:
        server.stop()


async def test_one_replica_that_is_cut_off_adds_its_share_at_most(fleet, server: Server) -> None:
    way = await Way(server.port).start()
    url = server.new_database()
    replicas = fleet(LimitSpec(requests_per_minute=300), 2, at=url)
    far = fleet(LimitSpec(requests_per_minute=300), 1, at=url.replace(str(server.port), str(way.port)), timeout=0.5)[-1]
    far.limits.replicas = 3
    way.cut()
    start = time.monotonic()
    admitted = [await replica.flood(20) for replica in (far, *replicas[:2])]
    share = 100 + (time.monotonic() - start) * 100 / 60
    assert 95 <= admitted[0] <= share + 1
    assert sum(admitted[1:]) <= 300 + (time.monotonic() - start) * 5 + 1
    await way.stop()


def beyond(replicas: list[Replica], limit: int) -> float:
    """What an emptied store may cost (shared.py): each one's share, less what it or the store says was used."""
    now, share, out = SYSTEM.monotonic(), limit / len(replicas), 0.0
    for replica in replicas:
        part = replica.limiters[0].requests
        assert isinstance(part, Slice)
        own = (replica.used.tat - now) / replica.used.interval
        out += max(0.0, share - max(own, share * (part.tat - now) / 60, 0.0))
    return out


@pytest.mark.parametrize(
    ("first", "pause"),
    [((200, 200, 200), 0.0), ((560, 20, 20), 0.0), ((0, 600, 0), 0.0), ((0, 600, 0), 0.7)],
    ids=["alike", "mostly-one", "one", "one-that-is-heard-first"],
)
async def test_a_store_that_is_emptied_is_told_again(fleet, first: tuple[int, ...], pause: float) -> None:
    """Everybody floods it afterwards, but for the one that has used most: others hear of that at its next look only. At the
    first beat after the `pause` each seems to be alone."""
    own = Server()
    own.start()
    replicas = fleet(LimitSpec(requests_per_minute=600), 3, at=own.url())
    houses = [Fleet(replica.shared, replica.limits, dict, SYSTEM) for replica in replicas]  # type: ignore[arg-type]
    looks = [asyncio.create_task(house.run()) for house in houses]
    try:
        await asyncio.to_thread(until, lambda: [len(house.replicas) for house in houses] == [3, 3, 3])
        start, admitted = time.monotonic(), 0
        for replica, count in zip(replicas, first, strict=True):
            for _ in range(count):
                admitted += not await replica.ask()
                replica.limiters[0].running -= 1
        check(admitted, 600, start, share=0.8)
        await asyncio.to_thread(own.say, "FLUSHALL")
        more = beyond(replicas, 600)
        await asyncio.sleep(pause)
        busy = [replica for replica, count in zip(replicas, first, strict=True) if count < max(first)] or replicas
        ends = time.monotonic() + 4
        while time.monotonic() < ends:  # well past the seconds in which each keeps to its share
            admitted += sum(await asyncio.gather(*(replica.flood(20) for replica in busy)))
        due = 600 + 10 * (time.monotonic() - start)
        assert admitted <= due + more + 1, f"{more:.0f} may come on top"
        assert admitted >= 0.95 * due, "and nobody starves"
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        own.stop()


async def test_an_emptied_store_gives_no_place_twice(fleet) -> None:
    """All places are held by one; the others ask for them without a pause from the moment in which the store forgets."""
    own = Server()
    own.start()
    replicas = fleet(LimitSpec(concurrent=10), 3, at=own.url())
    houses = [Fleet(replica.shared, replica.limits, dict, SYSTEM) for replica in replicas]  # type: ignore[arg-type]
    looks = [asyncio.create_task(house.run()) for house in houses]
    try:
        await asyncio.to_thread(until, lambda: [len(house.replicas) for house in houses] == [3, 3, 3])
        first, *others = replicas
        assert [await first.ask() for _ in range(10)] == [0.0] * 10
        await asyncio.to_thread(own.say, "FLUSHALL")
        ends = time.monotonic() + 2 * ALONE
        while time.monotonic() < ends:
            for replica in others:
                assert await replica.ask() > 0
            await asyncio.sleep(0.005)
        for _ in range(10):
            first.over()
        async with asyncio.timeout(30):
            while await others[0].ask():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        own.stop()


async def test_what_ran_without_the_store_has_its_places_when_it_is_back(fleet) -> None:
    own = Server()
    own.start()
    replicas = fleet(LimitSpec(concurrent=9), 3, at=own.url())
    try:
        own.stop()
        assert [await replica.ask() for replica in replicas for _ in range(3)] == [0.0] * 9, "a third for each"
        own.start()
        for replica in replicas:
            await replica.shared.beat("h", {})
            replica.limits.found()
            await replica.limits.tend()
        assert all([await replica.ask() > 0 for replica in replicas]), "nine run already"
    finally:
        own.stop()


async def test_an_emptied_store_after_minutes_at_the_limit_gives_no_second_minute(fleet) -> None:
    """What each has used lately says little by then: what the store last told of all does."""
    own = Server()
    own.start()
    replicas = fleet(LimitSpec(requests_per_minute=600), 3, at=own.url())
    try:
        start = time.monotonic()
        admitted = sum(await asyncio.gather(*(replica.flood(10) for replica in replicas)))
        for replica in replicas:
            part = replica.limiters[0].requests
            assert isinstance(part, Slice)
            part.own = replica.used.tat = (
                SYSTEM.monotonic()
            )  # as after a while in which each got a third of what came back
        own.say("FLUSHALL")
        more = beyond(replicas, 600)
        admitted += sum(await asyncio.gather(*(replica.flood(40) for replica in replicas)))
        due = 600 + 10 * (time.monotonic() - start)
        assert admitted <= due + more + 1
        assert more < 20
    finally:
        own.stop()


@pytest.mark.parametrize("policy", ["closed", "open"])
async def test_a_lost_store_closes_or_opens_as_configured(fleet, policy) -> None:
    own = Server()
    own.start()
    (replica,) = fleet(LimitSpec(requests_per_minute=10, concurrent=2), 1, at=own.url())
    replica.limits.on_store_loss = policy
    assert await replica.ask() == 0
    own.stop()
    with_store = replica.limiters[0].running
    if policy == "open":
        assert [await replica.ask() for _ in range(50)] == [0.0] * 50
        assert replica.limiters[0].running == with_store + 50
        return
    with pytest.raises(StorageUnavailable):
        for _ in range(12):
            await replica.ask()


async def test_a_slow_store_is_waited_for_once(fleet, server: Server) -> None:
    way = await Way(server.port).start()
    url = server.new_database().replace(str(server.port), str(way.port))
    (replica,) = fleet(LimitSpec(requests_per_minute=60), 1, at=url, timeout=0.3)
    way.delay = 2.0
    start = time.monotonic()
    assert [await replica.ask() for _ in range(60)] == [0.0] * 60
    assert time.monotonic() - start < 1.5, "the first one waits for the timeout, nobody for the store"
    assert await replica.ask() > 0
    await way.stop()
