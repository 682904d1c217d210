"""What a panel costs: CPU of an ensemble of three without a judge beside three plain requests to its members.

    python bench/ensemble.py [--rounds N] [--path-only] [--profile]

Two parts. The path: the data plane without sockets, providers that have answered before they are asked. The process: a
whole gateway (`headgate serve`: key, limit, budget, ledger on disk) over sockets, by the scheduler's accounting; needs
`.tools/mock` and `.tools/loadgen` (`make bench` builds them). Plain and panel in turns; medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import platform
import pstats
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import uvloop
from harness import MOCK_PORT, TOOLS, Server, pinned, wait_for
from path import QUESTION, Canned, Sink
from targets import key_for, ours

from headgate.config.load import load_text
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.server.app import DataPlane
from headgate.server.http import Request

TABLE = """
providers: {openai: {api_key: sk-bench, base_url: "http://127.0.0.1:9/v1"}}
models:
  one: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.01}
  two: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.02}
  three: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.02}
  best: {ensemble: {members: {one: 0.4, two: 0.35, three: 0.25}}}
  vote: {ensemble: {mode: vote, members: {one: 0.4, two: 0.35, three: 0.25}}}
"""
GOAL = 1.5
PORT = 4190


def make_plane() -> DataPlane:
    house = House(
        snapshot=Compiler({}).compile(load_text(TABLE, "bench.yaml", {}).config),
        transport=Canned(),  # type: ignore[arg-type]
        ledger=VolatileLedger(),
        governor=OpenGovernor(),
    )
    return DataPlane(house)


def request_to(model: str) -> Request:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": QUESTION}]}).encode()
    headers = {"host": "127.0.0.1:4100", "content-type": "application/json", "content-length": str(len(body))}
    return Request("POST", "/v1/chat/completions", "", headers, list(headers.items()), body, "127.0.0.1")


async def drive(plane: DataPlane, model: str, times: int) -> float:
    """CPU seconds per request."""
    sink, request = Sink(), request_to(model)
    began = time.process_time()
    for _ in range(times):
        sink.started = False
        await plane(request, sink)
    spent = time.process_time() - began
    if sink.status != 200:
        raise SystemExit(f"{model} answers {sink.status}: {sink.body!r}")
    return spent / times


async def path_part(rounds: int, profile: bool) -> dict[str, object]:
    plane = make_plane()
    plain: list[float] = []
    ratios: dict[str, list[float]] = {"best": [], "vote": []}
    for model in ("one", "best", "vote"):
        await drive(plane, model, 300)
    for _ in range(rounds):
        three = sum([await drive(plane, model, 200) for model in ("one", "two", "three")])
        plain.append(three / 3)
        for model, found in ratios.items():
            found.append(await drive(plane, model, 200) / three)
    if profile:
        profiler = cProfile.Profile()
        profiler.enable()
        await drive(plane, "best", 1500)
        profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
    out: dict[str, object] = {"part": "path", "plain_us": round(statistics.median(plain) * 1e6, 1)}
    return out | {f"{model}_ratio": round(statistics.median(found), 2) for model, found in ratios.items()}


def process_part(rounds: int) -> dict[str, object]:
    mock = pinned([str(TOOLS / "mock"), str(MOCK_PORT)], 1)
    try:
        wait_for(MOCK_PORT)
        with tempfile.TemporaryDirectory() as folder:
            command = ours(Path(folder), PORT, "own")
            server = Server("headgate", PORT, command, key=key_for(command))
            try:
                return _compared(server, rounds)
            finally:
                server.end()
    finally:
        mock.terminate()
        mock.wait(10)


def _compared(server: Server, rounds: int) -> dict[str, object]:
    def per_request(model: str) -> float:
        before = server.cpu_ns()
        found = server.load("json", model, c=8, d=2.0)
        return (server.cpu_ns() - before) / found["done"]

    for model in ("fast", "panel"):
        per_request(model)
    plain, ratios = [], []
    for _ in range(rounds):
        three = sum(per_request(model) for model in ("fast", "second", "third"))
        plain.append(three / 3)
        ratios.append(per_request("panel") / three)
    return {
        "part": "process",
        "plain_us": round(statistics.median(plain) / 1000, 1),
        "vote_ratio": round(statistics.median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--path-only", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    cpu = subprocess.run(
        ["sh", "-c", "grep -m1 'model name' /proc/cpuinfo"], capture_output=True, text=True, check=False
    )
    print(json.dumps({"python": platform.python_version(), "cpu": cpu.stdout.partition(": ")[2].strip(), "goal": GOAL}))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(path_part(options.rounds, options.profile))))
    if not options.path_only:
        print(json.dumps(process_part(options.rounds)))


if __name__ == "__main__":
    main()
