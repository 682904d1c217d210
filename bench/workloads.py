"""What is measured. Each workload takes a running server and notes figures; names end in their unit."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Server, memory_mb, mock_stats

Workload = Callable[[Server, float], None]


def small(server: Server, seconds: float) -> None:
    """1 KB JSON: closed loop for CPU and rate, open loop for latency."""
    server.load("json", "fast", c=8, d=0.4)
    before = server.cpu_ns()
    found = server.load("json", "fast", c=32, d=seconds, s=800)
    server.note("CPU us per 1 KB request", (server.cpu_ns() - before) / found["done"] / 1000)
    server.note("requests/s, 32 connections", found["rps"])


def latency(server: Server, seconds: float) -> None:
    found = server.load("rate", "fast", c=16, d=seconds, r=100 if server.only else 500)
    server.note("p50, ms (open loop)", found["lat_p50"] / 1000)
    server.note("p99, ms (open loop)", found["lat_p99"] / 1000)


def _per_request(name: str, model: str, pad: int = 800, connections: int = 16) -> Workload:
    def measure(server: Server, seconds: float) -> None:
        server.load("json", model, c=4, d=0.2, s=pad)
        before = server.cpu_ns()
        found = server.load("json", model, c=connections, d=seconds, s=pad)
        server.note(name, (server.cpu_ns() - before) / found["done"] / 1000)

    return measure


def _per_event(name: str, model: str) -> Workload:
    def measure(server: Server, seconds: float) -> None:
        before = server.cpu_ns()
        found = server.load("sse", model, c=20, d=max(seconds, 2.0))
        server.note(name, (server.cpu_ns() - before) / max(found["events"], 1) / 1000)

    return measure


def first_byte(server: Server, seconds: float) -> None:
    """One stream at a time from an upstream that says all at once: what a gateway adds before the first event. (Behind a
    paced upstream ours would seem slow: it waits for content, a bare proxy passes the empty role chunk.)"""
    found = server.load("sse", "burst", c=1, d=max(seconds, 1.0))
    server.note("time to first event, ms (one stream)", found["ttfb_p50"] / 1000)


def open_streams(server: Server, seconds: float) -> None:
    """Memory while 200 paced streams are open (a second each)."""
    import threading

    idle = memory_mb(server.process.pid)
    runner = threading.Thread(target=lambda: server.load("sse", "slow", c=200, n=200, d=5))
    runner.start()
    time.sleep(1.0)
    open_now = mock_stats()["active"]
    used = memory_mb(server.process.pid) - idle
    runner.join()
    if open_now > 100:
        server.note("KB per open stream", max(used, 0.0) * 1024 / open_now)


def abandoned(server: Server, seconds: float) -> None:
    """A client that drops its stream: how soon is the upstream's connection closed?"""
    before = mock_stats()["aborted"]
    found = server.load("abort", "paced", c=5, d=1.5, a=10)
    time.sleep(0.2)
    after = mock_stats()
    if after["aborted"] - before >= 5:
        server.note("upstream closed after client left, ms", (after["last_abort_ns"] - found["last_close_ns"]) / 1e6)


COMMON: dict[str, Workload] = {
    "small": small,
    "latency": latency,
    "paced": _per_event("CPU us per paced event", "paced"),
    "burst": _per_event("CPU us per event in a burst", "burst"),
    "first byte": first_byte,
    "40 KB": _per_request("CPU us per 40 KB request", "fast", 40_000),
    "400 KB": _per_request("CPU us per 400 KB request", "fast", 400_000, 4),
    "open streams": open_streams,
    "abandoned": abandoned,
}
OURS: dict[str, Workload] = {
    "cross": _per_request("CPU us per request across dialects", "cross"),
    "cross stream": _per_event("CPU us per paced event across dialects", "cross-paced"),
    "fallback": _per_request("CPU us per request, primary down", "chain"),
    "auto": _per_request("CPU us per request, auto routing", "auto"),
    "panel": _per_request("CPU us per request, ensemble of three without judge", "panel"),
}
