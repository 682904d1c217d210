"""What staying up costs: the attempt loop when nothing fails, a move off a refused connection, a storm with all down.

    python bench/reliability.py [--seconds N] [--rate N]

Requests go through the whole data plane (engine, ledger in memory) without a client's socket; in the last two parts the
providers are real ports of this machine. Prints one line of JSON per part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import path
import uvloop

from headgate.config.model import Config
from headgate.core.trace import AttemptView, Trace
from headgate.engine import run as running
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.net.transport.h1 import H1Transport
from headgate.server.app import DataPlane
from headgate.simulator import script as s
from headgate.simulator.scripted import FakeUpstream
from headgate.upstream import attempt as loop
from headgate.upstream.call import Call


# -- nothing fails -----------------------------------------------------------------------------------------------------
@contextmanager
def without_the_loop() -> Iterator[None]:
    """One call to the first deployment: no choice, no breaker, no budget of retries, nothing observed."""
    kept = running.attempt, loop._admitted, Call.end
    ticket = loop.Ticket(0, False)

    async def bare(
        life: Any, model: Any, request: Any, envelope: Any, *, policy: Any = loop.PLAIN, role: Any = None
    ) -> Any:
        return await loop.once(life, model, model.deployments[0], request, envelope, policy, role)

    def admitted(*_: Any) -> Any:
        return ticket

    def end(self: Call, outcome: str, **books: Any) -> None:
        if not self._ended:
            self._ended = True
            self.deployment.vitals.gate.leave()
            self.account.close(outcome, **books)

    running.attempt, loop._admitted, Call.end = bare, admitted, end  # type: ignore[assignment]
    try:
        yield
    finally:
        running.attempt, loop._admitted, Call.end = kept  # type: ignore[assignment]


async def loop_cost(rounds: int, times: int) -> dict[str, Any]:
    """Rounds alternate, so that a machine that slows down slows both; the median of the rounds' ratios."""
    plane, request = path.make_plane(), path.make_request()
    await path.drive(plane, request, 1000)
    ratios: list[float] = []
    costs: list[float] = []
    for _ in range(rounds):
        with without_the_loop():
            bare = await path.drive(plane, request, times)
        whole = await path.drive(plane, request, times)
        ratios.append(whole / bare)
        costs.append(whole * 1e6)
    return {
        "part": "the loop when nothing fails",
        "cpu_us_per_request": round(statistics.median(costs), 1),
        "added_percent": round((statistics.median(ratios) - 1) * 100, 1),
        "rounds": rounds,
    }


# -- providers that are down -------------------------------------------------------------------------------------------
def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def make(urls: list[str]) -> tuple[House, DataPlane]:
    """A chain over one model per URL."""
    names = ["openai", "deepseek", "groq", "mistral"][: len(urls)]
    config = Config.model_validate(
        {
            "providers": {
                name: {"kind": "openai-compatible", "api_key": "sk-bench", "base_url": url}
                for name, url in zip(names, urls, strict=True)
            },
            "models": {
                **{f"m-{name}": {"provider": name, "price": {"input": 1, "output": 1}} for name in names},
                "gpt-5.5": {"fallback": [f"m-{name}" for name in names]},
            },
        }
    )
    house = House(
        snapshot=Compiler({}).compile(config),
        transport=H1Transport(),
        ledger=VolatileLedger(),
        governor=OpenGovernor(),
    )
    return house, DataPlane(house)


async def ask(plane: DataPlane) -> tuple[int, float]:
    sink, began = path.Sink(), time.perf_counter()
    await plane(path.make_request(), sink)
    return sink.status, time.perf_counter() - began


async def refused(times: int) -> dict[str, Any]:
    """From the first call to the second, the first one's port being closed."""
    async with FakeUpstream() as fake:
        fake.on("*", s.reply_json(200, path.ANSWER))
        gaps: list[float] = []
        house, plane = make([f"http://127.0.0.1:{closed_port()}/v1", f"{fake.base_url}/v1"])
        traces: list[Trace] = []
        house.on_request.append(lambda record, trace: traces.append(trace))
        compiler = house.snapshot.model("m-openai")
        assert compiler is not None
        health = compiler.deployments[0].vitals.health
        for _ in range(times):
            status, _ = await ask(plane)
            assert status == 200
            first, second = traces[-1].attempts
            gaps.append(second.at_ms - first.at_ms)
            health._failures = 0  # the breaker would spare the chain this very move
            health._recent.clear()
        await house.transport.aclose()
    gaps.sort()
    return {
        "part": "fail-over on a refused connection",
        "ms_median": round(statistics.median(gaps), 2),
        "ms_p99": round(gaps[int(len(gaps) * 0.99)], 2),
        "moves": len(gaps),
    }


async def storm(rate: int, seconds: float) -> dict[str, Any]:
    """Every provider refuses. Requests come at a fixed rate, whether or not earlier ones have ended."""
    house, plane = make([f"http://127.0.0.1:{closed_port()}/v1" for _ in range(4)])
    calls: list[AttemptView] = []
    house.on_attempt.append(lambda view, trace: calls.append(view))
    for _ in range(12):
        await ask(plane)  # the breakers open
    calls.clear()
    asking: list[asyncio.Task[tuple[int, float]]] = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        asking.append(asyncio.ensure_future(ask(plane)))
    answers = await asyncio.gather(*asking)
    took = sorted(latency for _, latency in answers)
    await house.transport.aclose()
    assert {status for status, _ in answers} == {503}
    return {
        "part": "a storm with all four providers down",
        "requests": len(answers),
        "per_second": round(len(answers) / (time.perf_counter() - began)),
        "attempts_per_request": round(len(calls) / len(answers), 3),
        "failure_ms_median": round(statistics.median(took) * 1000, 2),
        "failure_ms_p99": round(took[int(len(took) * 0.99)] * 1000, 2),
    }


async def main(rate: int, seconds: float) -> None:
    print(json.dumps(await loop_cost(rounds=15, times=1500)))
    print(json.dumps(await refused(300)))
    print(json.dumps(await storm(rate, seconds)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=500)
    args = parser.parse_args()
    uvloop.run(main(args.rate, args.seconds))
