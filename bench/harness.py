"""Processes, cores and the scheduler's accounting: what a fair measurement stands on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TOOLS = HERE.parent / ".tools"
SERVER_CORE, LOAD_CORE = 0, 1
MOCK_PORT = 9001


def pinned(command: list[str], core: int, **more: Any) -> subprocess.Popen[bytes]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
    return subprocess.Popen(["taskset", "-c", str(core), *command], start_new_session=True, **quiet)


def environment() -> dict[str, str]:
    """In which bytecode is kept as Python does unless told otherwise, or each start would compile everything anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def family(pid: int) -> set[int]:
    """A process and its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[stat.rindex(")") + 2 :].split()[1])
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of the whole process tree by the scheduler's accounting."""
    total = 0
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total


def memory_mb(pid: int) -> float:
    """Proportional set size of the tree."""
    total = 0
    for each in family(pid):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
    return total / 1024


def wait_for(port: int, seconds: float = 20.0) -> None:
    """Until something answers HTTP there, whatever it says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"nothing answers on port {port}")


def mock_stats() -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{MOCK_PORT}/stats", timeout=5) as answer:
        return json.load(answer)


def loadgen(port: int, mode: str, model: str, headers: list[str], **options: Any) -> dict[str, Any]:
    """One run of the load generator: options are its letters (c=32, d=2.0, r=500, s=40_000, u="/v1/messages")."""
    command = [str(TOOLS / "loadgen"), "-p", str(port), "-m", mode, "-M", model]
    for letter, value in options.items():
        command += [f"-{letter}", str(value)]
    for header in headers:
        command += ["-H", header]
    run = ["taskset", "-c", str(LOAD_CORE), *command]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True, timeout=4000).stdout)


class Server:
    """One process under measurement, stopped (SIGSTOP) while others are measured."""

    def __init__(self, name: str, port: int, command: list[str], *, env: Mapping[str, str] | None = None,
                 models: Mapping[str, str] | None = None, headers: list[str] | None = None, key: str = "sk-bench",
                 only: frozenset[str] | None = None) -> None:  # fmt: skip
        self.name, self.port, self.key = name, port, key
        self.models = models or {}
        self.headers = headers or []
        self.only = only
        """Workloads that it can do; None: all."""
        began = time.monotonic()
        self.process = pinned(command, SERVER_CORE, env={**environment(), **(env or {})})
        self.failed = ""
        try:
            wait_for(port, 60)
        except RuntimeError as error:
            self.failed = str(error)
        self.start_s = time.monotonic() - began
        self.figures: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)

    def load(self, mode: str, model: str, **options: Any) -> dict[str, Any]:
        found = loadgen(self.port, mode, self.models.get(model, model), self.headers, k=self.key, **options)
        if found.get("errors") or found.get("non200"):
            raise RuntimeError(f"{self.name}: failed requests, nothing to measure: {found}")
        return found

    def cpu_ns(self) -> int:
        return cpu_ns(self.process.pid)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.go()
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def fsync_ms(folder: Path, times: int = 20) -> float:
    """The disk's own speed, which every durable figure rests on: median of fdatasync after an append."""
    spans: list[float] = []
    with (folder / "fsync").open("ab", buffering=0) as file:
        for _ in range(times):
            file.write(b"x" * 512)
            began = time.monotonic()
            os.fdatasync(file.fileno())
            spans.append(time.monotonic() - began)
    return sorted(spans)[times // 2] * 1000
