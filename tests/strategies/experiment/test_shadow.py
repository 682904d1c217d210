"""Shadow mode through the running gateway: never used, never waited for, on its own account, and ended with the house."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from headgate.config.load import load_text
from headgate.core.chat import Choice, Text, ToolCall
from headgate.core.events import ChatAnswer
from headgate.strategies.experiment.report import results
from headgate.strategies.experiment.watch import agreement
from support.polling import until

SHADOWED = """
  plain: {experiment: {arms: {all: claude-4.7}, shadow: {model: gpt-5.5, share: 100%, concurrent: 2}}}
  halves: {experiment: {arms: {old: claude-4.7, new: gemini-3.0}, shadow: {model: gpt-5.5, share: 100%}}}
  some: {experiment: {arms: {all: claude-4.7}, shadow: {model: gpt-5.5, share: 25%}}}
  poor: {experiment: {arms: {all: claude-4.7}, shadow: {model: gpt-5.5, share: 1, max_cost: 0.000001}}}
"""
MARK = "a word that only the shadow says"


def shadow_of(stage: Any, name: str = "plain") -> dict[str, Any]:
    return stage.loop.call(lambda: results(stage.entry(name)))["shadow"]


def seen(stage: Any, count: int, name: str = "plain") -> dict[str, Any]:
    """The results once so many requests have been mirrored, or left out."""
    until(lambda: sum(shadow_of(stage, name)[what] for what in ("asked", "left_out")) >= count)
    return shadow_of(stage, name)


def test_it_is_never_used_has_its_own_account_and_is_compared(staged):
    stage = staged(SHADOWED)
    stage.loop.call(lambda: stage.sim.scripts.on("", MARK, model="gpt-5.5"))
    texts = []
    for number in range(4):
        text, details = stage.ask("plain", f"Question {number}")
        texts.append(text)
        assert details["chosen"]["model"] == "claude-4.7"
        assert [attempt["model"] for attempt in details["attempts"]] == ["claude-4.7"]
        assert details["experiment"]["shadow"] == "gpt-5.5"
        seen(stage, number + 1)
    assert not any(MARK in text for text in texts)
    found = seen(stage, 4)
    assert (found["asked"], found["failed"]) == (4, 0)
    assert found["candidate"]["length"]["mean"] == len(MARK)
    assert found["served"]["length"]["mean"] == pytest.approx(sum(map(len, texts)) / 4)
    assert 0 <= found["candidate"]["agreement"]["mean"] < 0.5

    rows = list(stage.gateway.ledger.requests)
    shadows = [row for row in rows if row.door == "shadow"]
    chats = [row for row in rows if row.door == "chat"]
    assert (len(shadows), len(chats)) == (4, 4)
    assert all(row.key_id == "shadow" and row.tags == ("shadow", "experiment:plain/shadow") for row in shadows)
    assert all(row.tags == ("experiment:plain/all",) and row.attempts == 1 for row in chats)
    intents = list(stage.gateway.ledger.intents)
    assert {i.key_id for i in intents if i.model == "gpt-5.5"} == {"shadow"}
    cost = sum(row.cost for row in shadows)
    assert found["candidate"]["cost"]["mean"] * 4 * 1e9 == pytest.approx(cost)
    mirrored = stage.house.trace(shadows[0].trace, None)[0].decisions[0]
    assert mirrored.because == f"mirrors {chats[0].trace}; its answer is not used"
    decided = next(d for d in stage.house.trace(chats[0].trace, None)[0].decisions if d.kind == "shadow")
    assert decided.because == "1 of the requests are mirrored; its answer is not used"


@pytest.mark.parametrize("door", ["chat", "messages"])
def test_streams_are_mirrored_and_compared_whatever_their_form(staged, door):
    stage = staged(SHADOWED)
    body = {
        "model": "plain",
        "max_tokens": 300,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello there"}],
    }
    path = "/v1/chat/completions" if door == "chat" else "/v1/messages"
    connection = HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    frames = answer.read().decode()
    connection.close()
    assert ("[DONE]" if door == "chat" else "message_stop") in frames
    found = seen(stage, 1)
    assert found["served"]["length"]["n"] == 1
    assert found["served"]["length"]["mean"] > 10
    assert found["candidate"]["agreement"]["n"] == 1


def test_nothing_waits_for_it_and_more_than_its_bound_are_left_out(staged):
    stage = staged(SHADOWED)
    stage.loop.run(stage.sim.break_model("gpt-5.5", "hang", delay=60.0))
    for number in range(5):
        text, details = stage.ask("plain", f"Question {number}")  # answered, though the shadow never is
        assert text
        assert details["chosen"]["model"] == "claude-4.7"
    found = seen(stage, 3)
    assert (found["asked"], found["left_out"]) == (0, 3)  # two are under way
    until(lambda: stage.house.inflight == 2)
    stage.loop.run(stage.house.snapshot.aclose(), timeout=20)  # the house closes: they end at once, and are settled
    assert stage.house.inflight == 0
    shadows = [row for row in stage.gateway.ledger.requests if row.door == "shadow"]
    assert [row.error for row in shadows] == ["client_left", "client_left"]
    intents = {i.id for i in stage.gateway.ledger.intents if i.model == "gpt-5.5"}
    assert intents
    assert intents <= stage.gateway.ledger.outcomes.keys()


def test_its_failures_are_its_own(staged):
    stage = staged(SHADOWED)
    stage.loop.run(stage.sim.break_model("gpt-5.5", "500"))
    _, details = stage.ask("halves")
    found = seen(stage, 1, "halves")
    assert (found["asked"], found["failed"], found["candidate"]) == (1, 1, {})
    trial = stage.entry("halves").trial
    assert trial.cells["old=0.5 new=0.5"][details["experiment"]["arm"]]["errors"].total == 0
    stage.loop.run(stage.sim.mend())
    stage.ask("poor")
    poor = seen(stage, 1, "poor")
    assert (poor["asked"], poor["left_out"]) == (0, 1)  # no money for it: that is not its failure


def test_about_the_share_is_mirrored_and_a_failed_request_is_not(staged):
    stage = staged(SHADOWED)
    for number in range(40):
        stage.ask("some", f"Question {number}")
    mirrored = sum(
        "shadow" in trace.facts["experiment"] for trace, row in stage.house.recent(200) if row.door == "chat"
    )
    assert 2 <= mirrored <= 20
    assert seen(stage, mirrored, "some")["asked"] <= mirrored
    stage.loop.run(stage.sim.break_model("claude-4.7", "500"))
    before = len([row for row in stage.gateway.ledger.requests if row.door == "shadow"])
    status, _ = stage.post("/v1/chat/completions", {"model": "plain", "messages": [{"role": "user", "content": "x"}]})
    assert status >= 500
    assert len([row for row in stage.gateway.ledger.requests if row.door == "shadow"]) == before
    assert not stage.entry("plain").mirror.waiting


def test_many_clients_at_once_lose_nothing(staged):
    stage = staged(SHADOWED)
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: texts.append(stage.ask("plain", f"Question {n}")[0])) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 12
    found = seen(stage, 12)
    assert found["asked"] + found["left_out"] == 12
    until(lambda: stage.house.inflight == 0)


def said(text: str = "", *calls: ToolCall) -> ChatAnswer:
    parts = [*([Text(text=text)] if text else []), *calls]
    return ChatAnswer(choices=[Choice(parts=parts, finish="stop")])


@pytest.mark.parametrize(
    ("one", "two", "share"),
    [
        (said("The answer is 391."), said("391"), 1.0),
        (said('{"a": 1, "b": 2}'), said('{"b": 2, "a": 1}'), 1.0),
        (said('{"a": 1}'), said('{"a": 2}'), 0.0),
        (said("", ToolCall(id="1", name="f", arguments='{"x":1}')),
         said("", ToolCall(id="9", name="f", arguments='{"x": 1}')), 1.0),
        (said("", ToolCall(id="1", name="f", arguments="{}")), said("I cannot do that."), 0.0),
        (said("Rain fell all day\non the hills, and the river rose slowly towards the bridge by night"),
         said("Rain fell all day\non the plains, and the river rose slowly towards the town by night"), 14 / 16),
        (said(), said(), 1.0),
    ],
)  # fmt: skip
def test_how_far_two_answers_agree(one, two, share):
    assert agreement(one, two) == pytest.approx(share, abs=0.02)


def test_a_shadow_without_a_budget_is_noticed():
    text = "providers: {openai: {}}\nmodels:\n  m: {provider: openai}\n  e: {experiment: {arms: {a: m}, shadow: m}}\n"
    assert any("nothing bounds what shadows spend" in str(notice) for notice in load_text(text, "f.yaml", {}).notices)
    assert load_text(text + "budgets: {tags: {shadow: {daily: 5}}}\n", "f.yaml", {}).notices == []
