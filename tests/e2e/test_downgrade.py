"""Under the pressure of a key's hard budget a route downgrades where its rule allows it, and refuses where it does not:
`headgate serve` on SQLite, over simulated models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.simulator.app import Simulator
from support.gateway import Loop
from support.served import Served
from support.sim import INSTANT

CONFIG = """
providers:
  anthropic: {{base_url: "{anthropic}"}}
  openai: {{base_url: "{openai}"}}
  meta: {{kind: openai-compatible, api_key: x, base_url: "{meta}"}}
models:
  strong: {{provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.020, max_output: 4096}}
  middle: {{provider: openai, upstream: gpt-5.5, cost_per_1k: 0.010, max_output: 4096}}
  small: {{provider: meta, upstream: llama-4-maverick, cost_per_1k: 0.001, max_output: 4096}}
  auto:
    route:
      otherwise: small
      tasks:
        code: {{model: strong, downgrade: [middle, small]}}
        creative: {{model: strong}}
"""
CODE = "Write a Python function that reverses a linked list."
POEM = "Write a short poem about the sea."


class Stage:
    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        file = folder / "headgate.yaml"
        file.write_text(CONFIG.format(**urls))
        self.gateway = Served(file, folder / "data")

    def key(self, budget: float) -> dict[str, Any]:
        return self.gateway.ask_admin("/keys", {"name": "k", "budgets": {"daily": budget}})

    def ask(self, prompt: str, key: dict[str, Any], **more: Any) -> tuple[int, dict[str, str], Any]:
        messages = [{"role": "user", "content": prompt}]
        return self.gateway.chat(key["secret"], "auto", messages=messages, headgate={"details": True}, **more)

    def decisions(self, headers: dict[str, str], key: dict[str, Any]) -> list[dict[str, Any]]:
        url = f"{self.gateway.url}/v1/traces/{headers['x-headgate-trace']}"
        return self.gateway._send(url, None, {"x-api-key": key["secret"]})[2]["decisions"]

    def close(self) -> None:
        self.gateway.close()
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("downgrade"))
    yield found
    found.close()


def test_a_key_with_money_is_served_by_the_rules_own_model(stage: Stage) -> None:
    key = stage.key(5.0)
    status, headers, body = stage.ask(CODE, key, max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "strong")
    assert "downgrade" not in {d["kind"] for d in stage.decisions(headers, key)}
    assert "downgraded" not in body["headgate"]["chosen"]["because"]


def test_a_budget_that_does_not_cover_it_leads_to_the_cheaper_models_the_rule_names(stage: Stage) -> None:
    key = stage.key(0.015)  # strong may cost 0.021, middle 0.011, small 0.001
    status, headers, body = stage.ask(CODE, key, max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "middle"), body
    assert "budgets cover" in body["headgate"]["chosen"]["because"]
    (decided,) = [d for d in stage.decisions(headers, key) if d["kind"] == "downgrade"]
    assert (decided["chosen"], "strong" in decided["over"]) == ("middle", True)
    assert "budgets cover $0.015" in decided["because"]
    served = ["middle"]
    for _ in range(400):
        status, headers, _ = stage.ask(CODE, key, max_tokens=1000)
        if status != 200:
            break
        served.append(headers["x-headgate-model"])
    assert status == 402, "in the end not even the cheapest is covered"
    assert served == sorted(served), "middle as long as it is covered, then small"
    assert set(served) == {"middle", "small"}


def test_a_rule_that_does_not_allow_it_refuses_as_before(stage: Stage) -> None:
    key = stage.key(0.015)
    status, headers, body = stage.ask(POEM, key, max_tokens=1000)
    assert (status, headers["x-should-retry"]) == (402, "false"), body
    assert stage.ask(POEM, key, max_tokens=300)[1]["x-headgate-model"] == "strong", "nor is anything cheaper taken"


def test_without_a_maximum_of_the_clients_a_cheaper_model_comes_before_a_shorter_answer(stage: Stage) -> None:
    key = stage.key(0.06)  # 4,096 tokens of strong may cost 0.082
    status, headers, _ = stage.gateway.chat(
        key["secret"], "auto", messages=[{"role": "user", "content": CODE}], max_tokens=None
    )
    assert (status, headers["x-headgate-model"]) == (200, "middle")
    kinds = [(d["kind"], d["chosen"]) for d in stage.decisions(headers, key)]
    assert ("downgrade", "middle") in kinds
    assert ("max_tokens", 4096) in kinds
