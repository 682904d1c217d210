"""`headgate serve --workers N` with real processes on real PostgreSQL and Valkey: started, watched, started anew, reloaded,
drained and ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headgate import __version__
from support.fleet import Fleet, Stores, is_possible
from support.gateway import ENV
from support.served import Served

needs_stores = pytest.mark.skipif(not is_possible(), reason="no PostgreSQL or Valkey: scripts/database.sh, shared.sh")


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    found = Stores()
    yield found
    found.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Iterator[Fleet]:
    found = Fleet(tmp_path_factory.mktemp("fleet"), stores)
    yield found
    found.close()


@pytest.fixture(scope="module")
def group(fleet: Fleet) -> Served:
    """Two workers, for all tests that leave them as they were."""
    fleet.replicas.append(fleet.add("data", "--workers", "2"))
    return fleet.replicas[0]


@pytest.fixture(scope="module")
def key(group: Served) -> dict[str, Any]:
    """Made through one worker, and known to both. `before`: what was answered while there was none."""
    made = group.ask_admin("/keys", {"name": "one", "limits": {"requests_per_minute": 1000}})
    before: list[int] = []
    while before[-20:] != [401] * 20:
        before.append(group.chat(None)[0])
        assert len(before) < 2000
    return {**made, "before": before.count(200)}


def eventually(test: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def worker_of(url: str) -> int:
    """A new connection each time: the kernel chooses who answers."""
    return json.loads(get(f"{url}/health"))["worker"]


def pids(group: Served) -> dict[int, int]:
    """Worker -> pid, of the newest lives."""
    return {line["worker"]: line["pid"] for line in events(group, "worker_ready")}


def events(group: Served, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in group.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == kind]


def series(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(get(f"{url}/metrics"))
        for sample in family.samples
    }


def test_several_processes_on_sqlite_are_refused_with_what_to_configure(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text("providers: {openai: {}}\nmodels: {gpt-5.5: {provider: openai}}\n")
    command = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(file), "--workers", "2"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path / "data")],
        capture_output=True, text=True, timeout=30, env={**os.environ, **ENV}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "store.url: postgresql://" in done.stderr
    assert "store.shared: redis://" in done.stderr
    assert not (tmp_path / "data").exists(), "nothing was begun"


@needs_stores
def test_a_start_that_fails_says_why_once_and_leaves_nobody_behind(fleet: Fleet) -> None:
    file = fleet.folder / "bad.yaml"
    file.write_text(fleet.file.read_text() + "aliases: {x: nobody}\n")
    command = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(file), "--workers", "3"]
    done = subprocess.run(
        [*command, "--port", "0", "--admin-port", "0", "--data-dir", str(fleet.folder / "bad")],
        capture_output=True, text=True, timeout=60, env={**os.environ, **ENV}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("nobody") == 1
    assert "Traceback" not in done.stderr


@needs_stores
@pytest.mark.timeout(120)
def test_workers_share_the_port_the_keys_and_the_metrics(group: Served, key: dict[str, Any]) -> None:
    seen = {worker_of(group.url) for _ in range(40)}
    assert seen == {1, 2}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: group.chat(key["secret"]), range(60)))
    assert {status for status, _, _ in answers} == {200}
    traces = [headers["x-headgate-trace"] for _, headers, _ in answers]
    eventually(lambda: {row["trace"] for row in group.ask_admin(f"/requests?key={key['id']}")} == set(traces))

    def counted() -> dict[str, float]:
        found: dict[str, float] = {}
        for (name, labels), value in series(group.url).items():
            if name == "headgate_requests_total" and ("status_class", "2xx") in labels:
                found[dict(labels)["worker"]] = found.get(dict(labels)["worker"], 0) + value
        return found

    eventually(lambda: sum(counted().values()) == 60 + key["before"])
    assert set(counted()) == {"1", "2"}, "whoever answers the scrape answers for both"
    assert series(group.url)["headgate_workers", frozenset()] == 2
    processes = eventually(lambda: len(rows := group.ask_admin("/status")["fleet"]) == 2 and rows)
    assert {row["worker"]: row["pid"] for row in processes} == pids(group)
    assert {row["version"] for row in processes} == {__version__}
    assert all(row["silent_s"] < 3 for row in processes)
    held = eventually(lambda: [row["requests_held"] for row in group.ask_admin("/status")["fleet"]])
    assert sum(held) <= 1000 * 0.04, "slices of the key's limit"


@needs_stores
@pytest.mark.timeout(120)
def test_a_reload_reaches_every_worker_and_says_what_is_wrong(group: Served, key: dict[str, Any]) -> None:
    before = group.file.read_text()

    def known(model: str) -> set[int]:
        return {group.chat(key["secret"], model)[0] for _ in range(20)}

    group.file.write_text(before.replace("  reliable:", "  extra: {provider: openai, upstream: gpt-5.5}\n  reliable:"))
    assert group.ask_admin("/reload", {}) == {"ok": True, "problem": None}
    assert known("extra") == {200}, "in all of them at once"
    group.file.write_text(before + "nonsense: 1\n")
    told = group.ask_admin("/reload", {})
    assert told["ok"] is False
    assert "nonsense" in told["problem"]
    assert known("extra") == {200}, "the old one is kept"
    group.file.write_text(before)
    group.process.send_signal(signal.SIGHUP)
    eventually(lambda: known("extra") == {404})
    assert group.process.poll() is None


@needs_stores
@pytest.mark.timeout(120)
def test_a_second_gateway_on_the_same_port_is_refused(group: Served, fleet: Fleet) -> None:
    port = group.url.rpartition(":")[2]
    command = [sys.executable, "-m", "headgate.cli", "serve", "--config", str(fleet.file), "--workers", "2"]
    done = subprocess.run(
        [*command, "--port", port, "--admin-port", "0", "--data-dir", str(fleet.folder / "other")],
        capture_output=True, text=True, timeout=60, env={**os.environ, **ENV}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot listen" in done.stderr


@needs_stores
@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_is_started_anew_while_the_other_serves(tmp_path: Path, stores: Stores) -> None:
    fleet = Fleet(tmp_path, stores)
    group = fleet.add("data", "--workers", "2")
    fleet.replicas.append(group)
    try:
        old = eventually(lambda: len(found := pids(group)) == 2 and found)
        fleet.loop.run(fleet.sim.break_model("claude-4.7", "hang"))
        with ThreadPoolExecutor(12) as threads:
            hung = [threads.submit(_status, group.url, "claude-4.7") for _ in range(12)]
            eventually(lambda: fleet.served() >= 12)
            os.kill(old[1], signal.SIGKILL)
            statuses: list[int] = []
            eventually(lambda: statuses.append(_status(group.url, "gpt-5.5")) or pids(group)[1] != old[1], 60)
            # only a connection that the kernel had given to the dead one before it died is lost
            assert statuses.count(200) >= len(statuses) - 1
            assert pids(group)[2] == old[2]
            eventually(lambda: {worker_of(group.url) for _ in range(20)} == {1, 2})
            assert [event["status"] for event in events(group, "worker_died")] == ["SIGKILL"]
            assert series(group.url)["headgate_worker_restarts_total", frozenset({("worker", "1")})] == 1
            replayed = eventually(lambda: [event for event in events(group, "journal_replayed") if event["unknown"]])
            assert replayed[0]["worker"] == 1, "what the dead one had sent is in the books, by its successor"
            fleet.loop.run(fleet.sim.mend())
            running = pids(group)
            group.stop()
        lost = [one.result() for one in hung].count(-1)
        assert 0 < lost < 12
        assert replayed[0]["unknown"] == lost
        assert not any(_runs(pid) for pid in running.values())
    finally:
        fleet.close()


@needs_stores
@pytest.mark.timeout(180)
def test_they_end_together(tmp_path: Path, stores: Stores) -> None:
    fleet = Fleet(tmp_path, stores)
    group = fleet.add("data", "--workers", "2")
    fleet.replicas.append(group)
    try:
        fleet.loop.run(fleet.sim.break_model("gpt-5.5", "slow_first_token", delay=4.0))
        with ThreadPoolExecutor(16) as threads:
            streams = [threads.submit(_stream, group.url) for _ in range(16)]
            eventually(lambda: fleet.served() >= 16)
            group.process.send_signal(signal.SIGTERM)
            ends = [one.result(60) for one in streams]
        assert all(data.rstrip().endswith(b"data: [DONE]") for data in ends), "a drain lets every worker's streams end"
        assert group.process.wait(40) == 0
        assert {event["worker"] for event in events(group, "draining") if "worker" in event} == {1, 2}
        assert not list((group.data / "journal").glob("*.log")), "all is in the store"
        group.again()
        running = list(pids(group).values())[-2:]
        group.kill()
        eventually(lambda: not any(_runs(pid) for pid in running), 60)  # nobody is left without a supervisor
    finally:
        fleet.close()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _ask(url: str, model: str, **more: Any) -> urllib.request.Request:
    body = {"model": model, "messages": [{"role": "user", "content": "Write about headgates."}], **more}
    return urllib.request.Request(f"{url}/v1/chat/completions", data=json.dumps(body).encode())


def _status(url: str, model: str) -> int:
    """-1 where the connection was refused or cut."""
    try:
        with urllib.request.urlopen(_ask(url, model), timeout=60) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return -1


def _stream(url: str) -> bytes:
    with urllib.request.urlopen(_ask(url, "gpt-5.5", stream=True, max_tokens=60), timeout=60) as answer:
        return answer.read()
