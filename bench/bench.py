"""Headgate beside nginx on one machine: CPU per request, requests per second, CPU per streamed event, memory, cold start.

Each server has core 0 to itself, mock upstream and load generator share core 1; rounds are interleaved, the server that is
not measured is stopped (SIGSTOP). CPU is the scheduler's accounting of the whole process tree. Prints a Markdown table of
medians and writes JSON. Ratios and medians are what to quote: absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOOLS = HERE.parent / ".tools"
CONFIG = """
providers: {mock: {kind: openai-compatible, base_url: "http://127.0.0.1:9001/v1"}}
models:
  fast: {provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.001}
  paced: {provider: mock, upstream: mock-d0-n200-g5000, cost_per_1k: 0.001}
"""


def pinned(command: list[str], core: int, **more: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["taskset", "-c", str(core), *command], start_new_session=True, **more)


def tree(pid: int) -> list[int]:
    out = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2 :].split()[3]) == pid:
                out.append(int(entry.name))
    return out


def cpu_ns(pid: int) -> int:
    total = 0
    for each in set(tree(pid)):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total


def memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


def wait_for(port: int, path: str = "/livez", seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"nothing answers on port {port}")


def load(port: int, mode: str, model: str, *, connections: int, seconds: float, rate: float = 0) -> dict[str, Any]:
    command = [
        str(TOOLS / "loadgen"),
        "-p",
        str(port),
        "-m",
        mode,
        "-M",
        model,
        "-c",
        str(connections),
        "-d",
        str(seconds),
    ]
    if rate:
        command += ["-r", str(rate)]
    done = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


class Server:
    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes], models: tuple[str, str]) -> None:
        self.name, self.port, self.process, self.models = name, port, process, models
        self.figures: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)


def measure(server: Server, seconds: float) -> None:
    fast, paced = server.models
    load(server.port, "json", fast, connections=8, seconds=0.5)
    before = cpu_ns(server.process.pid)
    found = load(server.port, "json", fast, connections=32, seconds=seconds)
    done = found.get("done") or found.get("n") or found["lat_n"]
    check(found, server.name)
    server.note("CPU us per request", (cpu_ns(server.process.pid) - before) / done / 1000)
    server.note("requests/s, 32 connections", done / seconds)
    open_loop = load(server.port, "rate", fast, connections=16, seconds=seconds, rate=500)
    server.note("p50 at 500/s, ms", open_loop["lat_p50"] / 1000)
    server.note("p99 at 500/s, ms", open_loop["lat_p99"] / 1000)
    before = cpu_ns(server.process.pid)
    streams = load(server.port, "sse", paced, connections=20, seconds=max(seconds, 2.5))
    check(streams, server.name)
    server.note("CPU us per paced event", (cpu_ns(server.process.pid) - before) / max(streams["events"], 1) / 1000)
    server.note("memory MB", memory_mb(server.process.pid))


def check(found: dict[str, Any], name: str) -> None:
    if found.get("errs") or found.get("non200"):
        raise RuntimeError(f"{name}: failed requests, nothing to measure: {found}")


def cold_start(folder: Path) -> float:
    """Seconds from the start of the process to the first answered request."""
    began = time.monotonic()
    process = ours(folder, 8109)
    wait_for(8109)
    body = json.dumps({"model": "fast", "messages": [{"role": "user", "content": "x"}]}).encode()
    urllib.request.urlopen(
        urllib.request.Request("http://127.0.0.1:8109/v1/chat/completions", data=body), timeout=5
    ).close()
    took = time.monotonic() - began
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(10)
    return took


def ours(folder: Path, port: int, frontend: str = "uvicorn") -> subprocess.Popen[bytes]:
    file = folder / f"bench-{frontend}.yaml"
    file.write_text(f"{CONFIG}server: {{frontend: {frontend}}}\n")
    command = [
        sys.executable,
        "-m",
        "headgate.cli",
        "serve",
        "--config",
        str(file),
        "--port",
        str(port),
        "--admin-port",
        "0",
    ]
    return pinned(
        [*command, "--data-dir", str(folder / frontend)], 0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", default="bench-result.json")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    mock = pinned([str(TOOLS / "mock"), "9001"], 1)
    time.sleep(0.3)
    starts = [cold_start(folder) for _ in range(options.rounds)]
    servers = [
        Server("headgate", 8100, ours(folder, 8100), ("fast", "paced")),
        Server("headgate, own front end", 8102, ours(folder, 8102, "own"), ("fast", "paced")),
    ]
    for server in servers:
        wait_for(server.port)
        server.note("memory MB idle", memory_mb(server.process.pid))
    if shutil.which("nginx"):
        pid = folder / "nginx.pid"
        command = ["nginx", "-p", str(folder), "-c", str(HERE / "nginx.conf"), "-g", f"pid {pid};"]
        servers.append(Server("nginx", 8101, pinned(command, 0), ("mock-d0-n200-g0", "mock-d0-n200-g5000")))
        wait_for(8101)
    try:
        for server in servers:
            server.stop()
        for _ in range(options.rounds):
            for server in servers:
                server.go()
                measure(server, options.seconds)
                server.stop()
    finally:
        for server in servers:
            server.go()
            os.killpg(server.process.pid, signal.SIGTERM)
        os.killpg(mock.pid, signal.SIGTERM)
    report(servers, starts, options.out)


def report(servers: list[Server], starts: list[float], out: str) -> None:
    names = list(dict.fromkeys(name for server in servers for name in server.figures))
    print("| | " + " | ".join(server.name for server in servers) + " |")
    print("|---" * (len(servers) + 1) + "|")
    base = next((s for s in servers if s.name == "nginx"), None)
    for name in names:
        cells = []
        for server in servers:
            if name not in server.figures:
                cells.append("–")
                continue
            median = statistics.median(server.figures[name])
            ratio = (
                median / statistics.median(base.figures[name]) if base is not None and name in base.figures else None
            )
            cells.append(f"{median:.2f}" + (f" ({ratio:.2f} x)" if ratio is not None and server is not base else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"cold start to first answer, s: {statistics.median(starts):.2f}")
    result = {"servers": {s.name: s.figures for s in servers}, "cold_start_s": starts}
    Path(out).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
