"""Why the safe default or a strategy stands where it does: no rule, nothing of the rule fits, the rule names it itself; and
how a wrong suffix and a cost limit are told."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

CONFIG = """
providers: {anthropic: {}, openai: {}}
models:
  strong: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015}
  middle: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.010}
  chain: {fallback: [middle, strong]}
  auto:
    route:
      classifier: keyword
      keywords: {code: [bug], math: [sum], summary: [brief]}
      tasks:
        code: {model: middle, max_cost: 0.000000001}
        math: {model: strong, max_cost: 0.000000001}
        summary: {models: [chain, strong]}
      otherwise: middle
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Any]:
    loop, sim = Loop(), Simulator(INSTANT)
    urls = loop.run(sim.start(0))
    found = loop.call(lambda: RunningGateway(CONFIG, urls, env=ENV))
    loop.run(found.start())
    yield found
    loop.run(found.stop())
    loop.run(sim.aclose())
    loop.close()


def post(gateway: Any, path: str, prompt: str, model: str = "auto", **headers: str) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 100}
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(gateway.url + path, json.dumps(body).encode(), sent), timeout=20
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    ("prompt", "chosen", "because"),
    [
        ("hello", "middle", "no rule for 'unknown'"),
        (
            "a bug",
            "middle",
            "none of the rule's models for 'code' fits (of this one: dearer than the rule's cost limit)",
        ),
        ("a sum", "middle", "the default: none of the rule's models for 'math' fits"),
        ("in brief", "strong", "summary (1.00): keyword 'brief'"),
    ],
)
def test_the_default_says_why_it_is_asked(gateway: Any, prompt: str, chosen: str, because: str) -> None:
    status, found = post(gateway, "/v1/explain", prompt)
    assert (status, found["chosen"]["model"]) == (200, chosen)
    assert found["chosen"]["because"].endswith(because)
    first = found["candidates"][0]
    assert (first["model"], "out" in first) == (chosen, False), "who is asked is not out"


def test_a_strategy_that_a_rule_names_and_the_default_after_it_have_their_reasons(gateway: Any) -> None:
    _, found = post(gateway, "/v1/explain", "in brief")
    reasons = {row["model"]: row["because"] for row in found["candidates"]}
    assert reasons["chain"] == "the task's next candidate"
    assert reasons["middle"] == "if the others fail"


def test_a_wrong_suffix_and_a_limit_that_is_too_low_say_what_would_do(gateway: Any) -> None:
    status, found = post(gateway, "/v1/explain", "hello", "auto:chep")
    assert (status, "Suffixes are :best, :cheap, :fast." in found["error"]["message"]) == (404, True)
    status, found = post(gateway, "/v1/chat/completions", "hello", "middle", x_headgate_max_cost="0.000001")
    message = found["error"]["message"]
    assert (status, found["error"]["code"]) == (402, "max_cost_exceeded")
    assert "it may cost up to $0.001" in message
    assert "$0.000001 is left; a lower max_tokens makes it less" in message
