"""`learn: {judge: ...}`: who is judged, what it costs, what is learned of it, and what it never does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.core.principal import Principal
from headgate.core.records import FeedbackRecord, RequestRecord
from headgate.core.trace import Trace
from headgate.engine.daily import Daily
from headgate.engine.judging import Judging
from headgate.simulator.app import Simulator
from headgate.stores.memory import MemoryStore
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT

MATH = [{"role": "user", "content": "Solve the equation x^2 - 5x + 6 = 0."}]
POEM = [{"role": "user", "content": "Escribe un poema sobre el mar y la luna."}]


def config(learn: str) -> str:
    text = EXAMPLE.read_text(encoding="utf-8")
    return text.replace("      otherwise: reliable", f"      otherwise: reliable\n      learn: {learn}")


class Stage:
    def __init__(self, learn: str) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0, port_each=True))
        self.gateway = self.loop.call(lambda: RunningGateway(config(learn), urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.events: list[tuple[str, dict[str, object]]] = []
        self.judging = self.loop.call(
            lambda: Judging(self.gateway.house, on_event=lambda *event: self.events.append(event))
        )
        self.gateway.house.on_event.append(lambda *event: self.events.append(event))
        self.client = openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key="any", max_retries=0)

    def say(self, *texts: str) -> None:
        """The judge's next words; the last ones stay."""
        self.loop.call(lambda: self.sim.scripts.on("", *texts, model="llama-4"))

    def ask(self, messages: list[dict[str, str]] = MATH, **more: Any) -> None:
        answer = self.client.chat.completions.create(model="auto", messages=messages, **more)  # type: ignore[arg-type]
        if more.get("stream"):
            assert "".join(c.choices[0].delta.content or "" for c in answer if c.choices)

    def judge(self) -> None:
        self.loop.run(self.judging.next(), timeout=20)

    @property
    def waiting(self) -> int:
        return self.judging._waiting.qsize()

    def served(self) -> tuple[Trace, RequestRecord]:
        """The newest request of a client."""
        return next(pair for pair in self.gateway.house.recent(20) if pair[1].requested == "auto")

    def answers(self, model: str, task: str) -> float:
        return self.gateway.house.snapshot.entries["auto"].learning.beliefs.answers(task, model)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    found = Stage(getattr(request, "param", "{judge: {model: llama-4, share: 1, daily: 1}}"))
    yield found
    found.close()


@pytest.mark.parametrize("how", ["whole", "stream", "raw stream", "another door"])
def test_a_sample_is_scored_after_it_went_out_in_a_request_of_its_own(stage, how):
    stage.say("7")
    model, task = "deepseek-v4", "math"
    if how == "another door":
        client = anthropic.Anthropic(base_url=stage.gateway.url, api_key="any", max_retries=0)
        assert client.messages.create(model="auto", max_tokens=300, messages=MATH).content  # type: ignore[arg-type]
    elif how == "stream":
        stage.ask(POEM, stream=True)  # from a provider of another dialect
        model, task = "gemini-3.0", "creative"
    else:
        stage.ask(stream=how == "raw stream")
    trace, record = stage.served()
    assert "feedback" not in trace.facts
    stage.judge()
    assert trace.facts["feedback"]["score"] == 0.7
    assert stage.answers(model, task) == 1
    judged = stage.gateway.house.recent(1)[0][1]
    assert (judged.requested, judged.key_id, judged.tags) == ("llama-4", "judge", ("judge", "judge:llama-4"))
    assert judged.trace != record.trace
    assert judged.cost
    assert record.attempts == 1
    asked = stage.loop.call(lambda: stage.sim.wire.calls[-1].body)
    assert "You are a judge" in str(asked)
    assert "[simulated]" in str(asked), "the answer is what is judged"
    assert stage.waiting == 0, "a judgement is not judged"


def test_the_bytes_of_a_sampled_answer_are_those_of_any_other(stage):
    stage.gateway.house.overhear, overhear = None, stage.gateway.house.overhear
    body = json.dumps({"model": "auto", "messages": MATH, "seed": 1}).encode()

    def answer() -> dict[str, Any]:
        with urllib.request.urlopen(f"{stage.gateway.url}/v1/chat/completions", data=body, timeout=20) as found:
            return json.loads(found.read())

    plain = answer()
    stage.gateway.house.overhear = overhear
    sampled = answer()
    assert stage.waiting == 1
    for one in (plain, sampled):
        del one["id"], one["created"]
    assert sampled == plain


def test_the_clients_own_word_stays(stage):
    stage.say("1")
    stage.ask()
    trace, _ = stage.served()
    said = json.dumps({"trace": trace.id, "score": 1}).encode()
    urllib.request.urlopen(f"{stage.gateway.url}/v1/feedback", data=said, timeout=20).close()
    stage.judge()
    assert trace.facts["feedback"]["score"] == 1
    assert stage.gateway.house.recent(1)[0][1].requested == "auto", "the judge was not even asked"


def test_a_word_that_a_replica_was_told_stays_too(stage):
    stage.say("1")
    stage.ask()
    trace, record = stage.served()
    house = stage.gateway.house
    house.archive = MemoryStore()
    said = FeedbackRecord(trace=trace.id, at=record.at, score=1.0, key_id=record.key_id)
    stage.loop.run(house.archive.put_feedback(said))
    stage.judge()
    assert stage.loop.run(house.archive.feedback(limit=9)) == [said]
    assert stage.answers("deepseek-v4", "math") == 0


def test_a_judge_that_speaks_in_tongues_or_fails_teaches_nothing(stage):
    stage.say("Splendid! 10 out of 10, surely.")
    stage.ask()
    stage.judge()
    assert stage.events[-1][0] == "judge_unreadable"
    stage.loop.run(stage.sim.break_model("llama-4", "500"))
    stage.ask()
    stage.judge()
    assert stage.events[-1][0] == "judge_failed"
    assert stage.answers("deepseek-v4", "math") == 0


def test_a_defect_in_judging_is_told_and_the_next_answer_is_judged(stage, monkeypatch):
    stage.say("7")

    def broken(*_: object) -> None:
        raise KeyError("a defect of ours")

    with monkeypatch.context() as patch:
        patch.setattr("headgate.engine.judging.read_score", broken)
        stage.ask()
        stage.judge()
    assert stage.events[-1] == ("judge_failed", {"code": "internal_error", "message": "KeyError('a defect of ours')"})
    stage.ask()
    stage.judge()
    assert stage.served()[0].facts["feedback"]["score"] == 0.7


@pytest.mark.parametrize("stage", ["{judge: {model: llama-4, share: 1, daily: 0.006}}"], indirect=True)
def test_it_ends_with_its_money(stage):
    stage.say("8")
    for _ in range(12):
        stage.ask()
        stage.judge()
    costs = [record.cost or 0 for _, record in stage.gateway.house.recent(50) if record.key_id == "judge"]
    assert 0 < sum(costs) <= 6_000_000
    assert 0 not in costs, "what the day's sum does not cover is not begun"
    assert 0 < stage.answers("deepseek-v4", "math") < 12
    assert [kind for kind, _ in stage.events] == ["judge_spent"], "said once a day"


@pytest.mark.parametrize("stage", ["{judge: {model: llama-4, share: 0.3, daily: 1}}"], indirect=True)
def test_only_its_share_is_sampled(stage):
    for _ in range(60):
        stage.ask()
    assert 6 <= stage.waiting <= 32  # 18 expected: 1 in 10,000 is outside


@pytest.mark.parametrize("stage", ["{feedback: true}"], indirect=True)
def test_it_is_off_by_default(stage):
    stage.ask()
    assert stage.waiting == 0


def test_a_judge_outside_the_keys_zone_reads_nothing(stage):
    trace = Trace("tr_1", requested="auto", started=0.0, started_at=0.0)
    trace.facts["route"] = {"entry": "auto"}
    assert stage.judging._wanted(trace, Principal(zone="private")) is not None  # llama-4 is in it
    assert stage.judging._wanted(trace, Principal(zone="eu")) is None


def test_the_section_is_strict():
    for learn, problem in [
        ("{judge: {model: llama-4}}", "daily"),
        ("{judge: {model: none, daily: 1}}", "there is no model 'none'"),
        ("{judge: {model: llama-4, daily: 1, share: 2}}", "share"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            load_text(config(learn), "f.yaml", ENV)


@pytest.mark.parametrize("stage", ["{judge: {model: reliable, share: 1, daily: 1}}"], indirect=True)
def test_a_judge_that_is_a_chain_stays_in_the_keys_zone_too(stage, monkeypatch):
    """`reliable` begins with models elsewhere, and ends with llama-4, which is in the zone."""
    stage.say("7")
    inside = Principal(zone="private")
    monkeypatch.setattr(stage.gateway.house.governor, "authenticate", lambda credentials: inside)
    stage.ask([{"role": "user", "content": "Hello!"}])
    stage.judge()
    assert [event for event, _ in stage.events] == []
    judged = stage.gateway.house.recent(1)[0][1]
    assert (judged.requested, judged.model) == ("reliable", "llama-4")


@pytest.mark.parametrize("stage", ["{judge: {model: reliable, share: 1, daily: 1}}"], indirect=True)
def test_what_a_chain_has_spent_as_a_judge_is_known_to_other_processes(stage):
    """By the store alone, as after a restart: its attempts are of other models than it is called by."""
    stage.say("7")
    stage.ask()
    stage.judge()
    spent = stage.gateway.house.recent(1)[0][1].cost
    store, ledger = MemoryStore(), stage.gateway.ledger
    stage.loop.run(store.apply([*ledger.intents, *ledger.outcomes.values(), *ledger.requests], holder="h1"))
    daily = Daily(store, stage.gateway.house.clock)
    assert spent > 0
    assert stage.loop.run(daily.left("judge", "judge:reliable", spent + 7)) == 7
