"""Each kind of fail-over, made in a real process: a log line, a count, a decision in the trace, and an alert."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.cli import models
from headgate.simulator import script as s
from headgate.simulator.scripted import FakeUpstream
from support.gateway import Loop
from support.served import Served
from support.virtual import answer, either, streamed

CONFIG = """
providers: {own: {kind: openai-compatible, base_url: "URL/v1", api_key: x}}
models:
  two: {deployments: [{provider: own, upstream: down, weight: 1000000}, {provider: own, upstream: well, weight: 0}],
    affinity: false}
  slow: {deployments: [{provider: own, upstream: slow, weight: 1000000}, {provider: own, upstream: well, weight: 0}],
    affinity: false, hedge: {after: 50ms, share: 1}}
  down: {provider: own}
  well: {provider: own}
  cut: {provider: own}
  rests: {provider: own}
  pair: {fallback: [down, well]}
  broken: {fallback: [cut, well]}
  over: {fallback: [down]}
  helper: {agent: {planner: down, models: [down, well]}}
alerts:
  webhook: {url: "URL/hook", networks: [127.0.0.0/8]}
  on: [failover, fallback, rescue, stand_in, hedge, gave_up]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, FakeUpstream]]:
    """`headgate serve`, and the providers and the webhook in one."""
    loop = Loop()
    fake = loop.call(FakeUpstream)
    loop.run(fake.start())
    fake.on("*", s.reply_json(200, {}))  # the webhook
    fake.on("down", s.reply_json(500, {"error": {"message": "down"}}))
    fake.on("well", either(answer("well"), streamed("well")))
    fake.on("slow", either(answer("slow", after=20), streamed("slow", after=20)))
    fake.on("rests", s.reply_json(503, {"error": {"message": "later"}}, (("retry-after", "100"),)))
    fake.on("cut", streamed("Half an ", ending=s.Reset()))
    folder = tmp_path_factory.mktemp("moves")
    file = folder / "headgate.yaml"
    file.write_text(CONFIG.replace("URL", fake.base_url))
    found = Served(file, folder / "data")
    yield found, fake
    found.close()
    loop.run(fake.aclose())
    loop.close()


def _ask(house: Served, model: str, *, stream: bool) -> str:
    """The request's trace."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "stream": stream}
    request = urllib.request.Request(f"{house.url}/v1/chat/completions", data=json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as found:
            found.read()
            return found.headers["x-headgate-trace"]
    except urllib.error.HTTPError as error:
        return error.headers["x-headgate-trace"]


def _count(house: Served, kind: str) -> float:
    with urllib.request.urlopen(f"{house.url}/metrics", timeout=20) as found:
        text = found.read().decode()
    match = re.search(rf'headgate_failovers_total{{kind="{kind}"}} (\S+)', text)
    return float(match[1]) if match else 0.0


@pytest.mark.parametrize(
    ("kind", "model", "stream", "says"),
    [
        ("failover", "two", False, ("frm", "own/down")),
        ("fallback", "pair", False, ("chosen", "well")),
        ("rescue", "broken", True, ("chosen", "well")),
        ("stand_in", "helper", False, ("over", ["down"])),
        ("hedge", "slow", True, ("to", "own/well")),
        ("gave_up", "over", False, ("over", ["down"])),
    ],
)
def test_a_move_is_logged_counted_decided_and_alerted(house, kind, model, stream, says):
    gateway, fake = house
    before = _count(gateway, kind)
    trace = _ask(gateway, model, stream=stream)
    with urllib.request.urlopen(f"{gateway.url}/v1/traces/{trace}", timeout=20) as found:
        decisions = [decision["kind"] for decision in json.loads(found.read())["decisions"]]
    moves = decisions.count("fallback" if kind == "gave_up" else kind)
    assert moves == 1 if kind != "stand_in" else moves >= 1, "an agent asks several times"
    assert _count(gateway, kind) == before + moves
    name, value = says
    deadline = time.monotonic() + 30
    alerts: list[Any] = []
    lines: list[Any] = []
    while not (alerts and lines) and time.monotonic() < deadline:
        time.sleep(0.05)
        heard = [json.loads(call.body) for call in list(fake.calls) if call.path == "/hook"]
        alerts = [one for one in heard if one["alert"] == kind]
        logged = [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]
        lines = [one for one in logged if one["event"] == kind and one["trace"] == trace]
    assert alerts[0]["facts"][name] == value
    assert lines[0][name] == value


def test_a_deployments_state_is_shown_wherever_an_operator_looks(house, capsys, monkeypatch):
    """`/health`, the admin API, the metrics and the command line; with the reason and when it will be asked again."""
    gateway, _ = house
    _ask(gateway, "rests", stream=False)
    with urllib.request.urlopen(f"{gateway.url}/health", timeout=20) as found:
        state = json.loads(found.read())["models"]["rests"]["deployments"]["own/rests"]
    assert (state["state"], state["reason"]) == ("open", "overloaded, asked to wait")
    assert 0 < state["recovers_in"] <= 100
    shown = {entry["name"]: entry for entry in gateway.ask_admin("/models")}
    [deployment] = shown["rests"]["deployments"]
    assert (deployment["health"]["state"], deployment["health"]["reason"]) == ("open", state["reason"])
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=20) as found:
        metrics = found.read().decode()
    assert 'headgate_breaker_state{deployment="own/rests",model="rests"} 2.0' in metrics
    assert re.search(
        r'breaker_recovers_seconds{deployment="own/rests",error_type="overloaded",model="rests"} \d', metrics
    )
    monkeypatch.setenv("COLUMNS", "200")
    models.models(health=True, url=gateway.url)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("rests "))
    assert state["reason"] in line
    assert re.search(r"\d\.\d s", line)
