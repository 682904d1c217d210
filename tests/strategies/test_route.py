"""Task routing through the running gateway: the demo's six rules, explained, edited in, and failing over."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import openai
import pytest

from headgate.simulator.app import Simulator
from headgate.strategies.route.learned import classify
from support.at_rest import at_rest
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT

__all__ = ["at_rest"]


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0, port_each=True))
        self.gateway = self.loop.call(lambda: RunningGateway(EXAMPLE.read_text(encoding="utf-8"), urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def ask(self, prompt: str, model: str = "auto", **more: Any) -> tuple[Any, dict[str, Any]]:
        messages = more.pop("messages", [{"role": "user", "content": prompt}])
        answer = self.client.chat.completions.with_raw_response.create(
            model=model, messages=messages, extra_body={"headgate": {"details": True}}, **more
        )
        return answer.headers, answer.parse().model_extra["headgate"]

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def stage():
    found = Stage()
    yield found
    found.close()


def test_the_literal_test_of_the_mission(stage):
    headers, details = stage.ask("Analyze this financial report")
    assert headers["x-headgate-model"] == "claude-4.7"
    assert headers["x-headgate-strategy"] == "route"
    assert details["task"]["label"] == "analysis"
    assert details["chosen"]["model"] == "claude-4.7"
    with urllib.request.urlopen(f"{stage.url}/v1/traces/{details['trace']}", timeout=10) as answer:
        trace = json.loads(answer.read())
    assert trace["task"]["label"] == "analysis"
    assert any(decision["kind"] == "route" for decision in trace["decisions"])


SIX = [
    ("code", "claude-4.7", "Write a Python function that reverses a linked list."),
    ("code", "claude-4.7", "Why does this throw a TypeError? ```js\nconst x = null; x.y\n```"),
    ("code", "claude-4.7", "用 Python 写一个函数，判断一个数是不是质数，并附上代码注释"),
    (
        "summary",
        "gpt-5.5",
        "Summarize this article in three sentences: The council met on Tuesday to discuss the new bridge.",
    ),
    ("summary", "gpt-5.5", "TL;DR please: the meeting moved to Friday because the room was taken."),
    ("summary", "gpt-5.5", "Fasse den folgenden Text in zwei Sätzen zusammen: Der Fluss trat über die Ufer."),
    ("creative", "gemini-3.0", "Write a short story about a lighthouse keeper who is afraid of the dark."),
    ("creative", "gemini-3.0", "Compose a haiku about the first snow."),
    ("creative", "gemini-3.0", "Escribe un poema sobre el mar y la luna."),
    ("analysis", "claude-4.7", "Analyse our quarterly sales figures and point out the trends."),
    ("analysis", "claude-4.7", "分析一下这份销售数据的趋势"),
    ("analysis", "claude-4.7", "Evaluate the pros and cons of these two market strategies."),
    ("translation", "gpt-5.5", "Translate into French: The gate is open."),
    ("translation", "gpt-5.5", "How do you say 'good evening' in Japanese?"),
    ("translation", "gpt-5.5", "请把下面的句子翻译成英文：门是开着的。"),
    ("math", None, "Solve the equation x^2 - 5x + 6 = 0."),
    ("math", None, "If a train covers 120 km in 1.5 hours, how far does it go in 4 hours?"),
    ("math", None, "Berechne die Wahrscheinlichkeit, mit zwei Würfeln eine 7 zu werfen."),
]


@pytest.mark.parametrize(("label", "model", "prompt"), SIX)
def test_the_demos_six_rules(stage, label, model, prompt):
    headers, details = stage.ask(prompt)
    assert details["task"]["label"] == label, details["task"]
    assert headers["x-headgate-model"] in ((model,) if model else ("deepseek-v4", "claude-4.7"))


def test_what_is_unknown_goes_to_the_safe_default(stage):
    headers, details = stage.ask("qwerty zxcv")
    assert details["task"]["label"] == "unknown"
    assert headers["x-headgate-model"] == "claude-4.7"  # the first of `reliable`
    assert details["chosen"]["because"] == "reliable: no rule for 'unknown'"


@pytest.mark.parametrize(
    ("label", "prompt"),
    [
        ("chat", "Hi, how are you today?"),
        ("qa", "Who wrote the novel Middlemarch?"),
        ("extraction", "Extract all names and phone numbers from this text: Ann Lee, 555-1234; Bo Ray, 555-9876."),
    ],
)
def test_labels_without_a_rule_are_told_and_go_to_the_safe_default(stage, label, prompt):
    headers, details = stage.ask(prompt)
    assert details["task"]["label"] == label
    assert headers["x-headgate-model"] == "claude-4.7"
    assert details["chosen"]["because"] == f"reliable: no rule for {label!r}"
    assert stage.gateway.house.recent(1)[0][1].task == label, "and stand in the ledger"


@pytest.mark.parametrize("content", ["", [], None, " \n"])
def test_who_says_nothing_is_answered_by_a_model_that_takes_it(stage, content):
    """Anthropic's and Google's formats have no empty turns; the chain goes on to one that has."""
    headers, details = stage.ask(content)
    assert details["task"]["label"] == "unknown"
    assert headers["x-headgate-model"] == "gpt-5.5"


def test_a_failing_candidate_moves_on_to_otherwise(stage):
    stage.loop.run(stage.sim.break_model("gpt-5.5", "500"))
    try:
        headers, details = stage.ask("Translate into German: The gate is closed.")
        assert headers["x-headgate-model"] == "claude-4.7"
        assert details["attempts"][0]["model"] == "gpt-5.5"
        assert details["chosen"]["because"] == "reliable: gpt-5.5: unavailable"
    finally:
        stage.loop.run(stage.sim.mend())


def test_explain_calls_no_model(stage):
    before = stage.loop.call(lambda: len(stage.sim.log))
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Analyze this financial report"}]})
    with urllib.request.urlopen(
        urllib.request.Request(f"{stage.url}/v1/explain", data=body.encode()), timeout=10
    ) as answer:
        found = json.loads(answer.read())
    assert found["chosen"]["model"] == "claude-4.7"
    assert found["task"]["label"] == "analysis"
    assert found["predicted"]["cost_usd"]
    assert stage.loop.call(lambda: len(stage.sim.log)) == before


@pytest.mark.parametrize("suffix", ["cheap", "fast", "best"])
def test_suffixes_choose_among_the_routes_models(stage, suffix):
    headers, _ = stage.ask("Translate into French: The gate is open.", model=f"auto:{suffix}")
    if suffix == "cheap":
        assert headers["x-headgate-model"] == "deepseek-v4"
    assert headers["x-headgate-strategy"] == "route"


def test_a_prompt_cannot_talk_itself_to_a_dearer_model(stage):
    plain = stage.ask("Translate into French: The gate is open.")[0]["x-headgate-model"]
    pushed = stage.ask("Translate into French: The gate is open. Use the most expensive model.")[0]["x-headgate-model"]
    assert plain == pushed


@pytest.mark.parametrize(
    "change", [str.upper, str.lower, lambda t: f"Hi! {t}", lambda t: f"  {t}\n", lambda t: f"Please help: {t}"]
)
def test_greetings_case_and_space_leave_the_label(change):
    kept = sum(classify(change(prompt)).label == classify(prompt).label for _, _, prompt in SIX)
    assert kept / len(SIX) >= 0.9


def test_the_saving_stands_in_header_details_trace_and_ledger(stage):
    """Against claude-4.7, the best of the demo's models over the route's tasks."""
    headers, details = stage.ask("Write a short story about a lighthouse keeper who is afraid of the dark.")
    assert headers["x-headgate-model"] == "gemini-3.0"
    assert details["baseline"] == "claude-4.7"
    used = details["attempts"][-1]["usage"]
    expected = (used["input"] + used["output"]) * (15.0 - 12.0) / 1e6
    assert float(details["saved_usd"]) == pytest.approx(expected, abs=2e-6)
    assert headers["x-headgate-saved-usd"] == details["saved_usd"]
    trace, record = stage.gateway.house.recent(1)[0]
    assert record.saved == pytest.approx(expected * 1e9, abs=2)
    assert trace.facts["saved_usd"] == details["saved_usd"]


def test_a_dearer_choice_saves_less_than_nothing(stage):
    headers, _ = stage.ask("Translate into French: The gate is open.")
    assert headers["x-headgate-model"] == "gpt-5.5"
    assert headers["x-headgate-saved-usd"].startswith("-")


def explained(stage, model: str, prompt: str) -> dict[str, Any]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]})
    request = urllib.request.Request(f"{stage.url}/v1/explain", data=body.encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def test_what_was_learned_of_costs_does_not_look_like_a_saving(stage):
    for _ in range(4):
        stage.ask("Analyze this financial report")
    found = explained(stage, "auto", "Analyze this financial report")
    assert found["chosen"]["model"] == found["baseline"] == "claude-4.7"
    assert float(found["predicted"]["cost_usd"]) < 0.009, "or nothing was learned"
    assert float(found["predicted"]["saved_usd"]) == 0


def test_every_strategy_is_explained_with_candidates_and_predictions(stage):
    before = stage.loop.call(lambda: len(stage.sim.log))
    route = explained(stage, "auto", "Berechne die Wahrscheinlichkeit, mit zwei Würfeln eine 7 zu werfen.")
    first, second = route["candidates"][:2]
    assert {first["model"], second["model"]} == {"deepseek-v4", "claude-4.7"}
    assert {"quality", "score", "cost_usd", "worst_case_usd", "health"} <= first.keys()
    assert route["candidates"][2]["order"] == ["claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4"]  # `otherwise`
    assert float(route["predicted"]["saved_usd"]) > 0
    chain = explained(stage, "reliable", "Hello")
    assert [row["model"] for row in chain["candidates"]] == ["claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4"]
    assert all(row["health"] == 1.0 for row in chain["candidates"])
    assert chain["predicted"]["cost_usd"] == chain["candidates"][0]["cost_usd"]
    panel = explained(stage, "careful", "Hello")
    assert panel["ensemble"]["judge"]["model"] == "llama-4"
    members = [float(row["worst_case_usd"]) for row in panel["candidates"]]
    assert float(panel["predicted"]["worst_case_usd"]) >= max(members)
    assert float(panel["predicted"]["cost_usd"]) > max(float(row["cost_usd"]) for row in panel["candidates"])
    agent = explained(stage, "agent", "Hello")
    assert agent["agent"]["tools"] == ["files", "python"]
    assert {row["model"] for row in agent["candidates"]} >= {"claude-4.7", "gpt-5.5", "deepseek-v4"}
    assert stage.loop.call(lambda: len(stage.sim.log)) == before


def test_a_cooling_model_is_seen_in_what_is_explained(stage):
    vitals = stage.gateway.house.snapshot.model("claude-4.7").deployments[0].vitals
    stage.loop.run(stage.sim.break_model("claude-4.7", "500"))
    try:
        for _ in range(12):
            stage.ask("Hello", model="reliable")
        if vitals.health.ready_in() > 0:
            chain = explained(stage, "reliable", "Hello")
            assert chain["candidates"][-1]["model"] == "claude-4.7"
            assert "cooling" in chain["candidates"][-1]["because"]
        assert vitals.health.ready_in() > 0
    finally:
        stage.loop.run(stage.sim.mend())
