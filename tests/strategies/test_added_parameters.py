"""What a rule, a panel or a judge adds and a model does not take is left out with a decision; `x-headgate-lossy` is for
what the client itself had said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import Heard, VirtualGateway, answer, virtually

CONFIG = """
providers: {anthropic: {base_url: "http://one"}}
models:
  newest: {provider: anthropic, upstream: claude-opus-4-7, price: {input: 1, output: 1}}
  older: {provider: anthropic, upstream: claude-haiku-3, price: {input: 1, output: 1}}
  panel: {ensemble: {members: {newest: 0.6, older: 0.4}, temperature: 0.3, judge: newest}}
  ruled:
    route:
      classifier: keyword
      keywords: {code: [bug]}
      tasks: {code: {model: newest, temperature: 0.2}}
      otherwise: older
  agent: {agent: {planner: newest, validator: newest, models: [older]}}
"""
OPENAI = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  thinker: {provider: openai, upstream: o3, price: {input: 1, output: 1}}
  plain: {provider: openai, upstream: gpt-4.1, price: {input: 1, output: 1}}
  panel: {ensemble: {members: {plain: 0.6, thinker: 0.4}, temperature: 0.3, judge: thinker}}
  ruled:
    route:
      classifier: keyword
      keywords: {code: [bug]}
      tasks: {code: {model: thinker, temperature: 0.2}}
      otherwise: plain
  named: {route: {classifier: model, model: thinker, tasks: {}, otherwise: plain}}
"""
CODE = [{"role": "user", "content": "Fix this bug:\n```python\ndef add(a, b):\n    return a - b\n```"}]


def gateway() -> VirtualGateway:
    it = VirtualGateway(CONFIG)
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "7"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }
    for name in ("claude-opus-4-7", "claude-haiku-3"):
        it.fake.on(name, s.reply_json(200, body))
    return it


def sent(it: VirtualGateway, model: str) -> list[dict[str, Any]]:
    return [json.loads(call.body) for call in it.fake.calls_of(model)]


def left_out(it: VirtualGateway) -> list[tuple[list[str], str]]:
    return [(d.over, d.because) for d in it.house.recent(1)[0][0].decisions if d.kind == "parameter"]


@pytest.mark.parametrize("model", ["panel", "agent"])
def test_what_we_add_is_no_loss_of_the_clients(model: str):
    async def main() -> None:
        it = gateway()
        heard = await it.ask(model)
        assert "x-headgate-lossy" not in heard.headers
        assert left_out(it) == [
            (["temperature"], "newest does not take temperature, and the client did not ask for it")
        ]
        assert len(sent(it, "claude-opus-4-7")) >= 2
        assert not any("temperature" in body for body in sent(it, "claude-opus-4-7"))

    virtually(main)


def test_what_the_client_said_is():
    async def main() -> None:
        it = gateway()
        heard = await it.ask("panel", temperature=0.7)
        assert heard.headers["x-headgate-lossy"] == "temperature"
        assert [body["temperature"] for body in sent(it, "claude-haiku-3")] == [0.7]

    virtually(main)


@pytest.mark.parametrize("door", ["/v1/messages", "/v1/chat/completions"])
def test_a_rules_temperature_does_not_reach_a_model_that_refuses_it(door: str):
    """At the provider's own door too, where what the client says is passed on as it is."""

    async def main() -> None:
        for said, arrives in (({}, None), ({"temperature": 0.9}, 0.9 if door == "/v1/messages" else None)):
            it, heard = gateway(), Heard()
            body = json.dumps({"model": "ruled", "messages": CODE, "max_tokens": 50, **said}).encode()
            given = {"host": "localhost"}
            await it.plane(Request("POST", door, "", given, list(given.items()), body), heard)
            assert heard.status == 200
            [upstream] = sent(it, "claude-opus-4-7")
            assert upstream.get("temperature") == arrives
            assert ("x-headgate-lossy" in heard.headers) == (bool(said) and arrives is None)
            assert bool(left_out(it)) == (not said)

    virtually(main)


@pytest.mark.parametrize(("model", "asked"), [("panel", 2), ("ruled", 1), ("named", 1)])
def test_openais_reasoning_models_are_asked_without_a_temperature(model: str, asked: int):
    """As members, judges and classifiers too: they refuse the request for it."""

    async def main() -> None:
        it = VirtualGateway(OPENAI)
        for name, text in (("o3", '{"label": "code", "confidence": 1}'), ("gpt-4.1", "7")):
            it.fake.on(name, answer(text, model=name))
        heard = await it.ask(model, messages=CODE)
        assert heard.status == 200, heard.json()
        assert "x-headgate-lossy" not in heard.headers
        bodies = sent(it, "o3")
        assert len(bodies) >= asked
        assert not any("temperature" in body for body in bodies)
        assert any(over == ["temperature"] for over, _ in left_out(it))
        if model == "panel":
            assert [body["temperature"] for body in sent(it, "gpt-4.1")] == [0.3], "others take it"

    virtually(main)


def test_what_the_client_says_at_their_own_door_is_the_providers_to_answer():
    async def main() -> None:
        it = VirtualGateway(OPENAI)
        it.fake.on("o3", answer("7", model="o3"))
        await it.ask("thinker", temperature=0.7)
        assert [body["temperature"] for body in sent(it, "o3")] == [0.7]

    virtually(main)
