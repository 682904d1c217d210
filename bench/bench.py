"""Gateways side by side on one machine: CPU per request, requests per second, latency, streams, memory, start.

    make bench          ours and nginx
    make bench-peers    everybody that can be installed here

Each server has core 0 to itself, mock upstream and load generator share core 1; rounds are interleaved, servers that are
not measured are stopped (SIGSTOP). CPU is the scheduler's accounting of the whole process tree and the primary figure: on
a shared machine rates and tails say more of the neighbours. Medians and ratios are what to quote.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import report
from harness import LOAD_CORE, MOCK_PORT, TOOLS, Server, environment, fsync_ms, memory_mb, pinned, wait_for
from targets import FEATURES, TARGETS, ours
from workloads import COMMON, OURS


def cold_start(folder: Path) -> float:
    """Seconds from the start of the process to the first answered request."""
    began = time.monotonic()
    process = pinned(ours(folder, 8109, "own"), 0, env=environment())
    wait_for(8109)
    body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": "x"}]}).encode()
    request = urllib.request.Request("http://127.0.0.1:8109/v1/chat/completions", data=body)
    urllib.request.urlopen(request, timeout=5).close()
    took = time.monotonic() - began
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(10)
    return took


def measure(servers: list[Server], rounds: int, seconds: float, chosen: set[str] | None) -> None:
    for server in servers:
        server.note("start until it answers, s", server.start_s)
        server.note("memory idle, MB", memory_mb(server.process.pid))
        server.stop()
    for _ in range(rounds):
        for server in servers:
            own = server.name.startswith("headgate")
            server.go()
            time.sleep(1.5)  # a gateway that was stopped sheds for a moment, as it should
            for name, workload in {**COMMON, **(OURS if own else {})}.items():
                wanted = (chosen is None or name in chosen) and (server.only is None or name in server.only)
                if not wanted:
                    continue
                try:
                    workload(server, seconds)
                except RuntimeError as error:
                    print(f"{name}: {error}", file=sys.stderr)
            server.note("memory after the round, MB", memory_mb(server.process.pid))
            server.stop()


def million(servers: list[Server]) -> None:
    """What a million requests leave behind in ours."""
    for server in servers:
        if server.name.startswith("headgate"):
            server.go()
            time.sleep(1.5)
            server.load("json", "fast", c=32, d=3600, n=1_000_000, s=800)
            time.sleep(3.0)
            server.note("memory after 1,000,000 requests, MB", memory_mb(server.process.pid))
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", default="headgate,uvicorn,nginx")
    parser.add_argument("--workloads", default=None, help="comma-separated; left out: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--million", action="store_true", help="and memory after 1,000,000 requests: minutes")
    parser.add_argument("--out", type=Path, default=TOOLS / "bench.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    mock = pinned([str(TOOLS / "mock"), str(MOCK_PORT)], LOAD_CORE)
    servers: list[Server] = []
    try:
        wait_for(MOCK_PORT)
        starts = [cold_start(folder) for _ in range(options.rounds)]
        for name in options.targets.split(","):
            server = TARGETS[name](folder)
            if server is None:
                print(f"{name}: not installed, left out", file=sys.stderr)
            elif server.failed:
                print(f"{name}: {server.failed}, left out", file=sys.stderr)
                server.end()
            else:
                servers.append(server)
        measure(
            servers, options.rounds, options.seconds, set(options.workloads.split(",")) if options.workloads else None
        )
        if options.million:
            million(servers)
    finally:
        for server in servers:
            server.end()
        os.killpg(mock.pid, signal.SIGTERM)
    facts = {
        "rounds": options.rounds, "seconds": options.seconds, "python": platform.python_version(),
        "cores": os.cpu_count(), "features": FEATURES, "fsync_ms": round(fsync_ms(folder), 3),
        "cold_start_s": round(statistics.median(starts), 3), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    report.write(servers, facts, options.out)
    print(report.table(servers))
    print("\n" + ", ".join(f"{name} {value}" for name, value in facts.items()))
    report.plot(servers, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
