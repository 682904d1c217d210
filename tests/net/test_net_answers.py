"""What a server may send, and what a client makes of it."""

import asyncio
import gzip
import zlib

import pytest

from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import (
    BodyTooLarge,
    ConnectionLost,
    FirstByteTimeout,
    HeaderTooLarge,
    Limits,
    ProtocolViolation,
)
from support.exchange import HEADERS, fetch, send
from support.rawserver import Peer, RawServer

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def answers(*pieces: bytes, then: str = "wait"):
    """A script: reads each request and sends the pieces; then waits for the client, closes or resets."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)
            if then == "close":
                return
            if then == "reset":
                await asyncio.sleep(0.02)
                peer.reset()
                return

    return script


def packed_answer(body: bytes) -> bytes:
    return OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def test_what_is_sent_is_what_was_asked_for(transport):
    heads: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(OK + b"Content-Length: 2\r\nX-Thing: A\r\nx-thing: b\r\n\r\nhi")

    async with RawServer(script) as server:
        response = await send(transport, server, extra=(("traceparent", "00-1"),))
        assert await response.read() == b"hi"
        assert response.status == 200
        assert [pair for pair in response.headers if pair[0] == b"x-thing"] == [(b"x-thing", b"A"), (b"x-thing", b"b")]
        assert response.header(b"x-thing") == b"A"
        assert response.header(b"absent") is None
    head, body = heads[0]
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/chat?x=1 http/1.1"
    assert sorted(line for line in lines[1:] if line) == sorted(
        [
            b"host: 127.0.0.1:%d" % server.port,
            b"authorization: bearer sk-test",
            b"content-type: application/json",
            b"accept-encoding: identity",
            b"traceparent: 00-1",
            b"content-length: 7",
        ]
    )
    assert body == b'{"a":1}'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_method_without_body(transport, method):
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            heads.append(await peer.head())
            await peer.send(OK + b"content-length: 2\r\n\r\n" + (b"hi" if method == "GET" else b""))

    async with RawServer(script) as server:
        for _ in range(2):
            status, body = await fetch(transport, server, method=method, body=b"")
            assert (status, body) == (200, b"hi" if method == "GET" else b"")
    assert b"content-length" not in heads[0].lower()


async def test_chunked_bodies_come_whole_however_they_are_cut(transport):
    wire = CHUNKED + b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nx-trailer: 1\r\n\r\n"
    async with RawServer(answers(wire)) as server:
        assert await fetch(transport, server) == (200, b"hello world")
    bytewise = [wire[i : i + 1] for i in range(len(wire))]
    async with RawServer(answers(*bytewise)) as server:
        assert await fetch(transport, server) == (200, b"hello world")


async def test_a_stream_arrives_as_it_is_sent(transport):
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"3\r\none\r\n")
        await step.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server)
        assert await response.next() == b"one"
        step.set()
        assert await response.next() == b"two"
        assert await response.next() == b""
        assert await response.next() == b""


async def test_interim_answers_are_swallowed(transport):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-encoding: br\r\n\r\n"
    async with RawServer(answers(interim, OK + b"content-length: 2\r\n\r\nhi")) as server:
        response = await send(transport, server)
        assert response.header(b"link") is None
        assert await response.read() == b"hi"


async def test_a_switch_of_protocols_is_refused(transport):
    wire = b"HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx"
    async with RawServer(answers(wire, then="close")) as server:
        with pytest.raises((ProtocolViolation, ConnectionLost)):
            await fetch(transport, server)


async def test_a_body_may_end_with_the_connection(transport):
    async with RawServer(answers(OK + b"\r\n", b"all ", b"of it", then="close")) as server:
        assert await fetch(transport, server) == (200, b"all of it")
        assert await fetch(transport, server) == (200, b"all of it")
        assert server.accepted == 2


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_body(transport, status):
    async with RawServer(answers(b"HTTP/1.1 %d X\r\n\r\n" % status)) as server:
        assert await fetch(transport, server) == (status, b"")
        assert await fetch(transport, server) == (status, b"")
        assert server.accepted == 1


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "wire",
    [
        OK + b"content-length: 10\r\n\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n",
        CHUNKED + b"8\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n0\r\n",
    ],
    ids=["length", "between-chunks", "within-a-chunk", "before-the-last-line"],
)
async def test_a_cut_body_never_looks_complete(transport, wire, then):
    async with RawServer(answers(wire, then=then)) as server:
        response = await send(transport, server)
        seen = b""
        with pytest.raises(ConnectionLost) as caught:
            while data := await response.next():
                seen += data
        assert seen in (b"half", b"")
        assert caught.value.sent


async def test_a_reset_ends_a_body_that_would_end_with_the_connection_as_an_error(transport):
    async with RawServer(answers(OK + b"\r\n", b"half", then="reset")) as server:
        response = await send(transport, server)
        with pytest.raises(ConnectionLost):
            while await response.next():
                pass


@pytest.mark.parametrize(
    "wire",
    [
        b"<html>log in</html>",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!",
        OK + b"content-length: -2\r\n\r\nhi",
        OK + b"content-length: 2, 2\r\n\r\nhi",
        OK + b"transfer-encoding: gzip\r\n\r\nhi",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"broken header\r\n\r\n",
        OK + b"x: a\x00b\r\n\r\n",
        OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nhi",
        OK + b"content-encoding: gzip, gzip\r\ncontent-length: 2\r\n\r\nhi",
        packed_answer(b"not gzip"),
        CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhiXX0\r\n\r\n",
        CHUNKED + b"FFFFFFFFFFFFFFFFFF\r\nhi",
    ],
)
async def test_what_is_not_http_is_refused(transport, wire):
    async with RawServer(answers(wire, then="close")) as server:
        with pytest.raises(ProtocolViolation) as caught:
            await fetch(transport, server)
        assert caught.value.sent


async def test_bytes_after_the_answer_spoil_only_their_connection(transport):
    forged = OK + b"content-length: 6\r\n\r\nforged"
    async with RawServer(answers(OK + b"content-length: 2\r\n\r\nhi" + forged)) as server:
        for _ in range(3):
            assert await fetch(transport, server) == (200, b"hi")
        assert server.accepted == 3


async def test_bytes_on_an_idle_connection_are_nobodys_answer(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 2\r\n\r\nhi")
        if peer.number == 1:
            await asyncio.sleep(0.02)
            await peer.send(OK + b"content-length: 6\r\n\r\nforged")
        await peer.gone()

    async with RawServer(script) as server:
        assert await fetch(transport, server) == (200, b"hi")
        await asyncio.sleep(0.06)
        assert await fetch(transport, server) == (200, b"hi")
        assert server.accepted == 2


async def test_gzip_that_nobody_asked_for_is_decoded(transport):
    text = b"data: {}\n\n" * 1000
    wire = packed_answer(gzip.compress(text[:5000]) + gzip.compress(text[5000:]))
    async with RawServer(answers(wire[:90], wire[90:])) as server:
        assert await fetch(transport, server) == (200, text)
        assert await fetch(transport, server) == (200, text)
        assert server.accepted == 1


async def test_a_gzip_bomb_goes_off_in_small(transport):
    wire = packed_answer(gzip.compress(bytes(50_000_000)))
    async with RawServer(answers(wire)) as server:
        response = await send(transport, server, limits=Limits(body_bytes=1_000_000))
        largest = total = 0
        with pytest.raises(BodyTooLarge):
            while data := await response.next():
                largest, total = max(largest, len(data)), total + len(data)
        assert largest <= 256 * 1024
        assert total <= 1_000_000


async def test_a_cut_gzip_stream_is_an_error(transport):
    wire = packed_answer(zlib.compress(b"x" * 100_000, wbits=31)[:-10])
    async with RawServer(answers(wire)) as server:
        with pytest.raises(ConnectionLost):
            await fetch(transport, server)


@pytest.mark.parametrize("framing", ["announced", "chunked", "close"])
async def test_bodies_have_a_limit(transport, framing):
    async def script(peer: Peer) -> None:
        await peer.request()
        if framing == "announced":
            await peer.send(OK + b"content-length: 10000000000\r\n\r\n")
        else:
            await peer.send(CHUNKED if framing == "chunked" else OK + b"\r\n")
        while True:
            await peer.send(b"1000\r\n" + b"x" * 4096 + b"\r\n" if framing == "chunked" else b"x" * 4096)

    async with RawServer(script) as server:
        with pytest.raises(BodyTooLarge):
            await fetch(transport, server, limits=Limits(body_bytes=100_000))


@pytest.mark.parametrize("what", ["one", "many", "endless-line", "endless-interim"])
async def test_heads_have_a_limit(transport, what):
    interim = b"HTTP/1.1 100 C\r\nx: " + b"y" * 4096 + b"\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        if what == "one":
            await peer.send(OK + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n")
        elif what == "many":
            await peer.send(OK + b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 4000 + b"content-length: 0\r\n\r\n")
        else:
            await peer.send(OK + b"x: " if what == "endless-line" else b"HTTP/1.1 100 C\r\n\r\n")
            while True:
                await peer.send(b"a" * 4096 if what == "endless-line" else interim)
        await peer.gone()

    # aiohttp does not count interim answers; there the wait for a final one ends them.
    expected = (HeaderTooLarge, FirstByteTimeout) if what == "endless-interim" else HeaderTooLarge
    async with RawServer(script) as server:
        with pytest.raises(expected):
            await fetch(transport, server, limits=Limits(first_byte=0.3))


async def test_trailers_have_a_limit_and_the_connection_is_closed():
    transport = H1Transport()  # aiohttp reads no trailers into memory
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n0\r\n", b"x-t: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 4000)
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        response = await send(transport, server)
        assert await response.next() == b"hi"
        with pytest.raises(HeaderTooLarge):
            while await response.next():
                pass
        await asyncio.wait_for(gone.wait(), 10)
    await transport.aclose()


async def test_redirects_are_given_back_and_cookies_forgotten(transport):
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            heads.append((await peer.request())[0])
            await peer.send(b"HTTP/1.1 302 F\r\nlocation: /else\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    async with RawServer(script) as server:
        assert await fetch(transport, server) == (302, b"")
        assert await fetch(transport, server) == (302, b"")
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_a_large_request_arrives_whole(transport):
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        for _ in range(2):
            bodies.append((await peer.request())[1])
            await peer.send(OK + b"content-length: 2\r\n\r\nhi")

    sent = bytes(range(256)) * 16_000
    async with RawServer(script) as server:
        for _ in range(2):
            assert await fetch(transport, server, body=sent) == (200, b"hi")
        assert server.accepted == 1
    assert bodies == [sent, sent]


async def test_an_early_answer_while_still_uploading(transport):
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 L\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.sleep(0.05)
        await peer.gone()

    async with RawServer(script) as server:
        body = bytes(8_000_000)
        assert await fetch(transport, server, body=body) == (413, b"big")
        assert await fetch(transport, server, body=body) == (413, b"big")
        assert server.accepted == 2  # half of a request is still on its way: nothing can follow it


async def test_a_header_that_would_break_the_head_is_refused(transport):
    async with RawServer(answers(OK + b"content-length: 0\r\n\r\n")) as server:
        for bad in (("x", "a\r\nhost: evil"), ("x", "a\x00"), ("a b", "c")):
            with pytest.raises(ValueError, match=r".") as caught:
                await send(transport, server, headers=(*HEADERS, bad))
            assert "sk-test" not in str(caught.value)
