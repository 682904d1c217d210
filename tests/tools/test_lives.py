"""Tools as processes, real ones: an MCP server that is killed, calls and programs that nobody waits for any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.sockets import bind
from headgate.server.http import HttpLimits
from headgate.simulator.scripted import FakeUpstream
from headgate.tools import broker, mcp
from headgate.tools.broker import ToolFailed
from headgate.tools.files import Files
from headgate.tools.mcp import Mcp
from headgate.tools.python import Python
from support.gateway import ENV, RunningGateway
from support.served import Served
from support.virtual import MESSAGES, answer

SERVER = Path(__file__).with_name("slow_server.py")
FOREVER = "while True:\n    pass"


def slow(folder: Path) -> Mcp:
    return Mcp(
        "slow",
        command=[sys.executable, str(SERVER), str(folder)],
        url=None,
        allow=["wait", "pid", "die", "die_reading"],
        env={},
    )


async def until(holds: Callable[[], bool]) -> None:
    """Far below what the calls would take if nobody stopped them."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.02)


def children(of: int | str = "self") -> set[int]:
    """Processes that this one, or another, has begun."""
    found = set[int]()
    for task in Path(f"/proc/{of}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(number) for number in task.read_text().split()}
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or between that and the reading
        return False


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid))


async def test_a_server_that_was_killed_is_begun_anew_by_the_next_call(tmp_path: Path):
    server = slow(tmp_path)
    first = int(await server.call("pid", {}))
    for found in (server.call("pid", {}), server.tools()):
        await kill(first)
        await found
        second = int(await server.call("pid", {}))
        assert second != first
        first = second
    await server.aclose()
    await until(lambda: not lives(first))


async def test_calls_that_lose_one_session_together_find_one_new_one(tmp_path: Path):
    server = slow(tmp_path)
    first = int(await server.call("pid", {}))
    os.kill(first, signal.SIGKILL)
    pids = await asyncio.gather(*(server.call("pid", {}) for _ in range(5)))
    assert len({int(pid) for pid in pids} - {first}) == 1
    assert await server.call("pid", {}) == pids[0]
    await server.aclose()


async def test_a_server_that_dies_in_every_call_is_an_error_and_no_loop(tmp_path: Path):
    counted = tmp_path / "starts"
    program = f"open({str(counted)!r}, 'a').write('x')"
    server = Mcp("dead", command=[sys.executable, "-c", program], url=None, allow=["pid"], env={})
    with pytest.raises(ToolFailed, match="'dead'"):
        await server.call("pid", {})
    assert 1 <= len(counted.read_text()) <= 2
    await server.aclose()


async def test_a_cancelled_call_ends_at_the_server_and_the_session_stays(tmp_path: Path):
    server = slow(tmp_path)
    pid = await server.call("pid", {})
    task = asyncio.create_task(server.call("wait", {"seconds": 600}))
    await until((tmp_path / "began").exists)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await until((tmp_path / "cancelled").exists)
    assert await server.call("pid", {}) == pid
    await server.aclose()


async def test_a_cancelled_program_leaves_no_process_that_works(tmp_path: Path):
    sandbox = Python(timeout=600.0, memory=64 * 2**20)
    before = children()
    task = asyncio.create_task(sandbox.run(FOREVER))
    await until(lambda: bool(children() - before))
    await asyncio.sleep(0.2)
    workers = children() - before
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: not any(map(lives, workers)))
    assert await sandbox.run("6 * 7") == "42"
    await sandbox.aclose()


async def test_a_client_that_leaves_stops_the_tools_of_its_run(tmp_path: Path):
    config = f"""
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
  planner: {{provider: openai, upstream: planner, price: {{input: 1, output: 1}}}}
  agent: {{agent: {{planner: planner, models: [planner], tools: [slow, python], grace: 0s}}}}
tools:
  python: {{timeout: 600s}}
  mcp: {{slow: {{command: ["{sys.executable}", "{SERVER}", "{tmp_path}"], allow: [wait]}}}}
"""
    steps = [
        {"name": "a", "tool": "wait", "args": {"seconds": 600}},
        {"name": "b", "tool": "python", "args": {"code": FOREVER}},
    ]
    fake = FakeUpstream()
    fake.on("planner", answer(json.dumps({"steps": steps})))
    url = await fake.start()
    before = children()
    it = RunningGateway(config, {"openai": f"{url}/v1"}, env=ENV)
    front = H1FrontEnd(it.plane, it.plane.refuse, HttpLimits())
    sock = bind("127.0.0.1", 0)
    await front.start(sock)
    _, writer = await asyncio.open_connection("127.0.0.1", sock.getsockname()[1])
    body = json.dumps({"model": "agent", "messages": MESSAGES, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await until((tmp_path / "began").exists)
    await until(lambda: len(children() - before) >= 2)  # the server, and the sandbox's worker
    await asyncio.sleep(0.3)
    started = children() - before
    writer.transport.abort()
    await until((tmp_path / "cancelled").exists)
    await until(lambda: bool(it.house.recent(1)))
    assert it.house.recent(1)[0][1].status == 499
    await until(lambda: not all(map(lives, started)))  # the worker in its endless loop is gone, the server is kept
    await front.close(1.0)
    await it.house.snapshot.aclose()
    await until(lambda: not any(map(lives, started)))
    await it.house.transport.aclose()
    await fake.aclose()


@pytest.mark.parametrize("kind", ["server", "sandbox"])
async def test_what_is_retired_ends_with_its_last_call(tmp_path: Path, kind: str):
    before = children()
    server, sandbox = slow(tmp_path), Python(timeout=600.0, memory=64 * 2**20)
    shared = server if kind == "server" else sandbox

    async def call(seconds: float) -> str:
        if kind == "server":
            return await server.call("wait", {"seconds": seconds})
        return await sandbox.run(FOREVER if seconds > 100 else "6 * 7")

    await call(0.0)
    first = children() - before
    assert first
    long = asyncio.create_task(call(600.0))
    await asyncio.sleep(0.3)
    await shared.retire()
    assert await call(0.0) in ("done", "42")  # a run that goes on calls again
    assert all(map(lives, first)) or kind == "sandbox"
    long.cancel()
    await asyncio.wait([long])
    await until(lambda: not any(map(lives, children() - before)))
    assert await call(0.0) in ("done", "42")
    await until(lambda: not any(map(lives, children() - before)))


async def test_a_reload_leaves_no_tools_of_the_configuration_before(tmp_path: Path):
    steps = [
        {"name": "a", "tool": "wait", "args": {"seconds": 0}},
        {"name": "b", "tool": "python", "args": {"code": "1"}},
    ]
    slowly = [
        {"name": "a", "tool": "wait", "args": {"seconds": 4}},
        {"name": "b", "tool": "python", "args": {"code": "len('$a')"}},
    ]
    fake = FakeUpstream()
    url = await fake.start()
    file = tmp_path / "headgate.yaml"
    file.write_text(f"""
providers: {{openai: {{base_url: "{url}/v1"}}}}
models:
  planner: {{provider: openai, upstream: planner, price: {{input: 1, output: 1}}}}
  agent: {{agent: {{planner: planner, models: [planner], tools: [slow, python]}}}}
tools:
  python: {{}}
  mcp: {{slow: {{command: ["{sys.executable}", "{SERVER}", "{tmp_path}"], allow: [wait]}}}}
""")
    served = await asyncio.to_thread(Served, file, tmp_path / "data")
    pid, began, details = served.process.pid, tmp_path / "began", {"details": True}
    try:
        fake.on("planner", answer(json.dumps({"steps": steps})), answer("Written."))
        assert (await asyncio.to_thread(served.chat, None, "agent"))[0] == 200
        first = children(pid)
        assert len(first) >= 2  # the server, and the sandbox's workers
        began.unlink()
        fake.on("planner", answer(json.dumps({"steps": slowly})), answer("Written."))
        under_way = asyncio.create_task(asyncio.to_thread(served.chat, None, "agent", headgate=details))
        await until(began.exists)
        served.process.send_signal(signal.SIGHUP)
        await until(lambda: "reloaded" in served.log())
        assert not under_way.done()
        status, _, said = await under_way
        assert (status, said["choices"][0]["message"]["content"]) == (200, "Written.")
        assert [step["result"] for step in said["headgate"]["agent"]["steps"]] == ["done", "4"]
        await until(lambda: not any(map(lives, first | children(pid))))
    finally:
        await asyncio.to_thread(served.stop)
        await fake.aclose()


@pytest.mark.parametrize(("pages", "last"), [(3, 3), (0, 100)])
async def test_tools_on_later_pages_are_tools_and_a_list_without_end_has_one(pages: int, last: int):
    command = [sys.executable, str(SERVER.with_name("paged_server.py")), str(pages)]
    server = Mcp("paged", command=command, url=None, allow=["tool1", f"tool{last}", "tool101"], env={})
    first, final = await server.tools()
    assert (first.name, final.name) == ("tool1", f"tool{last}")
    assert await final.call({}) == f"tool{last} was here"
    await server.aclose()


@pytest.mark.parametrize(
    "code", ["x = 'a' * (64 * 2**20)\nlen(x)", "x = []\nfor n in range(10**7):\n    x.append(n)\nlen(x)"]
)
async def test_a_program_has_so_much_memory_and_no_more(code: str):
    small, large = (Python(timeout=600.0, memory=size * 2**20) for size in (8, 1024))
    with pytest.raises(ToolFailed, match="MemoryError"):
        await small.run(code)
    assert int(await large.run(code)) >= 10**7
    await small.aclose()
    await large.aclose()


async def test_a_result_is_cut_and_says_so():
    class Flood:
        name, description = "flood", ""
        schema: ClassVar[dict[str, str]] = {"type": "object"}

        async def call(self, arguments: Mapping[str, Any]) -> str:
            return "x" * 600_000

    found = await broker.call(Flood(), {})
    assert found == "x" * broker.LONGEST_RESULT + "\n[cut: 600000 characters in all]"


async def test_what_may_write_is_done_once_though_its_server_dies_of_it(tmp_path: Path):
    server = slow(tmp_path)
    tools = {tool.name: tool for tool in await server.tools()}
    with pytest.raises(ToolFailed, match="'slow'"):
        await tools["die"].call({})
    assert (tmp_path / "deaths").read_text() == "x"
    assert await tools["pid"].call({})  # it has been begun anew
    with pytest.raises(ToolFailed, match="'slow'"):
        await tools["die_reading"].call({})
    assert (tmp_path / "deaths-reading").read_text() == "xx"
    await server.aclose()


async def test_a_refusal_that_speaks_of_something_closed_loses_no_session(tmp_path: Path):
    command = [sys.executable, str(SERVER), str(tmp_path)]
    server = Mcp("closed_issues", command=command, url=None, allow=["pid"], env={})
    pid = await server.call("pid", {})
    with pytest.raises(ToolFailed, match="closed_issues"):
        await server.call("closed", {})
    assert await server.call("pid", {}) == pid
    await server.aclose()


async def test_a_server_that_never_answers_is_ended_and_begun_anew(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(mcp, "CONNECT_TIME", 1.0)
    before = children()
    server = Mcp("silent", command=["sleep", "600"], url=None, allow=["pid"], env={})
    for _ in range(2):
        with pytest.raises(ToolFailed, match="'silent' did not answer"):
            await server.call("pid", {})
        await until(lambda: not any(map(lives, children() - before)))
    await server.aclose()


def test_a_path_that_is_no_files_name_leaves_nothing_open(tmp_path: Path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ToolFailed, match="no file's name"):
            Files(str(tmp_path), max_bytes=10).read("a\ud800")
    assert len(os.listdir("/proc/self/fd")) <= before
