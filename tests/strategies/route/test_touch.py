"""What a rule adds to a request, as the provider hears it: only where the client has said nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from headgate.strategies.route.rules import Hours, Rule, rule_for
from support.virtual import Heard, VirtualGateway, answer, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}, anthropic: {base_url: "http://two"}}
models:
  m: {provider: openai, upstream: gpt-4.1, price: {input: 1, output: 1}}
  thinking: {provider: anthropic, upstream: claude-sonnet-4-5, price: {input: 1, output: 1}}
  auto:
    route:
      classifier: keyword
      keywords: {code: [bug], creative: [poem], math: [proof]}
      tasks:
        code: {model: m, system: You fix bugs., temperature: 0.2, top_p: 0.9, max_tokens: 321}
        creative: {model: m, system: {text: Rhyme., when: always}}
        math: {model: thinking, temperature: 0.2}
      otherwise: m
"""


def heard(prompt: str, *, system: str | None = None, role: str = "system", **said: Any) -> dict[str, Any]:
    """The body that the provider is sent for it."""
    out: list[dict[str, Any]] = []

    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("gpt-4.1", answer("Done."))
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": role, "content": system})
        found = await it.ask("auto", messages=messages, **said)
        assert found.status == 200, found.json()
        out.append(json.loads(it.fake.calls_of("gpt-4.1")[0].body))

    virtually(main)
    return out[0]


def systems(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] in ("system", "developer")]


def test_what_the_client_leaves_out_the_rule_fills_in():
    body = heard("Fix this bug.")
    assert systems(body) == ["You fix bugs."]
    assert body["messages"][0]["role"] == "system"
    assert (body["temperature"], body["top_p"], body["max_completion_tokens"]) == (0.2, 0.9, 321)


@pytest.mark.parametrize("role", ["system", "developer"])
def test_what_the_client_says_stays(role: str):
    body = heard("Fix this bug.", system="You are terse.", role=role, temperature=0, top_p=1, max_tokens=7)
    assert systems(body) == ["You are terse."]
    assert (body["temperature"], body["top_p"]) == (0, 1), "nothing and one are said, too"
    assert 7 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert 321 not in body.values()


def test_each_parameter_by_itself():
    body = heard("Fix this bug.", temperature=0.7)
    assert (body["temperature"], body["top_p"]) == (0.7, 0.9)
    assert systems(body) == ["You fix bugs."]


def test_always_puts_the_rules_text_before_the_clients():
    assert systems(heard("Write a poem.")) == ["Rhyme."]
    body = heard("Write a poem.", system="You are terse.")
    assert systems(body) == ["Rhyme.", "You are terse."]
    assert "temperature" not in body


def test_a_task_without_a_rule_is_passed_on_as_it_came():
    body = heard("Good morning.", temperature=0.4)
    assert body["messages"] == [{"role": "user", "content": "Good morning."}]
    assert {name for name in body if name not in ("model", "messages", "stream")} <= {"temperature"}


def test_where_reasoning_is_asked_for_the_rules_temperature_is_left_out_and_said():
    async def main() -> None:
        it, heard = VirtualGateway(CONFIG), Heard()
        said = {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": "7"}],
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }  # fmt: skip
        it.fake.on("claude-sonnet-4-5", s.reply_json(200, said))
        body = {
            "model": "auto", "max_tokens": 3000, "messages": [{"role": "user", "content": "A proof, please."}],
            "thinking": {"type": "enabled", "budget_tokens": 2000},
        }  # fmt: skip
        given = {"host": "localhost"}
        request = Request("POST", "/v1/messages", "", given, list(given.items()), json.dumps(body).encode())
        await it.plane(request, heard)
        assert heard.status == 200, heard.body
        [call] = it.fake.calls_of("claude-sonnet-4-5")
        assert "temperature" not in json.loads(call.body)
        decided = [d for d in it.house.recent(1)[0][0].decisions if d.kind == "parameter"]
        assert [d.over for d in decided] == [["temperature"]]
        assert "reasoning" in decided[0].because

    virtually(main)


# -- when a rule holds ---------------------------------------------------------------------------------------------------
NIGHT = 1_764_000_000.0 // 86_400 * 86_400 + 23 * 3600
"""23:00 UTC."""


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"tags": frozenset({"release"})}, True),
        ({"tags": frozenset({"release", "urgent"})}, False),
        ({"keys": frozenset({"key_1"})}, True),
        ({"keys": frozenset({"ci"})}, True),
        ({"keys": frozenset({"other"})}, False),
        ({"hours": Hours(22 * 60, 6 * 60)}, True),
        ({"hours": Hours(8 * 60, 18 * 60)}, False),
        ({"tags": frozenset({"release"}), "keys": frozenset({"ci"}), "hours": Hours(8 * 60, 18 * 60)}, False),
    ],
)
def test_all_of_a_rules_conditions_must_hold(rule: dict[str, Any], holds: bool):
    """Tags of the request, its key by id or name, and the hour at which it came."""
    run: Any = SimpleNamespace(
        trace=SimpleNamespace(tags=("release", "team-a")),
        principal=SimpleNamespace(key_id="key_1", name="ci"),
        clock=SimpleNamespace(time=lambda: NIGHT),
    )
    only, rest = Rule(models=("m",), **rule), Rule(models=("n",))
    assert only.holds(run) is holds
    assert rule_for([only, rest], run) is (only if holds else rest)
    assert rule_for([Rule(models=("m",), keys=frozenset({"other"}))], run) is None
