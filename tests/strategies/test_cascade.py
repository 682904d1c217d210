"""Cascades through the running gateway: what is accepted, what goes on, what it costs, and when the cascade rests."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.core.chat import ChatRequest, Choice, Message, Text, ToolCall
from headgate.core.events import ChatAnswer
from headgate.simulator.app import Simulator
from headgate.strategies.cascade import Accept, Accuracy, Verifier
from headgate.strategies.cascade.verify import _confidence, token_logprobs
from headgate.tools.python import Python
from support.gateway import ENV, Loop, RunningGateway
from support.sim import INSTANT

MODELS = """
providers: {anthropic: {}, openai: {}, google: {}, deepseek: {}, meta: {kind: openai-compatible, api_key: x, base_url: "http://x"}}
models:
  claude-4.7: {provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015, max_output: 4096}
  gpt-5.5: {provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020, max_output: 4096}
  gemini-3.0: {provider: google, upstream: gemini-3-pro, cost_per_1k: 0.012, max_output: 4096}
  llama-4: {provider: meta, upstream: llama-4-maverick, cost_per_1k: 0.005, max_output: 4096}
  plain: {cascade: {try: [llama-4, claude-4.7]}}
  judged: {cascade: {try: [llama-4, gemini-3.0, claude-4.7], accept: {judge: gpt-5.5}}}
  agreeing: {cascade: {try: [llama-4, claude-4.7], accept: {self_consistency: {samples: 3, agree: 0.6}}}}
  shaped: {cascade: {try: [llama-4, claude-4.7], accept: {schema: {type: object, required: [n], properties: {n: {type: integer, minimum: 2}}}}}}
  running: {cascade: {try: [llama-4, claude-4.7], accept: {code: true}}}
  sure: {cascade: {try: [llama-4, claude-4.7], accept: {confidence: 0.8}}}
  watched: {cascade: {try: [llama-4, claude-4.7], accept: {judge: gpt-5.5}, measure: {model: gemini-3.0, share: 1}, least: 5}}
  routed: {route: {otherwise: judged}}
"""  # noqa: E501  one entry a line
ASK = "What is 17 * 23? Answer with the number."


class Stage:
    def __init__(self) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0, port_each=True))
        self.gateway = self.loop.call(lambda: RunningGateway(MODELS, urls, env=ENV))
        self.loop.run(self.gateway.start())
        self.url = self.gateway.url
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def break_model(self, name: str, mode: str, **more: Any) -> None:
        self.loop.run(self.sim.break_model(name, mode, **more))

    def say(self, model: str, *texts: Any) -> None:
        """`model` answers the next calls with these texts; the last one stays."""
        self.loop.call(lambda: self.sim.scripts.on("", *texts, model=model))

    def forget(self) -> None:
        """Nothing is scripted but the strong model, whose luck is not what is tested."""
        self.loop.call(self.sim.scripts.clear)
        self.say("claude-4.7", "17 * 23 = 391")

    def ask(self, model: str, prompt: str = ASK, **more: Any) -> tuple[str, dict[str, Any]]:
        body = {"extra_body": {"headgate": {"details": True, **more.pop("headgate", {})}}}
        messages = [{"role": "user", "content": prompt}]
        answer = self.client.chat.completions.create(model=model, messages=messages, **body, **more)
        return answer.choices[0].message.content or "", answer.model_extra["headgate"]

    def accuracy(self, name: str) -> Accuracy:
        return self.gateway.house.snapshot.entries[name].accuracy

    def close(self) -> None:
        self.loop.run(self.gateway.stop())
        self.loop.run(self.sim.aclose())
        self.loop.close()


@pytest.fixture(scope="module")
def _stage():
    found = Stage()
    yield found
    found.close()


@pytest.fixture
def stage(_stage):
    _stage.loop.run(_stage.sim.mend())
    _stage.forget()
    _stage.sim.log.clear()
    for model in _stage.gateway.house.snapshot.models():
        for deployment in model.deployments:
            deployment.vitals.health.__init__(_stage.gateway.house.clock)
    for entry in _stage.gateway.house.snapshot.entries.values():
        if entry.kind == "cascade":
            entry.accuracy.__init__()
    return _stage


def models(details: dict[str, Any], *roles: str | None) -> list[str]:
    return [a["model"] for a in details["attempts"] if a.get("role") in roles]


def test_a_cheap_answer_that_holds_is_served_and_the_strong_model_never_asked(stage):
    text, details = stage.ask("plain")
    assert "391" in text
    assert models(details, "try") == ["llama-4"]
    assert len(details["attempts"]) == 1
    assert details["chosen"]["model"] == "llama-4"
    assert details["cascade"]["tries"][0]["accepted"] is True


@pytest.mark.parametrize("mode", ["refusal", "length"])
def test_refused_and_cut_answers_go_on(stage, mode):
    stage.break_model("llama-4", mode)
    text, details = stage.ask("plain")
    assert "391" in text
    assert models(details, "try", None) == ["llama-4", "claude-4.7"]
    decisions = stage.gateway.house.recent(1)[0][0].decisions
    assert any(d.kind == "cascade" and "not accepted: rules" in d.because for d in decisions)


def test_an_empty_answer_goes_on(stage):
    stage.say("llama-4", "  ")
    _, details = stage.ask("plain")
    assert details["chosen"]["model"] == "claude-4.7"


def test_a_broken_cheap_model_goes_on_and_a_broken_strong_one_does_not_matter(stage):
    stage.break_model("llama-4", "500")
    assert stage.ask("plain")[1]["chosen"]["model"] == "claude-4.7"
    stage.loop.run(stage.sim.mend())
    stage.break_model("claude-4.7", "500")
    assert stage.ask("plain")[1]["chosen"]["model"] == "llama-4"


def test_the_judge_sends_wrong_answers_up_step_by_step(stage):
    stage.break_model("llama-4", "wrong")
    text, details = stage.ask("judged")
    assert "391" in text
    assert details["chosen"]["model"] == "gemini-3.0"
    assert models(details, "try") == ["llama-4", "gemini-3.0"]
    stage.break_model("gemini-3.0", "wrong")
    text, details = stage.ask("judged")
    assert "391" in text
    assert details["chosen"]["model"] == "claude-4.7"
    assert models(details, "try", None) == ["llama-4", "gemini-3.0", "claude-4.7"]


def test_with_the_strong_model_down_the_best_rejected_answer_is_served_and_said_so(stage):
    stage.break_model("llama-4", "wrong")
    stage.break_model("gemini-3.0", "wrong")
    stage.break_model("claude-4.7", "500")
    _, details = stage.ask("judged")
    assert details["chosen"]["model"] == "gemini-3.0"
    assert "though judge" in details["chosen"]["because"]


def test_a_judge_that_fails_accepts_nothing(stage):
    stage.break_model("gpt-5.5", "500")
    _, details = stage.ask("judged")
    assert details["chosen"]["model"] == "claude-4.7"
    assert "nothing could verify it" in details["cascade"]["tries"][0]["because"]


def test_samples_that_disagree_go_on_and_the_majority_is_served(stage):
    stage.say("llama-4", "391", "400", "391")
    text, details = stage.ask("agreeing")
    assert (text, details["chosen"]["model"]) == ("391", "llama-4")
    assert models(details, "sample") == ["llama-4", "llama-4"]
    stage.forget()
    stage.say("llama-4", "390", "400", "410")
    text, details = stage.ask("agreeing")
    assert details["chosen"]["model"] == "claude-4.7"
    assert "391" in text


def test_prose_buys_no_samples(stage):
    stage.say("llama-4", "A weir is a low wall across a river.\nIt raises the level of the water above it, and more.")
    _, details = stage.ask("agreeing", "What is a weir?")
    assert models(details, "sample") == []
    assert details["chosen"]["model"] == "claude-4.7"


def test_a_schema_of_the_file_holds_whatever_the_client_asked(stage):
    stage.say("llama-4", '{"n": 3}')
    assert stage.ask("shaped")[1]["chosen"]["model"] == "llama-4"
    stage.forget()
    stage.say("llama-4", '{"n": 1}')
    _, details = stage.ask("shaped")
    assert details["chosen"]["model"] == "claude-4.7"
    assert "minimum" in details["cascade"]["tries"][0]["because"]


CODE = "Here it is:\n```python\ndef add(a, b):\n    return a {} b\n```\n"


def test_code_has_to_run_and_to_pass_the_asserts_of_the_question(stage):
    ask = "Write add(a, b) in Python.\nassert add(2, 2) == 4\nassert add(2, 3) == 5"
    stage.say("llama-4", CODE.format("+"))
    _, details = stage.ask("running", ask)
    assert details["chosen"]["model"] == "llama-4"
    assert "2 assertions hold" in details["cascade"]["tries"][0]["because"]
    stage.forget()
    stage.say("llama-4", CODE.format("*"))
    assert stage.ask("running", ask)[1]["chosen"]["model"] == "claude-4.7"


@pytest.mark.parametrize(
    ("code", "passed"),
    [
        ("```python\nprint(1)\n```", True),
        ("```python\ndef f(:\n```", False),
        ("```python\n1 / 0\n```", False),
        ("```python\nimport numpy\n```", None),
        ("```python\nopen('/etc/passwd')\n```", None),
        ("```rust\nfn main() {}\n```", None),
        ("```python\n10**6000\n```", None),
        ("no code", None),
    ],
)
async def test_what_the_sandbox_cannot_do_says_nothing_of_the_code(code, passed):
    sandbox = Python(timeout=2.0, memory=64_000_000)
    verifier = Verifier(Accept(code=True), sandbox=sandbox)
    try:
        check = await verifier._code(request("x"), answer(code))
    finally:
        await verifier.aclose()
    assert check.passed is passed, check.because


@pytest.mark.parametrize("hostile", ["`" * 150_000, "```" + "a" * 150_000, "``` " * 40_000])
async def test_no_answer_is_searched_for_code_without_end(hostile):
    before = time.process_time()
    check = await Verifier(Accept(code=True))._code(request("x"), answer(hostile))
    assert check.passed is None
    assert time.process_time() - before < 2.0


def request(text: str, **more: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=[Message(role="user", content=[Text(text=text)])], **more)


def answer(text: str, **more: Any) -> ChatAnswer:
    return ChatAnswer(choices=[Choice(parts=[Text(text=text)], **more)])


def test_confidence_reads_every_form_of_log_probabilities_and_abstains_without(stage):
    chat = {"content": [{"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.3}]}
    gemini = {"chosenCandidates": [{"token": "a", "logProbability": -0.1}, {"token": "b", "logProbability": -0.3}]}
    assert token_logprobs(chat) == token_logprobs(gemini) == token_logprobs([chat]) == [-0.1, -0.3]
    assert _confidence(answer("x", logprobs=chat), 0.8).passed is True
    assert _confidence(answer("x", logprobs=chat), 0.9).passed is False
    assert _confidence(answer("x"), 0.9).passed is None
    assert stage.ask("sure")[1]["chosen"]["model"] == "claude-4.7"  # nobody gave probabilities: nothing verified it


def test_tool_calls_are_checked_against_the_tools(stage):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    ask = "What is the weather in Paris? Use get_weather."
    assert stage.ask("judged", ask, tools=[tool])[1]["chosen"]["model"] == "llama-4"
    for name, arguments in (("get_weather", {}), ("get_wether", {"city": "Paris"})):
        stage.forget()
        stage.say("llama-4", {"tool_calls": [{"name": name, "arguments": arguments}]})
        _, details = stage.ask("judged", ask, tools=[tool])
        assert details["chosen"]["model"] == "gemini-3.0"
    assert ToolCall(id="1", name="x").arguments == "{}"


def test_the_clients_own_schema_is_always_checked(stage):
    stage.break_model("llama-4", "invalid_json")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    stage.say("claude-4.7", '{"n": 391}')
    text, details = stage.ask("plain", response_format=form)
    assert details["chosen"]["model"] == "claude-4.7"
    assert json.loads(text) == {"n": 391}


# -- money ---------------------------------------------------------------------------------------------------------------
def test_the_worst_case_holds_and_children_add_up(stage):
    stage.break_model("llama-4", "wrong")
    stage.break_model("gemini-3.0", "wrong")
    body = json.dumps({"model": "judged", "max_tokens": 200, "messages": [{"role": "user", "content": ASK}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{stage.url}/v1/explain", data=body), timeout=10) as found:
        explained = json.loads(found.read())
    assert explained["cascade"]["order"] == ["llama-4", "gemini-3.0", "claude-4.7"]
    _, details = stage.ask("judged", max_tokens=200)
    assert float(details["cost_usd"]) <= float(explained["predicted"]["worst_case_usd"])
    outcomes = stage.loop.call(lambda: dict(stage.gateway.ledger.outcomes))
    record = stage.gateway.house.recent(1)[0][1]
    assert sum(outcomes[a["id"]].cost for a in details["attempts"]) == record.cost


def test_under_a_cost_limit_the_cheap_tries_go_first(stage):
    """Room for the strong model alone, for the cheap one alone, for neither."""
    _, details = stage.ask("plain", max_tokens=1000, headgate={"max_cost": "0.018"})
    assert details["chosen"]["model"] == "claude-4.7"
    _, details = stage.ask("plain", max_tokens=1000, headgate={"max_cost": "0.010"})
    assert details["chosen"]["model"] == "llama-4"
    with pytest.raises(openai.APIStatusError) as caught:
        stage.ask("plain", max_tokens=1000, headgate={"max_cost": "0.0001"})
    assert caught.value.status_code == 402


# -- streaming -------------------------------------------------------------------------------------------------------------
def test_every_official_sdk_streams_a_verified_answer_and_an_unverified_last_one(stage):
    for broken in (False, True):
        if broken:
            stage.break_model("llama-4", "wrong")
            stage.break_model("gemini-3.0", "wrong")
        messages = [{"role": "user", "content": ASK}]
        chunks = stage.client.chat.completions.create(model="judged", messages=messages, stream=True)
        assert "391" in "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        claude = anthropic.Anthropic(base_url=stage.url, api_key="any", max_retries=0)
        with claude.messages.stream(model="judged", max_tokens=500, messages=messages) as events:
            assert "391" in events.get_final_message().content[-1].text
        google = genai.Client(api_key="any", http_options={"base_url": stage.url})
        found = list(google.models.generate_content_stream(model="judged", contents=ASK))
        assert "391" in "".join(chunk.text or "" for chunk in found)


def test_a_slow_verification_is_bridged_by_heartbeats(stage, monkeypatch):
    monkeypatch.setattr("headgate.server.relay.OPEN_AFTER", 0.05)
    monkeypatch.setattr("headgate.server.relay.BEAT", 0.05)
    stage.say("llama-4", {"text": "391", "mode": "slow_first_token", "delay": 0.4})
    body = json.dumps({"model": "plain", "stream": True, "messages": [{"role": "user", "content": ASK}]}).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{stage.url}/v1/chat/completions", data=body), timeout=10
    ) as found:
        text = found.read().decode()
    assert text.startswith(":")
    assert text.index("391") > text.index(":")
    assert text.rstrip().endswith("data: [DONE]")


# -- the verifier's own accuracy -------------------------------------------------------------------------------------------
def test_a_verifier_that_is_often_wrong_is_switched_off_and_probed(stage):
    stage.say("gpt-5.5", "9")  # a judge that likes everything
    stage.say("gemini-3.0", "1")  # and the one that measures it, which does not
    stage.break_model("llama-4", "wrong")
    for _ in range(6):
        stage.ask("watched")
    assert stage.accuracy("watched").value == 0.0
    seen = [stage.ask("watched")[1] for _ in range(60)]
    straight = [d for d in seen if d["cascade"].get("off") and d["attempts"][0]["model"] == "claude-4.7"]
    assert len(straight) >= 50
    assert "under its floor of 80%" in straight[0]["chosen"]["because"]
    probes = [d for d in seen if d not in straight]
    assert all(d["attempts"][0]["model"] == "llama-4" for d in probes)


def test_feedback_measures_the_verifier(stage):
    for score in (1, 0, 0):
        _, details = stage.ask("plain")
        body = json.dumps({"trace": details["trace"], "score": score}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{stage.url}/v1/feedback", data=body), timeout=10).close()
    assert stage.accuracy("plain").total == pytest.approx(3, abs=0.1)
    assert stage.accuracy("plain").value == pytest.approx(1 / 3, abs=0.01)
    for score in (0, 1, 1):  # on the last answer again: the last word counts, and once
        body = json.dumps({"trace": details["trace"], "score": score}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{stage.url}/v1/feedback", data=body), timeout=10).close()
    assert stage.accuracy("plain").total == pytest.approx(3, abs=0.1)
    assert stage.accuracy("plain").value == pytest.approx(2 / 3, abs=0.01)


def test_words_on_an_answer_of_an_earlier_life_count_once_however_often_they_are_said():
    """Each of them comes with a trace that was read from the store anew."""
    accuracy = Accuracy()
    for _ in range(30):
        accuracy.tell("tr_1", False)
    assert accuracy.total == 1.0
    assert not accuracy.is_under(0.8, 20)


def test_a_strong_answer_equal_to_the_rejected_one_counts_against_the_verifier(stage):
    stage.say("llama-4", "391", "400", "410")
    stage.say("claude-4.7", "391")
    stage.ask("agreeing")
    assert stage.accuracy("agreeing").value == 0.0


def test_it_is_explained_without_a_call(stage):
    """Tries in order, each with its cost, the worst case of all, and what it saves against its strongest."""
    before = stage.loop.call(lambda: len(stage.sim.log))
    body = json.dumps({"model": "judged", "messages": [{"role": "user", "content": ASK}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{stage.url}/v1/explain", data=body), timeout=10) as answer:
        found = json.loads(answer.read())
    assert found["strategy"] == "cascade"
    assert [row["model"] for row in found["candidates"]] == ["llama-4", "gemini-3.0", "claude-4.7"]
    assert [row["because"] for row in found["candidates"]] == [
        "tried first, and verified",
        "tried next, and verified",
        "where no answer before it holds",
    ]
    worst = [float(row["worst_case_usd"]) for row in found["candidates"]]
    assert worst == sorted(worst)
    assert float(found["predicted"]["worst_case_usd"]) > sum(worst), "two judgements are in it"
    assert found["predicted"]["cost_usd"] == found["candidates"][0]["cost_usd"]
    saved = float(found["candidates"][2]["cost_usd"]) - float(found["candidates"][0]["cost_usd"])
    assert found["baseline"] == "claude-4.7"
    assert float(found["predicted"]["saved_usd"]) == pytest.approx(saved, abs=1e-6)
    assert found["cascade"]["off"] is False
    assert stage.loop.call(lambda: len(stage.sim.log)) == before


def test_it_composes_with_other_strategies_and_survives_reloads(stage):
    _, details = stage.ask("routed", "qwerty zxcv")
    assert details["cascade"]["entry"] == "judged"
    from headgate.engine.compile import Compiler

    compiler = Compiler(ENV)
    first, second = (compiler.compile(stage.gateway.config).entries["judged"] for _ in range(2))
    assert first is not second
    assert first.accuracy is second.accuracy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{try: [a]}", "at least 2"),
        ("{try: [a, a]}", "twice"),
        ("{try: [a, b], accept: {judge: c}}", "there is no model 'c'"),
        ("{try: [a, b], accept: {jugde: a}}", "did you mean 'judge'"),
        ("{try: [a, b], floor: 2}", "at most 1 is expected here"),
    ],
)
def test_the_section_is_strict(text, problem):
    head = "providers: {openai: {}}\nmodels:\n  a: {provider: openai}\n  b: {provider: openai}\n"
    with pytest.raises(ConfigError) as caught:
        load_text(f"{head}  x: {{cascade: {text}}}\n", "f.yaml", ENV)
    assert problem in str(caught.value)
