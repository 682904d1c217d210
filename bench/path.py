"""What the path itself costs: a request through the data plane with no sockets, beside a calibration loop.

    python bench/path.py [--profile] [--rounds N] [--size BYTES]

Prints CPU us per request (median of rounds), the memory that one needs at once, and the ratio to the calibration loop: a
fixed piece of Python (JSON, dictionaries, calls) timed in the same process, so that the figure can be compared across
machines.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import statistics
import sys
import time
import tracemalloc

import msgspec
import uvloop

from headgate.config.model import Config
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.net.transport.protocol import HttpRequest, Limits
from headgate.server.app import DataPlane
from headgate.server.http import Headers, Request
from headgate.telemetry.metrics import Metrics

QUESTION = "Say something of middling length about the sea, please. " * 14
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-5.5-2026-01-01",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "It is wide. " * 24}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 200, "completion_tokens": 72, "total_tokens": 272},
}
CONFIG = {
    "providers": {"openai": {"api_key": "sk-bench", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"gpt-5.5": {"provider": "openai", "price": {"input": 2.0, "output": 8.0}}},
}


class Canned:
    """A transport whose provider has answered before it was asked."""

    def __init__(self) -> None:
        self._body = json.dumps(ANSWER).encode()

    async def send(self, request: HttpRequest, limits: Limits, deadline: float) -> CannedResponse:
        return CannedResponse(self._body)

    async def aclose(self) -> None:
        return None


class CannedResponse:
    status = 200
    headers = ((b"content-type", b"application/json"),)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body

    async def next(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def header(self, name: bytes) -> bytes | None:
        return None

    def release(self) -> None:
        return None

    async def aclose(self) -> None:
        return None


class Sink:
    """A responder that keeps the last answer."""

    def __init__(self) -> None:
        self.started = self.left = False
        self.push = None
        self.status = 0
        self.body = b""

    async def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.started, self.status, self.body = True, status, body

    async def start(self, status: int, headers: Headers) -> None:
        self.started, self.status = True, status

    async def write(self, data: bytes) -> None:
        self.body += data

    async def finish(self) -> None:
        return None


def make_plane() -> DataPlane:
    config = Config.model_validate(CONFIG)
    house = House(
        snapshot=Compiler({}).compile(config),
        transport=Canned(),  # type: ignore[arg-type]
        ledger=VolatileLedger(),
        governor=OpenGovernor(),
    )
    plane = DataPlane(house)
    plane.metrics = metrics = Metrics(version="bench", entries=lambda: house)
    house.on_attempt.append(metrics.attempt)
    house.on_request.append(metrics.request)
    return plane


def make_request(size: int = 0) -> Request:
    """With a prompt of at least `size` bytes: nothing on the path gives the loop away, so its time is the time blocked."""
    question = QUESTION * max(size // len(QUESTION), 1)
    body = json.dumps({"model": "gpt-5.5", "messages": [{"role": "user", "content": question}]}).encode()
    headers = {
        "host": "127.0.0.1:4100",
        "content-type": "application/json",
        "authorization": "Bearer sk-anything",
        "user-agent": "bench",
        "content-length": str(len(body)),
    }
    return Request("POST", "/v1/chat/completions", "", headers, list(headers.items()), body, "127.0.0.1")


def calibrate(times: int) -> float:
    """Seconds of CPU for a fixed piece of work of the same nature."""
    text = json.dumps(ANSWER).encode()
    started = time.process_time()
    for _ in range(times):
        value = msgspec.json.decode(text)
        table = {str(i): i for i in range(30)}
        sum(table[k] for k in table)
        msgspec.json.encode(value)
    return (time.process_time() - started) / times


async def drive(plane: DataPlane, request: Request, times: int) -> float:
    """CPU seconds per request."""
    sink = Sink()
    started = time.process_time()
    for _ in range(times):
        sink.started = False
        await plane(request, sink)
    spent = time.process_time() - started
    if sink.status != 200:
        raise SystemExit(f"the path answers {sink.status}: {sink.body!r}")
    return spent / times


async def peak_bytes(plane: DataPlane, request: Request) -> float:
    """Bytes that one request needs at once, by tracemalloc's peak over single requests."""
    await drive(plane, request, 50)
    gc.collect()
    tracemalloc.start()
    peaks: list[int] = []
    for _ in range(20):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        await drive(plane, request, 1)
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return statistics.median(peaks)


async def figures(rounds: int, times: int, profile: bool = False, size: int = 0) -> dict[str, float]:
    """cpu_us: median; ratio: to the calibration loop before and after it in the same round, so that a machine that changes
    its pace changes both; peak_bytes: memory one request needs at once."""
    plane, request = make_plane(), make_request(size)
    await drive(plane, request, min(times, 500))
    costs: list[float] = []
    ratios: list[float] = []
    before = calibrate(times)
    for _ in range(rounds):
        cost = await drive(plane, request, times)
        after = calibrate(times)
        costs.append(cost * 1e6)
        ratios.append(2 * cost / (before + after))
        before = after
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        await drive(plane, request, times)
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(60)
    return {
        "cpu_us": round(statistics.median(costs), 1),
        "ratio": round(statistics.median(ratios), 2),
        "peak_bytes": await peak_bytes(plane, request),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=3000)
    parser.add_argument("--size", type=int, default=0, help="bytes of the prompt")
    parser.add_argument("--only", type=int, help="so many requests and nothing else: for counters of instructions")
    args = parser.parse_args()
    if args.only is not None:
        uvloop.run(drive(make_plane(), make_request(), args.only))
        return
    print(json.dumps(uvloop.run(figures(args.rounds, args.times, args.profile, args.size))))


if __name__ == "__main__":
    main()
