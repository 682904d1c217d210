"""Connecting, waiting, breaking, leaving: every phase has its own error, and no broken connection is used again."""

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    DnsFailed,
    Exhausted,
    FirstByteTimeout,
    IdleTimeout,
    Limits,
    Origin,
    TotalTimeout,
)
from headgate.simulator.listener import unanswered_port
from support.exchange import QUICK, fetch, request_to, send, soon
from support.rawserver import Peer, RawServer

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


async def serve(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(HI)


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# -- connecting ----------------------------------------------------------------------------------------------------
async def test_refused_at_once(transport):
    start = time.monotonic()
    with pytest.raises(ConnectFailed) as caught:
        await send(transport, Origin("http", "127.0.0.1", closed_port()))
    assert type(caught.value) is ConnectFailed
    assert not caught.value.sent
    assert time.monotonic() - start < 1.5  # not after the 2 s that connecting may take


async def test_a_black_hole_is_a_connect_timeout(transport):
    with unanswered_port() as port:
        with pytest.raises(ConnectTimeout) as caught:
            await send(transport, Origin("http", "127.0.0.1", port), limits=Limits(connect=0.1))
        assert not caught.value.sent
        with pytest.raises(TotalTimeout) as caught:
            await send(transport, Origin("http", "127.0.0.1", port), limits=Limits(connect=5), total=0.1)
        assert not caught.value.sent


async def test_an_unknown_name(transport):
    with pytest.raises(DnsFailed) as caught:
        await send(transport, Origin("http", "no-such-host.invalid", 80))
    assert not caught.value.sent


async def test_ipv6(transport):
    heads: list[bytes] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.send(HI)

    try:
        server = await RawServer(script, host="::1").__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    try:
        assert await fetch(transport, server) == (200, b"hi")
        assert b"host: [::1]:%d\r\n" % server.port in heads[0].lower()
    finally:
        await server.__aexit__()


# -- waiting -------------------------------------------------------------------------------------------------------
async def test_no_first_byte_in_time(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(FirstByteTimeout) as caught:
            await send(transport, server, limits=Limits(first_byte=0.08))
        assert caught.value.sent


async def test_half_a_head_is_not_a_first_byte_in_time(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-le")
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(FirstByteTimeout):
            await send(transport, server, limits=Limits(first_byte=0.08))


@pytest.mark.parametrize("wire", [OK + b"x: " + b"y" * 400, b"HTTP/1.1 102 Processing\r\n\r\n" * 20])
async def test_a_head_that_trickles_is_not_a_first_byte_in_time(transport, wire):
    async def script(peer: Peer) -> None:
        await peer.request()
        for at in range(0, len(wire), 20):
            await peer.send(wire[at : at + 20])
            await asyncio.sleep(0.02)
        await peer.send(HI)
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(FirstByteTimeout):
            await send(transport, server, limits=Limits(first_byte=0.1))


async def test_a_server_that_stops_reading_the_request(transport):
    async def script(peer: Peer) -> None:
        await asyncio.sleep(30)

    async with RawServer(script) as server:
        with pytest.raises(FirstByteTimeout):
            await send(transport, server, body=bytes(30_000_000), limits=Limits(first_byte=0.15))


async def test_a_body_that_falls_silent(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server, limits=Limits(idle=0.08))
        assert await response.next() == b"hi"
        with pytest.raises(IdleTimeout):
            await response.next()
        await response.aclose()


@pytest.mark.parametrize("early", [True, False])
async def test_patience_with_a_silent_body_may_become_shorter(transport, early):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server, limits=Limits(idle=60.0), total=20)
        if early:
            response.silence(0.08)
        assert await response.next() == b"hi"
        response.silence(0.08)
        with pytest.raises(IdleTimeout):
            await response.next()
        await response.aclose()


async def test_what_came_while_our_own_loop_was_blocked_is_no_silence(transport):
    blocked, said = threading.Event(), threading.Event()

    def serve_it(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer:
            while b"\r\n\r\n" not in peer.recv(65536):
                pass
            peer.sendall(CHUNKED + b"2\r\nhi\r\n")
            blocked.wait(20)
            peer.sendall(b"4\r\n and\r\n0\r\n\r\n")
            said.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve_it, args=(listening,))
        thread.start()
        response = await send(transport, Origin("http", *listening.getsockname()), limits=Limits(idle=0.2), total=20)
        assert await response.next() == b"hi"
        reading = asyncio.ensure_future(response.read())
        await asyncio.sleep(0)
        blocked.set()
        said.wait(20)
        threading.Event().wait(0.4)  # the loop is blocked, what was said lies in its socket, and the limit passes
        assert await reading == b" and"
        await transport.aclose()
        thread.join(20)


async def test_a_trickle_is_not_silence_but_has_its_end(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.03)

    async with RawServer(script) as server:
        start = time.monotonic()
        response = await send(transport, server, limits=Limits(idle=0.15), total=0.5)
        seen = 0
        with pytest.raises(TotalTimeout):
            while await response.next():
                seen += 1
        assert seen >= 5
        assert 0.4 < time.monotonic() - start < 5.0


async def test_the_deadline_before_the_head(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with RawServer(script) as server:
        with pytest.raises(TotalTimeout):
            await send(transport, server, total=0.08)


async def test_silence_of_the_reader_is_not_the_servers(transport):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n0\r\n\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server, limits=Limits(idle=0.05))
        await asyncio.sleep(0.15)
        assert await response.read() == b"hi"


# -- breaking ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_closed_without_an_answer(transport, how):
    async def script(peer: Peer) -> None:
        await peer.request()
        if how == "reset":
            peer.reset()

    async with RawServer(script) as server:
        with pytest.raises(ConnectionLost) as caught:
            await fetch(transport, server)
        assert caught.value.sent


async def test_the_keep_alive_race_is_told_never_mended(transport):
    """A POST on a kept connection that the server closes at that moment may have been worked on."""
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1
        await peer.send(HI)
        await peer.request()
        requests += 1

    async with RawServer(script) as server:
        assert await fetch(transport, server) == (200, b"hi")
        with pytest.raises(ConnectionLost) as caught:
            await fetch(transport, server)
        assert caught.value.sent
        assert (requests, server.accepted) == (2, 1)
        assert await fetch(transport, server) == (200, b"hi")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_closed_while_idle_is_not_used(transport, how):
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HI)
        if how == "reset":
            await asyncio.sleep(0.01)
            peer.reset()
        over.set()

    async with RawServer(script) as server:
        for _ in range(3):
            over.clear()
            assert await fetch(transport, server) == (200, b"hi")
            await over.wait()
            await asyncio.sleep(0.05)  # the client's side of it, in this very loop
        assert server.accepted == 3


# -- keeping -------------------------------------------------------------------------------------------------------
async def test_connections_are_kept(transport):
    async with RawServer(serve) as server:
        for _ in range(5):
            assert await fetch(transport, server) == (200, b"hi")
        assert server.accepted == 1
        await asyncio.gather(*(fetch(transport, server) for _ in range(5)))
        assert server.accepted <= 5
        await asyncio.gather(*(fetch(transport, server) for _ in range(5)))
        assert server.accepted <= 5


@pytest.mark.parametrize("head", [b"connection: close\r\n", b"keep-alive: timeout=1\r\n"])
async def test_connections_that_the_server_will_close_are_not_kept(make, head):
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(OK + head + b"content-length: 2\r\n\r\nhi")

    transport = H1Transport() if b"timeout" in head else make()  # aiohttp does not read Keep-Alive
    async with RawServer(script) as server:
        for _ in range(2):
            assert await fetch(transport, server) == (200, b"hi")
        assert server.accepted == 2
    await transport.aclose()


async def test_idle_connections_expire(make):
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HI)
        await peer.gone()
        gone.set()

    transport = make(keepalive=0.05)
    async with RawServer(script) as server:
        await fetch(transport, server)
        await asyncio.wait_for(gone.wait(), 10)
        await fetch(transport, server)
        assert server.accepted == 2


async def test_no_more_connections_than_allowed(make):
    open_now = most = 0

    async def script(peer: Peer) -> None:
        nonlocal open_now, most
        while True:
            await peer.request()
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.01)
            open_now -= 1
            await peer.send(HI)

    transport = make(per_origin=2)
    async with RawServer(script) as server:
        answers = await asyncio.gather(*(fetch(transport, server) for _ in range(9)))
        assert answers == [(200, b"hi")] * 9
        assert (most, server.accepted) == (2, 2)


async def test_waiting_for_a_connection_has_its_time_too(make):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()

    transport = make(per_origin=1)
    async with RawServer(script) as server:
        response = await send(transport, server)
        # aiohttp does not tell a full pool from a slow server
        with pytest.raises((ConnectTimeout, Exhausted)) as caught:
            await send(transport, server, limits=Limits(connect=0.05))
        assert not caught.value.sent
        waiting = asyncio.create_task(send(transport, server))
        await asyncio.sleep(0.01)
        await response.aclose()
        other = await waiting
        assert await other.next() == b"hi"
        await other.aclose()


# -- leaving -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("phase", ["head", "body"])
async def test_cancelling_closes_at_once(transport, phase):
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number > 1:
            await peer.send(HI)
            return
        if phase == "head":
            arrived.set()
        else:
            await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:

        async def one() -> None:
            patient = Limits(connect=60.0, first_byte=60.0, idle=60.0)  # nothing but leaving closes it
            response = await send(transport, server, limits=patient, total=60.0)
            try:
                while await response.next():
                    arrived.set()
            finally:
                await response.aclose()

        task = asyncio.create_task(one())
        await arrived.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 10)
        assert await fetch(transport, server) == (200, b"hi")
        assert server.accepted == 2


async def test_a_closed_answer_is_over(transport):
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        response = await send(transport, server)
        assert await response.next() == b"hi"
        await response.aclose()
        await response.aclose()
        await asyncio.wait_for(gone.wait(), 10)
        with pytest.raises(ConnectionLost):
            await response.next()


async def test_a_late_close_does_not_touch_the_next_request(transport):
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HI)
        await peer.request()
        await peer.send(CHUNKED + b"3\r\none\r\n")
        await step.wait()
        await peer.send(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        first = await send(transport, server)
        assert await first.read() == b"hi"
        second = await send(transport, server)
        await first.aclose()
        first.release()
        step.set()
        assert await second.read() == b"onetwo"
        assert server.accepted == 1


async def test_an_answer_closed_unread_but_complete_keeps_its_connection(transport):
    async with RawServer(serve) as server:
        for _ in range(3):
            response = await send(transport, server)
            await asyncio.sleep(0.01)
            await response.aclose()
        assert server.accepted == 1


async def test_a_wait_for_more_can_be_given_up_and_taken_up_again(transport):
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
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await response.next()
        step.set()
        assert await response.next() == b"two"
        assert await response.next() == b""


async def test_a_slow_reader_stops_the_server(transport):
    """Memory is bounded: the server can send no more than what the kernel and one buffer hold."""
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
        response = await send(transport, server, limits=Limits(idle=0.2))
        await asyncio.sleep(0.3)
        assert sent < 20_000_000
        before = sent
        await asyncio.sleep(0.05)
        assert sent == before
        assert len(await response.next()) < 1_000_000
        for _ in range(50):
            await response.next()
        assert sent > before
        await response.aclose()


# -- ours alone ----------------------------------------------------------------------------------------------------
async def test_a_released_answer_keeps_its_connection_if_its_end_follows():
    transport = H1Transport()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
            await asyncio.sleep(0.02)
            await peer.send(b"0\r\n\r\n")

    async with RawServer(script) as server:
        for _ in range(3):
            response = await send(transport, server)
            assert await response.next() == b"[DONE]"
            response.release()
            await response.aclose()
            await asyncio.sleep(0.05)
        assert server.accepted == 1
    await transport.aclose()


@pytest.mark.parametrize("more", ["silence", "data"])
async def test_a_released_answer_that_goes_on_loses_its_connection(more):
    transport = H1Transport()
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
        if more == "data":
            await asyncio.sleep(0.02)
            await peer.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
        await peer.gone()
        gone.set()

    async with RawServer(script) as server:
        response = await send(transport, server)
        await response.next()
        response.release()
        await asyncio.wait_for(gone.wait(), 10)
        assert transport.idle(Origin("http", server.host, server.port)) == 0
    await transport.aclose()


async def test_closing_the_transport_ends_what_is_open():
    transport = H1Transport()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"2\r\nhi\r\n")
        await peer.gone()

    async with RawServer(script) as server:
        response = await send(transport, server)
        assert await response.next() == b"hi"
        waiting = asyncio.create_task(response.next())
        await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ConnectionLost):
            await waiting


async def test_one_timer_per_connection_however_many_requests(monkeypatch):
    transport = H1Transport()
    loop = asyncio.get_running_loop()
    async with RawServer(serve) as server:
        for _ in range(2):
            await fetch(transport, server)
        connection = next(iter(transport._pools.values())).idle[0]
        timer = connection._timer
        for _ in range(20):
            response = await transport.send(request_to(server), QUICK, soon(600))
            assert await response.read() == b"hi"
        assert connection._timer is timer
        assert loop.time() < connection._when
    await transport.aclose()
