"""What is measured. Each workload takes a running server and notes figures; names end in their unit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from harness import MOCK_PORT, Server, loadgen, memory_mb, mock_stats

Workload = Callable[[Server, float], None]


def small(server: Server, seconds: float) -> None:
    """1 KB JSON: closed loop for CPU and rate, open loop for latency."""
    server.load("json", "fast", c=8, d=0.4)
    before = server.cpu_ns()
    found = server.load("json", "fast", c=32, d=seconds, s=800)
    server.note("CPU us per 1 KB request", (server.cpu_ns() - before) / found["done"] / 1000)
    server.note("requests/s, 32 connections", found["rps"])


MOST = 5000.0
"""Requests per second up to which the load generator's own core is no limit, mock upstream included."""


def latency(server: Server, seconds: float) -> None:
    """What a gateway adds to the mock's own latency, asked directly at the same rate in the same round: at a fixed rate and
    at half of what it can do."""
    half = min(server.figures.get("requests/s, 32 connections", [2 * MOST])[-1] / 2, MOST)
    for rate, where in ((20 if server.only else 500, "a fixed rate"), (half, "half load")):
        direct = loadgen(MOCK_PORT, "rate", "mock-d0-n200-g0", [], c=16, d=seconds, r=rate)
        found = server.load("rate", "fast", c=16, d=seconds, r=rate)
        for share in ("p50", "p99"):
            added = found[f"lat_{share}"] - direct[f"lat_{share}"]
            server.note(f"added {share} at {where}, ms", max(added, 0.0) / 1000)


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
    direct = loadgen(MOCK_PORT, "sse", "mock-d0-n200-g0", [], c=1, d=seconds)
    found = server.load("sse", "burst", c=1, d=max(seconds, 1.0))
    server.note("added time to first event, ms", max(found["ttfb_p50"] - direct["ttfb_p50"], 0.0) / 1000)


def open_streams(server: Server, seconds: float) -> None:
    """Memory that 400 paced streams of two seconds add to a process that had little to do: later they would be served from
    what earlier requests have left free."""
    if "KB per open stream" in server.figures:
        return
    server.load("sse", "burst", c=4, n=20, d=5)
    idle = memory_mb(server.process.pid)
    runner = threading.Thread(target=lambda: server.load("sse", "slow", c=400, n=400, d=10))
    runner.start()
    time.sleep(1.5)
    open_now = mock_stats()["active"]
    used = memory_mb(server.process.pid) - idle
    runner.join()
    if open_now > 200:
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
    "open streams": open_streams,
    "small": small,
    "latency": latency,
    "paced": _per_event("CPU us per paced event", "paced"),
    "burst": _per_event("CPU us per event in a burst", "burst"),
    "first byte": first_byte,
    "40 KB": _per_request("CPU us per 40 KB request", "fast", 40_000),
    "400 KB": _per_request("CPU us per 400 KB request", "fast", 400_000, 4),
    "abandoned": abandoned,
}
OURS: dict[str, Workload] = {
    "cross": _per_request("CPU us per request across dialects", "cross"),
    "cross stream": _per_event("CPU us per paced event across dialects", "cross-paced"),
    "fallback": _per_request("CPU us per request, primary down", "chain"),
    "auto": _per_request("CPU us per request, auto routing", "auto"),
    "panel": _per_request("CPU us per request, ensemble of three without judge", "panel"),
}
