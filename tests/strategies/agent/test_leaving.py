"""A client that leaves: its run has a grace, then everything that it started ends. On virtual time, and once on sockets
under both front ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.frontends.uvicorn import UvicornFrontEnd
from headgate.server.http import HttpLimits, Request
from headgate.simulator import script as s
from headgate.simulator.scripted import FakeUpstream
from support.gateway import ENV, RunningGateway
from support.virtual import MESSAGES, Heard, VirtualGateway, answer, either, streamed, virtually

GRACE = 5.0
CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  planner: {provider: openai, upstream: planner, price: {input: 1, output: 1}}
  worker: {provider: openai, upstream: worker, price: {input: 1, output: 1},
    timeout: {total: 10m, first_token: 5m, idle: 5m}}
  agent: {agent: {planner: planner, models: [worker], grace: 5s, budget: {max_cost: 1.00}}}
  hasty: {agent: {planner: planner, models: [worker], grace: 0s}}
  routed: {fallback: [agent]}
  panel: {ensemble: {members: [agent, worker]}}
"""
STEPS = [{"name": "a", "model": "worker", "query": "first"}, {"name": "b", "model": "worker", "query": "second"}]
PLAN = json.dumps({"steps": STEPS})


def gateway(*, working: float) -> VirtualGateway:
    """Two steps that take `working` seconds each, at the same time; all else at once."""
    it = VirtualGateway(CONFIG)
    it.fake.on("planner", answer(PLAN), either(answer("The end."), streamed("The ", "end.")))
    it.fake.on("worker", answer("done", after=working))
    return it


async def leave(
    it: VirtualGateway, model: str, after: float, *, stream: bool, again: bool = False, key: str = ""
) -> tuple[Heard, float]:
    """(what came, when the request was over). The client leaves `after` seconds; `again`: a second cancellation, a second
    later, as a process makes that ends."""
    given = {"host": "localhost", **({"idempotency-key": key} if key else {})}
    body = json.dumps({"model": model, "messages": MESSAGES, "stream": stream}).encode()
    heard = Heard()
    task = asyncio.create_task(
        it.plane(Request("POST", "/v1/chat/completions", "", given, list(given.items()), body), heard)
    )
    await asyncio.sleep(after)
    heard.left = True
    task.cancel()
    if again:
        await asyncio.sleep(1.0)
        task.cancel()
    await asyncio.wait([task])
    return heard, it.clock.monotonic()


@pytest.mark.parametrize("model", ["agent", "routed"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_longer_than_the_grace_is_cancelled_at_its_end(model, stream):
    async def main() -> None:
        it = gateway(working=100.0)
        _, ended = await leave(it, model, 2.0, stream=stream)
        assert ended == pytest.approx(2.0 + GRACE, abs=0.01)
        assert it.transport.open == 0
        it.ledger.check()
        trace, record = it.house.recent(1)[0]
        assert (record.status, record.error) == (499, "client_left")
        assert sorted((a.role, a.outcome) for a in trace.attempts) == [
            ("planner", "ok"), ("step", "cancelled"), ("step", "cancelled"),
        ]  # fmt: skip
        assert sum(it.ledger.outcomes[a.id].cost or 0 for a in trace.attempts) == record.cost
        assert [d.because for d in trace.decisions][-2:] == [
            "the client has left: the run has 5 s to end", "the client has not come back: the run is cancelled",
        ]  # fmt: skip

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_what_ends_within_the_grace_is_whole_and_waits_for_the_client_that_comes_back(stream):
    async def main() -> None:
        it = gateway(working=4.0)
        heard, ended = await leave(it, "agent", 2.0, stream=stream, key="mine")
        assert ended == pytest.approx(4.0, abs=0.01)
        record = it.house.recent(1)[0][1]
        assert (record.status, record.attempts) == (200, 4)
        assert heard.whole
        calls = len(it.fake.calls)
        back = await it.ask("agent", stream=stream, headers={"idempotency-key": "mine", "x-headgate-details": ""})
        assert back.headers["idempotent-replayed"] == "true"
        assert back.text == "The end."
        assert len(it.fake.calls) == calls
        it.ledger.check()

    virtually(main)


@pytest.mark.parametrize(
    ("model", "again", "ends"), [("hasty", False, 2.0), ("panel", False, 2.0), ("agent", True, 3.0)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_no_grace_where_none_is_due(model, again, ends, stream):
    """Set to none; a member of an ensemble that nobody waits for; a process that ends."""

    async def main() -> None:
        it = gateway(working=100.0)
        _, ended = await leave(it, model, 2.0, stream=stream, again=again)
        assert ended == pytest.approx(ends, abs=0.01)
        assert it.transport.open == 0
        it.ledger.check()

    virtually(main)


def test_a_client_that_waits_is_told_that_the_run_goes_on():
    async def main() -> None:
        it = gateway(working=40.0)
        heard = await it.ask("agent", stream=True)
        thoughts = [c["delta"].get("reasoning_content") for f in heard.chunks for c in f["choices"]]
        assert thoughts.count("… still at a, b\n") == 2  # after 15 s of silence, and again
        assert heard.text == "The end."

    virtually(main)


@pytest.mark.parametrize("kind", [UvicornFrontEnd, H1FrontEnd], ids=["uvicorn", "h1"])
@pytest.mark.parametrize("stream", [False, True])
def test_on_sockets_too(kind: Any, stream: bool):
    """The step hangs for ever; the connection is cut; after the grace nothing of it is left, at us and at the provider."""

    async def main() -> None:
        hanging: list[bool] = []

        def hang(call: Any) -> s.Script:
            hanging.append(True)
            try:
                yield s.Hang()
            finally:
                hanging.pop()

        fake = FakeUpstream()
        fake.on("planner", answer(PLAN))
        fake.on("worker", hang)
        url = await fake.start()
        it = RunningGateway(CONFIG.replace("grace: 5s", "grace: 300ms"), {"openai": f"{url}/v1"}, env=ENV)
        front = kind(it.plane, it.plane.refuse, HttpLimits())
        sock = bind("127.0.0.1", 0)
        await front.start(sock)
        _, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
        body = json.dumps({"model": "agent", "messages": MESSAGES, "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await until(lambda: len(hanging) == 2)
        writer.transport.abort()
        await until(lambda: bool(it.house.recent(1)))
        trace, record = it.house.recent(1)[0]
        assert record.status == 499
        assert any("has 0.3 s to end" in d.because for d in trace.decisions)
        await until(lambda: not hanging)
        await front.close(1.0)
        await it.house.transport.aclose()
        await fake.aclose()

    asyncio.run(main())


async def until(holds: Any) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)
