"""Faults of our own process: stopped, out of file descriptors, blocked. (Numbers: test_index.py.)"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from headgate.core.pulse import Pulse
from headgate.simulator.scripted import FakeUpstream
from support.asking import ask, told
from support.gateway import Loop
from support.served import ServedGateway
from support.virtual import streamed

SLOW = "  slow: {provider: anthropic, upstream: claude-opus-4-7, timeout: {total: 2s, first_token: 2s}}\n"


@pytest.fixture
def served(tmp_path):
    found = ServedGateway(tmp_path, SLOW)
    yield found
    found.close()


def status_of(url: str, model: str, *, stream: bool = False) -> int:
    """-1 where the connection was refused or cut, or a stream ended without its end."""
    try:
        status, _, body = ask(url, model, stream=stream)
        return -1 if stream and status == 200 and not body.endswith(b"data: [DONE]\n\n") else status
    except (OSError, HTTPException):
        return -1


def health(served: ServedGateway, model: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{served.url}/health", timeout=10) as answer:
        deployments = json.load(answer)["models"][model]["deployments"]
    return next(iter(deployments.values()))


def answers_again(served: ServedGateway, model: str) -> bool:
    for _ in range(60):
        if status_of(served.url, model) == 200:
            return True
        time.sleep(0.25)
    return False


@pytest.mark.parametrize("stream", [False, True])
def test_31_a_stopped_process_keeps_its_deadlines_and_blames_nobody(served, stream):
    served.loop.run(served.sim.break_model("claude-4.7", "hang"))
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(status_of, served.url, "slow", stream=stream) for _ in range(8)]
        time.sleep(0.7)
        os.kill(served.process.pid, signal.SIGSTOP)
        time.sleep(3.0)  # longer than the 2 s that each call may take
        os.kill(served.process.pid, signal.SIGCONT)
        woke = time.monotonic()
        assert {one.result(20) for one in asked} == {504}
        assert time.monotonic() - woke < 5
    assert health(served, "slow")["state"] == "closed"
    served.loop.run(served.sim.mend())
    assert answers_again(served, "slow")
    # and the same silence of a process that did run does count
    served.loop.run(served.sim.break_model("claude-4.7", "hang"))
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: status_of(served.url, "slow", stream=stream), range(8))) == {504}
    assert health(served, "slow")["state"] == "open"


@pytest.mark.parametrize("stream", [False, True])
def test_32_without_file_descriptors_it_sheds_and_recovers(served, stream):
    def free(limit: int) -> int:
        """Numbers below the limit that are not taken: the limit is one of numbers, and those in use have gaps."""
        return limit - sum(int(number) < limit for number in os.listdir(f"/proc/{served.process.pid}/fd"))

    def leave(wanted: int) -> None:
        limit = next(number for number in itertools.count() if free(number) == wanted)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (limit, hard))

    _, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    served.loop.run(served.sim.break_model("claude-4.7", "slow_first_token", delay=2.0))
    with ThreadPoolExecutor() as threads:
        for held in range(1, 6):  # again where a connection was just being closed: its descriptor came free too
            leave(20)
            # so that no idle connection to the provider is left
            threads.submit(status_of, served.url, "claude-4.7", stream=stream)
            while len(served.sim.served("claude-4.7")) < held:
                time.sleep(0.01)
            leave(1)  # who asks is accepted with it, and none is left to ask the provider with
            if refused := status_of(served.url, "gpt-5.5", stream=stream) == 503:
                break
    assert refused
    leave(12)
    with ThreadPoolExecutor(40) as threads:
        statuses = set(threads.map(lambda _: status_of(served.url, "claude-4.7", stream=stream), range(40)))
    assert 200 in statuses
    assert statuses <= {200, 503, -1}
    assert served.process.poll() is None
    served.loop.run(served.sim.mend())
    assert answers_again(served, "claude-4.7")  # the limit is as low as before
    assert {health(served, name)["state"] for name in ("claude-4.7", "gpt-5.5")} == {"closed"}


def test_33_a_blocked_loop_is_measured_and_sheds(wires):
    house = wires.gateway.house
    events: list[tuple[str, dict[str, Any]]] = []
    house.on_event.append(lambda kind, facts: events.append((kind, facts)))
    wires.loop.call(house.pulse.start)
    asked: list[int] = []

    def block() -> None:
        # The request is sent while nothing runs, so that it is the first thing to be read afterwards.
        thread = threading.Thread(target=lambda: asked.append(status_of(wires.gateway.url, "first")))
        thread.start()
        time.sleep(2.0)

    wires.loop.call(lambda: wires.loop.loop.call_later(0.01, block))
    time.sleep(2.5)
    deadline = time.monotonic() + 10
    while not asked and time.monotonic() < deadline:
        time.sleep(0.02)
    assert asked == [503]
    assert house.pulse.worst >= 1.0
    assert ("shed", "lag") in [(kind, facts.get("reason")) for kind, facts in events]
    while status_of(wires.gateway.url, "first") != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status_of(wires.gateway.url, "first") == 200
    wires.loop.call(house.pulse.stop)


def test_33_a_blocked_loop_blames_no_provider_for_what_it_has_not_read(wires):
    """The provider runs in a loop of its own and speaks in time; ours is blocked until its limit for that is over."""
    elsewhere = Loop()
    fake = elsewhere.call(FakeUpstream)
    elsewhere.run(fake.start())
    fake.on("one", streamed("In ", "time.", after=0.25))
    wires.fresh(f"{fake.base_url}/v1")
    heard: list[tuple[int, dict[str, str], bytes]] = []
    asking = threading.Thread(target=lambda: heard.append(wires.ask("first", stream=True)))

    asking.start()
    while not fake.calls:
        time.sleep(0.005)
    wires.loop.call(lambda: time.sleep(0.7))  # the first content is due 0.5 s after the request
    asking.join(20)
    status, _, body = heard[0]
    assert (status, told(body)[:2]) == (200, ("In time.", True)), body
    wires.fresh()
    elsewhere.run(fake.aclose())
    elsewhere.close()


def test_33_the_least_important_are_shed_first():
    pulse = Pulse()
    pulse.pressure = 1.0
    assert [pulse.sheds(priority) for priority in (-1, 0, 1)] == [True, True, False]
    pulse.pressure = 3.0
    assert pulse.sheds(9)
    pulse.pressure = 0.1
    assert not pulse.sheds(-9)
