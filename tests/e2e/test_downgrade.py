"""Under the pressure of a key's hard budget a route downgrades where its rule allows it, and refuses where it does not:
`headgate serve` on SQLite, over simulated models."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
  named:
    route:
      classifier: model
      model: small
      otherwise: small
      tasks:
        code: {{model: strong, downgrade: [middle, small]}}
        creative: {{model: strong}}
  chain: {{fallback: [auto, middle]}}
  asked: {{fallback: [named, middle]}}
  trial: {{experiment: {{arms: {{today: auto, asked: named}}}}}}
"""
CODE = "Write a Python function that reverses a linked list."
POEM = "Write a short poem about the sea."


def eventually(test: Callable[[], Any], seconds: float = 30.0) -> None:
    """What the ledger has booked shows a moment later."""
    until = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < until, "never"
        time.sleep(0.1)


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

    def names(self, label: str) -> None:
        """What the model that is asked for the task says, whatever the prompt."""
        says = json.dumps({"label": label, "confidence": 0.9})
        self.loop.call(lambda: self.sim.scripts.on("You label what kind of work", says))

    def ask(
        self, prompt: str, key: dict[str, Any], model: str = "auto", **more: Any
    ) -> tuple[int, dict[str, str], Any]:
        messages = [{"role": "user", "content": prompt}]
        return self.gateway.chat(key["secret"], model, messages=messages, headgate={"details": True}, **more)

    def books(self, key: dict[str, Any]) -> tuple[dict[str, float], float, float]:
        """US$ by role (`` is the answer itself) as the ledger has them, then what the budget has spent and holds."""
        rows = self.gateway.ask_admin(f"/usage?by=role&since=1h&key={key['id']}")
        (budget,) = [row for row in self.gateway.ask_admin("/budgets") if row["scope"] == f"key:{key['id']}"]
        spent = {row["role"] or "": float(row["cost_usd"]) for row in rows}
        return spent, float(budget["spent_usd"]), float(budget["reserved_usd"])

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


def test_a_task_that_a_model_names_is_downgraded_as_well_and_its_own_call_is_paid(stage: Stage) -> None:
    stage.names("code")
    key = stage.key(0.02)  # strong may cost 0.021
    status, headers, body = stage.ask("An answer to all of it.", key, "named", max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "middle"), body
    details = body["headgate"]
    assert [(a["model"], a.get("role")) for a in details["attempts"]] == [("small", "classifier"), ("middle", None)]
    assert float(details["cost_usd"]) == pytest.approx(sum(float(a["cost_usd"]) for a in details["attempts"]))
    kinds = [(d["kind"], d["chosen"]) for d in stage.decisions(headers, key)]
    assert kinds == [("classify", "code"), ("downgrade", "middle"), ("route", "middle")]
    (decided,) = [d for d in stage.decisions(headers, key) if d["kind"] == "downgrade"]
    assert "strong" in decided["over"]
    asked, served = (float(a["cost_usd"]) for a in details["attempts"])

    def booked() -> bool:
        spent, total, reserved = stage.books(key)
        return spent == {"classifier": asked, "": served} and (total, reserved) == (pytest.approx(asked + served), 0)

    eventually(booked)


def test_with_money_for_every_task_the_named_ones_own_model_answers(stage: Stage) -> None:
    stage.names("code")
    key = stage.key(0.05)
    status, headers, _ = stage.ask("Anything at all, please.", key, "named", max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "strong")
    assert "downgrade" not in {d["kind"] for d in stage.decisions(headers, key)}


def test_what_is_reserved_is_the_dearest_task_and_the_question_not_all_tasks_together(stage: Stage) -> None:
    key = stage.key(5.0)
    body = {"model": "named", "max_tokens": 1000, "messages": [{"role": "user", "content": "Whatever it is."}]}
    url = f"{stage.gateway.url}/v1/explain"
    _, _, found = stage.gateway._send(url, body, {"x-api-key": key["secret"]})
    assert found["route"]["asks"] == "small"
    worst = float(found["predicted"]["worst_case_usd"])
    assert 0.021 < worst < 0.025, "strong, then small, and small for the question; middle is for others"


def test_a_named_task_without_a_downgrade_is_refused_and_its_repetition_costs_nothing(stage: Stage) -> None:
    stage.names("creative")
    key = stage.key(0.015)
    status, headers, body = stage.ask("Some words of yours.", key, "named", max_tokens=1000)
    assert (status, headers["x-should-retry"], body["error"]["code"]) == (402, "false", "budget_exceeded")
    assert "'creative' has no `downgrade`" in body["error"]["message"]
    eventually(lambda: set(stage.books(key)[0]) == {"classifier"} and stage.books(key)[2] == 0)
    before = stage.books(key)[1]
    assert 0 < before < 0.001
    assert stage.ask("Some words of yours.", key, "named", max_tokens=1000)[0] == 402
    assert stage.books(key)[1] == before, "the task is known now: refused before anything is sent"


def test_a_shorter_answer_for_every_task_comes_before_refusing_some(stage: Stage) -> None:
    stage.names("creative")
    key = stage.key(0.06)  # 4,096 tokens of strong may cost 0.082, and `creative` has no downgrade
    messages = [{"role": "user", "content": "A few more words of yours."}]
    status, headers, _ = stage.gateway.chat(key["secret"], "named", messages=messages, max_tokens=None)
    assert (status, headers["x-headgate-model"]) == (200, "strong")
    assert ("max_tokens", 1024) in [(d["kind"], d["chosen"]) for d in stage.decisions(headers, key)]


def test_nobody_is_asked_for_the_task_where_that_would_cost_it_its_answer(stage: Stage) -> None:
    stage.names("creative")
    key = stage.key(0.0012)  # small may cost 0.0011 for the answer, 0.0006 for the question
    status, headers, body = stage.ask(CODE + " In Ada.", key, "named", max_tokens=1000)
    assert (status, headers["x-headgate-model"], body["headgate"]["task"]["label"]) == (200, "small", "code")
    assert [a["model"] for a in body["headgate"]["attempts"]] == ["small"]
    (decided,) = [d for d in stage.decisions(headers, key) if d["kind"] == "classify"]
    assert "budgets do not cover that too" in decided["because"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_crowd_on_a_nearly_spent_budget_never_spends_beyond_it(stage: Stage, stream: bool) -> None:
    stage.names("code")
    budget = 0.03
    key = stage.key(budget)

    def one(number: int) -> str:
        prompt = f"Number {number}, {'in pieces' if stream else 'at once'}: do it."
        messages = [{"role": "user", "content": prompt}]
        body = {"model": "named", "messages": messages, "max_tokens": 1000, "stream": stream}
        asked = urllib.request.Request(
            f"{stage.gateway.url}/v1/chat/completions", json.dumps(body).encode(), {"x-api-key": key["secret"]}
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                said = answer.read()
                assert not stream or said.rstrip().endswith(b"data: [DONE]"), said[-300:]
                return answer.headers["x-headgate-model"]
        except urllib.error.HTTPError as error:
            return "refused" if error.code == 402 else f"{error.code}: {error.read()!r}"

    with ThreadPoolExecutor(8) as pool:
        served = list(pool.map(one, range(120)))
    # whether what eight at a time leave of it is ever enough for `middle` is luck
    assert {"small"} <= set(served) <= {"strong", "middle", "small", "refused"}

    def adds_up() -> bool:  # the ledger's rows come a moment after the budget's own figure
        spent, total, reserved = stage.books(key)
        return reserved == 0 and len(spent) == 2 and total == pytest.approx(sum(spent.values()))

    eventually(adds_up)
    assert stage.books(key)[1] <= budget


def test_a_route_that_is_an_arm_of_an_experiment_downgrades_as_well(stage: Stage) -> None:
    stage.names("code")
    arms: set[str] = set()
    for number in range(12):
        key = stage.key(0.015)
        prompt = f"{CODE} In at most {number + 3} lines."
        status, headers, body = stage.ask(prompt, key, "trial", max_tokens=1000)
        assert (status, headers["x-headgate-model"]) == (200, "middle"), body
        arms.add(body["headgate"]["experiment"]["arm"])
        assert [d["chosen"] for d in stage.decisions(headers, key) if d["kind"] == "downgrade"] == ["middle"]
        assert stage.books(key)[1] <= 0.015
    assert arms == {"today", "asked"}
    key = stage.key(0.0001)
    assert stage.ask(CODE, key, "trial", max_tokens=1000)[0] == 402


@pytest.mark.parametrize("model", ["chain", "asked"])
def test_a_chain_over_a_route_keeps_what_budgets_cover(stage: Stage, model: str) -> None:
    stage.names("code")
    key = stage.key(0.015)  # middle may cost 0.011 for the route; not once more behind it
    prompt = f"{CODE} In {model}."
    status, headers, body = stage.ask(prompt, key, model, max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "middle"), body
    decided = {d["kind"]: d for d in stage.decisions(headers, key)}
    assert decided["downgrade"]["chosen"] == "middle"
    assert "budgets do not cover it" in decided["skip"]["because"]
    assert stage.books(key)[1] <= 0.015
    key = stage.key(5.0)
    status, headers, _ = stage.ask(f"{prompt} Again.", key, model, max_tokens=1000)
    assert (status, headers["x-headgate-model"]) == (200, "strong")
    assert not {"downgrade", "skip"} & {d["kind"] for d in stage.decisions(headers, key)}


def test_a_chain_over_a_rule_without_a_downgrade_refuses_as_before(stage: Stage) -> None:
    key = stage.key(0.015)
    assert stage.ask(POEM, key, "chain", max_tokens=1000)[0] == 402
