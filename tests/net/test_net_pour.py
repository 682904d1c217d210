"""A body that is poured: handed over as it arrives, in order, whole, and with the same end as one that is waited for."""

import asyncio
import gzip
import socket

import pytest

from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.h1_connection import HIGH_WATER
from headgate.net.transport.protocol import (
    BodyTooLarge,
    ConnectionLost,
    IdleTimeout,
    Limits,
    ProtocolViolation,
    TotalTimeout,
)
from support.exchange import send
from support.rawserver import Peer, RawServer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def saying(*pieces: bytes, then: str = "wait"):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.gone()

    return script


class Taken:
    """Takes all that comes; `enough`: says False with the piece that makes it so long."""

    def __init__(self, enough: int = 1 << 60) -> None:
        self.data = b""
        self.calls = 0
        self.enough = enough

    def __call__(self, data: bytes) -> bool:
        assert data
        self.data += data
        self.calls += 1
        return len(self.data) < self.enough


async def to_its_end(response, taken: Taken) -> None:
    while True:
        await response.pour(taken)
        if not (data := await response.next()):
            return
        taken(data)


async def test_all_of_it_is_poured_and_its_end_is_told_afterwards(transport):
    async with RawServer(saying(CHUNKED, *(chunk(b"%03d" % i) for i in range(50)), END)) as server:
        response = await send(transport, server)
        taken = Taken()
        await response.pour(taken)
        assert taken.data == b"".join(b"%03d" % i for i in range(50))
        assert await response.next() == b""


async def test_an_end_in_the_packet_of_the_last_words(transport):
    async with RawServer(saying(CHUNKED, chunk(b"one"), chunk(b"two") + chunk(b"three") + END)) as server:
        response = await send(transport, server)
        taken = Taken()
        await response.pour(taken)
        assert taken.data == b"onetwothree"
        assert await response.next() == b""


async def test_who_has_enough_gets_the_rest_in_order(transport):
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED, chunk(b"one"), chunk(b"two"))
        await step.wait()
        await peer.send(chunk(b"three"), chunk(b"four"), END)
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server)
        taken = Taken(enough=6)
        await response.pour(taken)
        assert taken.data == b"onetwo"
        step.set()
        await asyncio.sleep(0.05)  # what comes now comes while nobody pours
        assert taken.data == b"onetwo"
        taken.enough = 1 << 60
        await response.pour(taken)
        assert taken.data == b"onetwothreefour"
        assert await response.next() == b""


async def test_what_arrives_between_enough_and_the_waking_waits():
    """Two packets in one turn of the loop: the reader has said False to the first and has not run yet."""
    transport = H1Transport()
    async with RawServer(saying(CHUNKED)) as server:
        response = await send(transport, server)
        connection = response._connection
        assert connection is not None
        taken = Taken(enough=3)
        pouring = asyncio.ensure_future(response.pour(taken))
        await asyncio.sleep(0)
        connection.data_received(chunk(b"one"))
        connection.data_received(chunk(b"two") + END)
        await pouring
        assert taken.data == b"one"
        assert await response.next() == b"two"
        assert await response.next() == b""
        await transport.aclose()


async def test_what_was_poured_does_not_count_as_unread():
    """After much that was poured comes a packet without a byte of the body: nobody would read on from a pause."""
    transport = H1Transport()
    async with RawServer(saying(CHUNKED)) as server:
        response = await send(transport, server)
        connection = response._connection
        assert connection is not None
        taken = Taken(enough=HIGH_WATER + 1)
        pouring = asyncio.ensure_future(response.pour(taken))
        await asyncio.sleep(0)
        connection.data_received(chunk(bytes(HIGH_WATER + 1)))
        await pouring
        connection.data_received(b"3\r")
        assert not connection._paused
        connection.data_received(b"\nend\r\n" + END)
        assert await response.read() == b"end"
        await transport.aclose()


async def test_a_reader_that_fails_hears_of_it_and_nothing_is_lost(transport):
    async with RawServer(saying(CHUNKED, chunk(b"bad"), chunk(b"good") + END)) as server:
        response = await send(transport, server)

        def fails(data: bytes) -> bool:
            raise ValueError(data.decode()[:3])

        with pytest.raises(ValueError, match="bad"):
            await response.pour(fails)
        rest = b""
        while data := await response.next():
            rest += data
        assert rest in (b"good", b"")  # b"": both came together


@pytest.mark.parametrize(
    ("pieces", "then", "limits", "error"),
    [
        ((CHUNKED, chunk(b"hi")), "reset", Limits(), ConnectionLost),
        ((CHUNKED, chunk(b"hi")), "close", Limits(), ConnectionLost),
        ((CHUNKED, chunk(b"hi")), "wait", Limits(idle=0.1), IdleTimeout),
        ((CHUNKED, chunk(b"hi"), chunk(bytes(2000))), "wait", Limits(body_bytes=1000), BodyTooLarge),
    ],
    ids=["reset", "close", "silence", "too large"],
)
async def test_a_body_that_breaks_is_told_after_what_came_of_it(transport, pieces, then, limits, error):
    async with RawServer(saying(*pieces, then=then)) as server:
        response = await send(transport, server, limits=limits)
        taken = Taken()
        with pytest.raises(error):
            await to_its_end(response, taken)
        assert taken.data.startswith(b"hi")
        await response.aclose()


async def test_words_that_come_with_the_breach_are_kept():
    """In one packet: what was whole before the breach is not lost."""
    transport = H1Transport()
    async with RawServer(saying(CHUNKED, chunk(b"hi"), chunk(b"there") + b"zz\r\n")) as server:
        response = await send(transport, server)
        taken = Taken()
        with pytest.raises(ProtocolViolation):
            await to_its_end(response, taken)
        assert taken.data == b"hithere"
        await transport.aclose()


async def test_the_deadline_ends_a_trickle_that_is_poured(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(chunk(b"x"))
            await asyncio.sleep(0.02)

    async with RawServer(script) as server:
        response = await send(transport, server, limits=Limits(idle=0.5), total=0.4)
        taken = Taken()
        with pytest.raises(TotalTimeout):
            await response.pour(taken)
            await response.next()
        assert taken.data


async def test_a_packed_body_is_poured_unpacked(transport):
    packed = gzip.compress(b"words " * 1000)
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with RawServer(saying(head, packed[:20], packed[20:])) as server:
        response = await send(transport, server)
        taken = Taken()
        await response.pour(taken)
        assert taken.data == b"words " * 1000
        assert await response.next() == b""


async def test_who_gives_up_waiting_may_go_on(transport):
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"one"))
        await step.wait()
        await peer.send(chunk(b"two") + END)
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server)
        taken = Taken()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await response.pour(taken)
        assert taken.data == b"one"
        step.set()
        assert await response.next() == b"two"
        assert taken.data == b"one"


async def test_closing_it_ends_the_pouring(transport):
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"one"))
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        response = await send(transport, server)
        pouring = asyncio.ensure_future(response.pour(Taken()))
        await asyncio.sleep(0.02)
        pouring.cancel()
        await asyncio.wait([pouring])
        await response.aclose()
        await asyncio.wait_for(gone.wait(), 5)


async def test_who_takes_no_more_stops_the_server(transport):
    """Memory is bounded, as where it is waited for."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        await peer.send(OK + b"content-length: 200000000\r\n\r\n")
        for _ in range(2000):
            await peer.send(bytes(100_000))
            sent += 100_000

    async with RawServer(script) as server:
        response = await send(transport, server, limits=Limits(idle=5.0))
        taken = Taken(enough=1_000_000)
        await response.pour(taken)
        await asyncio.sleep(0.3)
        assert sent < 20_000_000
        before = sent
        await asyncio.sleep(0.05)
        assert sent == before
        taken.enough = 30_000_000
        await response.pour(taken)
        assert sent > before
        await response.aclose()
