"""The simulator as a transport, on time that jumps."""

import asyncio
import time

import pytest

from headgate.net.transport import protocol as net
from headgate.simulator import script as s
from headgate.simulator.app import Simulator
from headgate.simulator.demo import MODELS
from headgate.simulator.inprocess import InProcess, VirtualClock, run_virtually

ORIGIN = net.Origin("http", "sim", 80)


def request(target="/x", body=b"{}"):
    return net.HttpRequest(
        origin=ORIGIN, method="POST", target=target, headers=(("authorization", "Bearer k"),), body=body
    )


def asked(script, *, limits=None, total=1000.0, target="/x"):
    """(status, body or error, virtual seconds, the call)"""

    async def main():
        calls = []

        def respond(call):
            calls.append(call)
            return script

        loop = asyncio.get_running_loop()
        transport = InProcess(respond)
        began = loop.time()
        try:
            response = await transport.send(request(target), limits or net.Limits(), began + total)
            got = (response.status, await response.read())
        except net.TransportError as error:
            got = (None, type(error))
        assert transport.open == 0
        assert calls[0].ended.is_set()
        return *got, loop.time() - began, calls[0]

    return run_virtually(main())


def test_hours_pass_in_no_time():
    before = time.monotonic()
    status, body, took, call = asked(s.drip(b"{}", every=1800.0), limits=net.Limits(idle=3600.0), total=1e6)
    assert (status, body, took) == (200, b"{}", 3600.0)
    assert call.complete
    assert time.monotonic() - before < 1


@pytest.mark.parametrize(
    ("script", "error", "took"),
    [
        ([s.Hang()], net.FirstByteTimeout, 600.0),
        ([s.Head(), s.Body(b"x"), s.Hang()], net.IdleTimeout, 60.0),
        ([s.Reset()], net.ConnectionLost, 0.0),
        ([], net.ConnectionLost, 0.0),
        ([s.Head(), s.Body(b"x"), s.Reset()], net.ConnectionLost, 0.0),
        (s.short(b"{}"), net.ConnectionLost, 0.0),
        (s.not_http(), net.ProtocolViolation, 0.0),
        (s.bad_chunk_size(), net.ProtocolViolation, 0.0),
    ],
)
def test_faults_are_the_transports_own(script, error, took):
    status, got, seconds, call = asked(script)
    assert (status, got) == (None, error)
    assert seconds == pytest.approx(took, abs=0.01)
    assert call.left is not None


def test_limits_of_time_and_size():
    assert asked([s.Head(), s.Body(b"x"), s.Hang()], total=7.0)[1:3] == (net.TotalTimeout, 7.0)
    assert asked(s.flood(size=1 << 20), limits=net.Limits(body_bytes=1 << 18))[1] is net.BodyTooLarge
    assert asked([s.Head(200, (), "close"), s.Body(b"all")])[:2] == (200, b"all")


def test_a_reader_that_leaves_is_noticed():
    async def main():
        closed = []

        def endless(_):
            try:
                yield s.Head()
                while True:
                    yield s.Body(b"x")
                    yield s.Pause(1)
            finally:
                closed.append(True)

        transport = InProcess(endless)
        response = await transport.send(request(), net.Limits(), 1000)
        assert await response.next() == b"x"
        await response.aclose()
        await response.aclose()
        assert (closed, transport.open) == ([True], 0)
        slow = asyncio.ensure_future(InProcess(lambda _: [s.Hang()]).send(request(), net.Limits(), 1000))
        await asyncio.sleep(1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow

    run_virtually(main())


def test_a_whole_simulator_without_sockets():
    async def main():
        sim = Simulator(MODELS, clock=VirtualClock())
        transport = sim.transport()
        target = "/openai/v1/chat/completions"
        body = b'{"model": "gpt-5.5", "messages": []}'
        await sim.break_model("gpt-5.5", "503")
        response = await transport.send(request(target, body), net.Limits(), 1000)
        assert response.status == 503
        assert response.header(b"content-type") == b"application/json"
        assert b"overloaded" in await response.read()
        await sim.break_model("gpt-5.5", "refuse")
        with pytest.raises(net.ConnectFailed):
            await transport.send(request(target, body), net.Limits(), 1000)
        assert [served.mode for served in sim.log] == ["503"]

    run_virtually(main())
