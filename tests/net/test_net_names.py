"""Names: remembered, shared, and kept through a name server's troubles."""

import asyncio
import socket

import pytest

from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.names import Address, CachingResolver
from headgate.net.transport.protocol import ConnectFailed, DnsFailed, Origin
from support.exchange import fetch, send
from support.rawserver import Peer, RawServer

HERE = Address(socket.AF_INET, ("127.0.0.1", 80))


class Names:
    """A name server that counts, and fails or dawdles on demand."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.broken = False
        self.slow = 0.0

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked += 1
        await asyncio.sleep(self.slow)
        if self.broken:
            raise DnsFailed(host)
        return self.addresses


async def test_one_lookup_for_all_who_ask():
    names = Names(HERE)
    resolver = CachingResolver(names)
    found = await asyncio.gather(*(resolver.resolve("a", 80) for _ in range(5)))
    assert found == [[HERE]] * 5
    assert await resolver.resolve("a", 80) == [HERE]
    assert names.asked == 1


async def test_answers_expire():
    names = Names(HERE)
    resolver = CachingResolver(names, ttl=0.0)
    await resolver.resolve("a", 80)
    names.addresses = [Address(socket.AF_INET, ("127.0.0.2", 80))]
    assert await resolver.resolve("a", 80) == names.addresses


@pytest.mark.parametrize("trouble", ["broken", "slow"])
async def test_the_old_answer_serves_while_lookups_fail(trouble):
    names = Names(HERE)
    resolver = CachingResolver(names, ttl=0.0, patience=0.02)
    await resolver.resolve("a", 80)
    names.broken, names.slow = trouble == "broken", 5.0 if trouble == "slow" else 0.0
    assert await resolver.resolve("a", 80) == [HERE]
    forgetful = CachingResolver(names, ttl=0.0, stale=0.0)
    names.slow, names.broken = 0.0, True
    with pytest.raises(DnsFailed):
        await forgetful.resolve("a", 80)


async def test_who_gives_up_does_not_take_the_lookup_from_others():
    names = Names(HERE)
    names.slow = 0.02
    resolver = CachingResolver(names)
    first = asyncio.create_task(resolver.resolve("a", 80))
    second = asyncio.create_task(resolver.resolve("a", 80))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == [HERE]
    assert names.asked == 1


async def test_literals_are_not_looked_up():
    names = Names()
    resolver = CachingResolver(names)
    assert await resolver.resolve("127.0.0.1", 80) == [HERE]
    assert (await resolver.resolve("::1", 80))[0].family == socket.AF_INET6
    assert names.asked == 0


async def test_the_next_address_is_tried_and_a_dead_set_is_forgotten():
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    async with RawServer(script) as server:
        alive = Address(socket.AF_INET, ("127.0.0.1", server.port))
        dead = Address(socket.AF_INET, ("127.0.0.9", server.port))
        names = Names(dead, alive)
        transport = H1Transport(resolver=CachingResolver(names))
        origin = Origin("http", "a.test", server.port)
        assert await fetch(transport, origin) == (200, b"hi")
        await transport.aclose()
        names.addresses = [dead]
        transport = H1Transport(resolver=CachingResolver(names))
        with pytest.raises(ConnectFailed):
            await send(transport, origin)
        names.addresses = [alive]
        assert await fetch(transport, origin) == (200, b"hi")
        await transport.aclose()
