"""Faults of what the process stands on: disks that are full or read-only, clocks that jump, an end with streams under way.
(Numbers: test_index.py.)"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.fleet import ASK, fetch, post
from support.gateway import ENV
from support.served import ServedGateway

pytestmark = pytest.mark.timeout(150)
STREAM = {**ASK, "stream": True}
MOVED = """
import os, sys, time
from headgate.core.clock import SystemClock
def moved():
    with open(os.environ["MOVED_BY"]) as file:
        return time.time() + float(file.read() or 0)
SystemClock.time = staticmethod(moved)
from headgate.cli.main import run
run(sys.argv[1:])
"""
"""The gateway with another wall clock; durations are the machine's."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServedGateway]]:
    made: list[ServedGateway] = []

    def make(more: str = "", **options: Any) -> ServedGateway:
        made.append(ServedGateway(tmp_path, more, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def rows(gateway: ServedGateway, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{gateway.data}/headgate.db?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def until(test: Callable[[], Any], seconds: float = 60.0) -> Any:
    async with asyncio.timeout(seconds):
        while not (found := await asyncio.to_thread(test)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return found


def ready(gateway: ServedGateway) -> int:
    try:
        with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return -1


async def test_30_sigterm_with_two_hundred_streams(start) -> None:
    gateway = start("server: {drain: 6s}\n")
    gateway.loop.run(gateway.sim.break_model("claude-4.7", "slow_first_token", delay=3.0))
    gateway.loop.run(gateway.sim.break_model("gpt-5.5", "stall", after=2))
    good = [asyncio.create_task(fetch(gateway.url, None, STREAM)) for _ in range(100)]
    stuck = [asyncio.create_task(fetch(gateway.url, None, {**STREAM, "model": "gpt-5.5"})) for _ in range(100)]
    await until(lambda: gateway.loop.call(lambda: len(gateway.sim.log)) >= 200)
    assert ready(gateway) == 200
    gateway.process.send_signal(signal.SIGTERM)
    await until(lambda: ready(gateway) != 200, 5)
    ended = await asyncio.gather(*good)
    assert Counter(status for status, _ in ended) == {200: 100}
    assert all(b"data: [DONE]" in body for _, body in ended), "who can finish within the grace does"
    cut = await asyncio.gather(*stuck)
    assert Counter(status for status, _ in cut) == {200: 100}
    assert all(b'"error"' in body and b"[DONE]" not in body and b'"finish_reason":"' not in body for _, body in cut)
    assert await asyncio.to_thread(gateway.process.wait, 40) == 0
    assert rows(gateway, "SELECT count(*) FROM requests") == [(200,)]
    assert dict(rows(gateway, "SELECT state, count(*) FROM attempts GROUP BY 1")).get("intent") is None
    assert rows(gateway, "SELECT count(*) FROM attempts") == [(200,)]
    assert not list((gateway.data / "journal").glob("*.log"))


async def test_34_a_full_disk_is_503_and_is_over_when_there_is_room(start) -> None:
    """The kernel's own refusal: no file of the process may grow (RLIMIT_FSIZE)."""
    gateway = start()
    assert [await post(gateway.url, None) for _ in range(3)] == [200, 200, 200]
    _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (1, hard))
    found = [await fetch(gateway.url, None) for _ in range(10)]
    assert Counter(status for status, _ in found) == {503: 10}
    assert {json.loads(body)["error"]["code"] for _, body in found} == {"storage_unavailable"}
    calls = gateway.loop.call(lambda: len(gateway.sim.log))
    assert calls == 3, "nothing is sent that cannot be recorded"
    assert gateway.process.poll() is None
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert await post(gateway.url, None) == 200, "nobody had to do anything"
    await until(lambda: rows(gateway, "SELECT count(*) FROM attempts WHERE state = 'settled'") == [(4,)])
    assert rows(gateway, "PRAGMA integrity_check") == [("ok",)]


def refused(data: Path, *, bound: bool = False) -> str:
    """What a start says that must not succeed. `bound`: without the superuser's right to write everywhere."""

    def drop() -> None:
        drop_capability, override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        ctypes.CDLL(None).prctl(drop_capability, override, 0, 0, 0)

    file = data.parent / "headgate.yaml"
    file.write_text("providers: {openai: {}}\nmodels: {gpt-5.5: {provider: openai}}\n")
    command = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(file), "--port", "0", "--admin-port", "0"]
    done = subprocess.run(
        [*command, "--data-dir", str(data)], env={**os.environ, **ENV}, capture_output=True, text=True, timeout=60,
        check=False, preexec_fn=drop if bound and os.getuid() == 0 else None,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert "ready" not in done.stdout
    return done.stderr


@pytest.mark.parametrize("what", ["directory", "database"])
def test_35_a_read_only_file_system_is_told_at_the_start(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if what == "database":
        (data / "headgate.db").write_bytes(b"")
        (data / "headgate.db").chmod(0o444)
    else:
        data.chmod(0o555)
    try:
        said = refused(data, bound=True)
    finally:
        data.chmod(0o755)
    assert "cannot be written" in said or "read-only" in said
    assert len(said.strip().splitlines()) <= 2


def test_35_a_damaged_database_is_told_at_the_start_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "headgate.db").write_bytes(b"no database at all" * 500)
    assert "damaged" in refused(data)
    assert (data / "headgate.db").read_bytes() == b"no database at all" * 500


async def test_40_a_month_ends_within_a_request_and_the_clock_jumps(start, tmp_path: Path, monkeypatch) -> None:
    """The wall clock stands at the last minute of January, then in February, then an hour back: what was admitted counts
    in the month of its admission, a new month has its whole budget, and no duration follows the clock."""
    by = tmp_path / "moved"
    january = datetime(2027, 1, 31, 23, 59, tzinfo=UTC).timestamp()

    def stands_at(at: float) -> None:
        by.write_text(str(at - time.time()))

    stands_at(january)
    monkeypatch.setenv("MOVED_BY", str(by))
    gateway = start(program=(sys.executable, "-c", MOVED))
    made = gateway.ask_admin("/keys", {"name": "monthly", "budgets": {"monthly": "0.002"}})
    key = made["secret"]
    while (status := await post(gateway.url, key)) == 200:
        pass
    assert status == 402
    other = gateway.ask_admin("/keys", {"name": "free"})
    free = other["secret"]
    gateway.loop.run(gateway.sim.break_model("gpt-5.5", "slow_first_token", delay=3.0))
    under_way = asyncio.create_task(post(gateway.url, free, {**ASK, "model": "gpt-5.5"}))
    await until(lambda: any(call.model == "gpt-5.5" for call in gateway.loop.call(lambda: list(gateway.sim.log))))
    stands_at(january + 120)
    assert await post(gateway.url, key) == 200, "February has begun"
    assert await under_way == 200
    days = f"SELECT day FROM spent WHERE scope = 'key:{other['id']}' AND amount > 0"  # noqa: S608
    await until(lambda: rows(gateway, days) == [("2027-01-31",)])
    (budget,) = [b for b in gateway.ask_admin("/budgets") if b["since"] == "2027-02-01"]
    assert 0 < float(budget["spent_usd"]) + float(budget["reserved_usd"]) < 0.002
    for hours in (-1, 1):
        slow = asyncio.create_task(post(gateway.url, free, {**ASK, "model": "gpt-5.5"}))
        before = gateway.loop.call(lambda: len(gateway.sim.log))
        await until(lambda before=before: gateway.loop.call(lambda: len(gateway.sim.log)) > before - 1)
        stands_at(january + timedelta(hours=hours).total_seconds() + 180)
        assert await slow == 200, "an hour on the wall is no hour for a request"
    assert await post(gateway.url, free) == 200
