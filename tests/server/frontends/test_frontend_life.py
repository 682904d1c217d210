"""Streams, slow and leaving clients, limits of time, draining."""

import asyncio
import os
import socket
import time
from collections.abc import Callable

import pytest

from headgate.server.frontends.sockets import bind
from support.rawclient import get, post

BIG = 20_000_000


async def until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- streams -------------------------------------------------------------------------------------------------------
async def test_a_stream_is_written_as_it_comes(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/stream"))
        head = await client.head()
        assert head.headers["transfer-encoding"] == "chunked"
        assert await client.chunk() == b"one"
        house.go_on.set()
        assert await client.chunk() == b"two"
        assert await client.chunk() == b""
        await client.send(get("/x"))
        assert (await client.answer()).status == 200


async def test_half_an_answer_never_looks_whole(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/broken"))
        assert (await client.head()).status == 200
        rest = await client.ended()
        assert b"0\r\n\r\n" not in rest


async def test_a_header_of_ours_cannot_break_out(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/split"))
        assert b"set-cookie" not in await client.ended(1.0)


async def test_what_follows_the_last_byte_is_not_cancelled(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/after"))
        assert (await client.answer()).body == b"all"
        await asyncio.sleep(0.06)
        assert (house.finished, house.cancelled) == (["/after"], [])


async def test_streams_in_http_1_0_end_with_the_connection(serve):
    async with serve() as house, house.client() as client:
        house.go_on.set()
        await client.send(get("/stream", "Connection: keep-alive", version="1.0"))
        answer = await client.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body == b"onetwo"


# -- leaving -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/hang", "/stream"])
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_cancels_its_request(serve, path, how):
    async with serve() as house, house.client() as client:
        await client.send(post(b"{}", path))
        await house.waiting.wait()
        if how == "half-close":
            client.writer.write_eof()
        elif how == "reset":
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.writer.transport.abort()
        else:
            client.writer.close()
        await asyncio.wait_for(house.left.wait(), 10)
        assert house.cancelled == [path]


async def test_a_client_that_leaves_before_its_body_is_complete_is_nobody(serve):
    async with serve() as house:
        async with house.client() as client:
            await client.send(get("/echo", "Content-Length: 100", method="POST") + b"half")
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.02)
        assert (house.seen, house.refused) == ([], [])


async def test_a_client_that_stops_reading_stops_the_stream(serve):
    async with serve() as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()
        await client.send(get("/flood"))
        await asyncio.sleep(0.15)
        written = house.written
        assert written < 30_000_000
        await asyncio.sleep(0.05)
        assert house.written == written
        assert house.cancelled == []


async def test_all_that_wait_for_a_client_that_stops_reading_go_on_with_it(serve):
    """An answer's next piece, and the heartbeat that is due while it waits."""
    async with serve() as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()
        await client.send(get("/both"))
        await asyncio.sleep(0.15)
        assert house.finished == []
        client.writer.transport.resume_reading()
        assert len((await client.answer()).body) == 2 * 160 * 65536


async def test_a_client_that_takes_nothing_for_too_long_is_cut(serve):
    async with serve(write_time=0.15) as house, house.client() as client:
        client.writer.transport.pause_reading()
        await client.send(get("/flood"))
        await asyncio.wait_for(house.left.wait(), 10)
        assert house.cancelled == ["/flood"]


@pytest.mark.parametrize("more", [(), ("Connection: close",)], ids=["kept", "closing"])
async def test_who_takes_nothing_of_a_whole_answer_is_cut(serve, more):
    """The handler is done with it, the connection is not."""
    async with serve(write_time=0.15, keepalive=1, body=BIG) as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()
        await client.send(post(bytes(BIG), "/echo", *more))
        await until(lambda: house.finished)
        await until(lambda: not house.open())


async def test_who_leaves_the_last_bytes_of_an_answer_is_cut_too(serve):
    """They are too few to pause for, and the connection has been idle for long."""
    async with serve(write_time=0.15, keepalive=1) as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()
        while not 0 < house.unsent() < 60_000:
            asked = len(house.seen)
            await client.send(post(bytes(30_000), "/echo"))
            await until(lambda asked=asked: len(house.finished) > asked)
        await until(lambda: not house.open())


@pytest.mark.parametrize("more", [(), ("Connection: close",)], ids=["kept", "closing"])
async def test_who_takes_a_whole_answer_slowly_gets_all_of_it(serve, more):
    """For longer than an idle connection is kept."""
    async with serve(write_time=5, keepalive=1, body=BIG) as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()
        await client.send(post(bytes(BIG), "/echo", *more))
        transport = client.writer.transport
        for _ in range(12):
            await asyncio.sleep(0.15)
            transport.resume_reading()
            await client.reader.readexactly(1_000_000)
            transport.pause_reading()
        transport.resume_reading()
        assert len(await client.ended(10)) >= BIG - 12_000_000


async def test_who_asks_on_and_takes_nothing_is_not_answered_on(serve):
    """Answers that wait for a client are bounded, however many he asks for."""
    async with serve() as house, house.client() as client:
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.writer.transport.pause_reading()

        async def ask_on() -> None:
            for _ in range(400):
                await client.send(post(bytes(60_000), "/echo"))
                await asyncio.sleep(0)

        asking = asyncio.create_task(ask_on())
        await asyncio.wait([asking], timeout=0.8)
        assert house.unsent() < 1_000_000
        assert not asking.done()
        client.writer.transport.resume_reading()
        for _ in range(400):
            assert len((await client.answer()).body) == 60_000
        await asking


# -- slow clients --------------------------------------------------------------------------------------------------
async def test_a_head_that_does_not_come_to_its_end(serve):
    async with serve(head_time=0.1) as house, house.client() as client:
        start = time.monotonic()
        await client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(30):
            await client.send(b"x: y\r\n")
            await asyncio.sleep(0.01)
        assert (await client.answer()).status == 408
        assert await client.ended() == b""
        assert time.monotonic() - start < 2
        assert house.seen == []


async def test_a_second_head_has_its_limit_too(serve):
    async with serve(head_time=0.1) as house, house.client() as client:
        await client.send(get("/x"))
        await client.answer()
        await client.send(b"GET / HTTP/1.1\r\n")
        assert (await client.answer()).status == 408


async def test_a_connection_without_a_request(serve):
    async with serve(head_time=0.1) as house, house.client() as client:
        assert await client.ended(2) == b""


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come(serve, framing):
    async with serve(body_time=0.1) as house, house.client() as client:
        await client.send(get("/echo", framing, method="POST"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (408, b'{"error": "request_timeout"}')
        assert await client.ended() == b""
        assert house.seen == []


@pytest.mark.parametrize("rest", [b"t: a\r\n\r\n", b"ost: a\r\nContent-Length: 5\r\n\r\nhello"])
@pytest.mark.parametrize("queued", [1, 0])
async def test_a_long_wait_for_the_answer_is_no_fault_of_the_client(serve, rest, queued):
    """While an earlier answer is awaited, the time of a request that is half here stands still."""
    async with serve(head_time=0.1, body_time=0.1, keepalive=1) as house, house.client() as client:
        begun = b"GET /x HTTP/1.1\r\nHos" if rest.startswith(b"t") else b"POST /echo HTTP/1.1\r\nH"
        await client.send(get("/hang") + post(b"second", "/echo") * queued + begun)
        await house.waiting.wait()
        await asyncio.sleep(0.3)
        house.go_on.set()
        assert (await client.answer()).body == b"late"
        for _ in range(queued):
            assert (await client.answer()).body == b"second"
        await client.send(rest)
        third = await client.answer()
        assert (third.status, third.body) == (200, b"GET /x?" if rest.startswith(b"t") else b"hello")


async def test_what_waited_for_its_turn_has_its_limit_then(serve):
    async with serve(head_time=0.1, keepalive=5) as house, house.client() as client:
        await client.send(get("/hang") + b"GET /x HTTP/1.1\r\nHos")
        await house.waiting.wait()
        house.go_on.set()
        assert (await client.answer()).body == b"late"
        assert (await client.answer()).status == 408
        assert await client.ended() == b""


async def test_a_body_half_here_waits_without_blame(serve):
    async with serve(head_time=0.1, body_time=0.1, keepalive=1) as house, house.client() as client:
        begun = get("/echo", "Content-Length: 5", method="POST") + b"he"
        await client.send(get("/hang") + post(b"second", "/echo") + begun)
        await house.waiting.wait()
        await asyncio.sleep(0.3)
        house.go_on.set()
        assert (await client.answer()).body == b"late"
        assert (await client.answer()).body == b"second"
        await client.send(b"llo")
        assert (await client.answer()).body == b"hello"


async def test_idle_connections_are_closed(serve):
    async with serve(keepalive=1) as house, house.client() as client:
        await client.send(get("/x"))
        await client.answer()
        start = time.monotonic()
        assert await client.ended() == b""
        assert time.monotonic() - start > 0.5


async def test_a_cap_on_connections(serve):
    async with serve(connections=2) as house, house.client() as one, house.client() as two:
        for client in (one, two):
            await client.send(get("/x"))
            assert (await client.answer()).status == 200
        async with house.client() as three:
            assert (await three.answer()).status == 503
            assert await three.ended() == b""
        await one.send(get("/x"))
        assert (await one.answer()).status == 200


# -- draining ------------------------------------------------------------------------------------------------------
async def test_draining(serve):
    """Idle connections close, running answers finish and say that they are the last, nobody new gets in."""
    async with serve() as house, house.client() as idle, house.client() as busy, house.client() as streaming:
        await idle.send(get("/x"))
        await idle.answer()
        await streaming.send(get("/stream"))
        await streaming.head()
        await busy.send(get("/hang"))
        await house.waiting.wait()
        await asyncio.sleep(0.01)
        house.front.drain()
        assert await idle.ended() == b""
        with pytest.raises(OSError):  # noqa: PT011  refused or reset, by the system
            async with house.client() as late:
                await late.send(get("/x"))
                if await late.ended(1) == b"":
                    raise ConnectionResetError
        closing = asyncio.create_task(house.front.close(3.0))
        await asyncio.sleep(0.02)
        house.go_on.set()
        answer = await busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert await streaming.chunk() == b"one"
        assert await streaming.chunk() == b"two"
        assert await streaming.chunk() == b""
        assert await streaming.ended() == b""
        await asyncio.wait_for(closing, 10)
        assert house.cancelled == []


async def test_what_does_not_end_in_time_is_cut(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/hang"))
        await house.waiting.wait()
        start = time.monotonic()
        await house.front.close(0.1)
        assert time.monotonic() - start < 1
        assert house.cancelled == ["/hang"]


# -- sockets -------------------------------------------------------------------------------------------------------
async def test_two_processes_may_listen_on_one_port(make_house):
    first, second = make_house(), make_house()
    for house in (first, second):
        sock = bind("127.0.0.1", first.port, reuse_port=True)
        house.port = sock.getsockname()[1]
        await house.front.start(sock)
    with pytest.raises(OSError):  # noqa: PT011  "in use", by the system
        bind("127.0.0.1", first.port)
    for _ in range(40):
        async with first.client() as client:
            await client.send(get("/x"))
            assert (await client.answer()).status == 200
    assert first.seen
    assert second.seen
    for house in (first, second):
        await house.front.close(0.0)


async def test_thousands_of_half_sent_heads_do_not_stop_the_others(serve):
    """Slow-loris: many connections that never end their heads."""
    async with serve(head_time=0.5) as house:
        limit = min(400, os.sysconf("SC_OPEN_MAX") // 4)
        slow = [socket.create_connection(("127.0.0.1", house.port)) for _ in range(limit)]
        for sock in slow:
            sock.setblocking(False)
            sock.send(b"GET / HTTP/1.1\r\nHost: a\r\nx: ")
        async with house.client() as client:
            await client.send(get("/x"))
            assert (await client.answer()).status == 200
        loop = asyncio.get_running_loop()
        for said in await asyncio.gather(*(loop.sock_recv(sock, 20) for sock in slow)):
            assert said.startswith(b"HTTP/1.1 408")
        for sock in slow:
            sock.close()
