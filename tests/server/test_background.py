"""Responses that are made in the background: begun, asked for, cancelled, and paid for by what the provider says of them.

The simulated OpenAI keeps them as the real one does; the official SDK asks."""

from __future__ import annotations

import http.client
import json
from typing import Any

import openai
import pytest
from msgspec.structs import force_setattr

from headgate.core.dialect import Facts, Quirks
from headgate.core.errors import fault
from headgate.dialects.openai_responses.answer import inspect_answer
from headgate.upstream import background
from headgate.upstream.deployment import Timeouts
from server.test_bad_inputs import CHAT, post
from server.test_every_door import ask
from support.at_rest import held
from support.polling import until

LONG = 600.0
"""Seconds that nobody here waits for."""


@pytest.fixture
def client(stage):
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture
def takes(stage):
    """How long the provider takes for it, in seconds."""

    def slow(seconds: float) -> None:
        stage.loop.run(stage.sim.break_model("gpt-5.5", "slow_first_token", delay=seconds))

    yield slow
    stage.loop.run(stage.sim.mend())


def begin(client: openai.OpenAI) -> Any:
    begun = client.responses.create(model="gpt-5.5", input="What is 12*12?", max_output_tokens=100, background=True)
    assert (begun.status, begun.output, begun.usage) == ("queued", [], None)
    return begun


def books(stage: Any) -> tuple[Any, Any]:
    """(intent, outcome) of the newest attempt; None while it has none."""

    def look() -> tuple[Any, Any]:
        ledger = stage.gateway.ledger
        intent = ledger.intents[-1]
        return intent, ledger.outcomes.get(intent.id)

    return stage.loop.call(look)


def settled(stage: Any) -> Any:
    until(lambda: books(stage)[1] is not None)
    return books(stage)[1]


def under_way(stage: Any) -> str:
    return "\n".join(stage.loop.call(lambda: held(stage.gateway, stage.sim)))


def last_call(stage: Any) -> tuple[str, str]:
    return stage.loop.call(lambda: (stage.sim.wire.calls[-1].method, stage.sim.wire.calls[-1].path))


def test_one_that_runs_is_cancelled_at_its_provider_and_settled(stage, client, takes):
    takes(LONG)
    begun = begin(client)
    assert client.responses.retrieve(begun.id).status == "in_progress"
    intent, outcome = books(stage)
    assert outcome is None
    assert intent.reserved > 0
    assert f"all: {intent.reserved} reserved" in under_way(stage)
    assert "in its gate" not in under_way(stage)

    assert client.responses.cancel(begun.id).status == "cancelled"
    assert last_call(stage) == ("POST", f"/openai/v1/responses/{begun.id}/cancel")
    _, outcome = books(stage)  # at once, not at the next look
    assert (outcome.state, outcome.outcome, outcome.upstream_id) == ("unknown", "cancelled", begun.id)
    assert outcome.cost == intent.reserved  # no usage was told: charged as unknown attempts are
    assert client.responses.retrieve(begun.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="can be cancelled"):
        client.responses.cancel(begun.id)


def test_what_it_cost_is_booked_when_it_is_done_though_nobody_asks(stage, client, takes):
    takes(1.5)
    begun = begin(client)
    outcome = settled(stage)
    assert (outcome.state, outcome.outcome) == ("settled", "ok")
    done = client.responses.retrieve(begun.id)
    assert (done.status, "144" in done.output_text) == ("completed", True)
    assert (outcome.usage.input, outcome.usage.output) == (done.usage.input_tokens, done.usage.output_tokens)
    assert outcome.cost > 0


def test_the_trace_and_the_headers_know_the_cost_when_the_ledger_does(stage, takes):
    takes(1.5)
    body = {"model": "gpt-5.5", "input": "What is 12*12?", "background": True}
    status, headers, _ = ask(stage, "POST", "/v1/responses", body)
    assert status == 200
    assert "x-headgate-cost-usd" not in headers
    cost = settled(stage).cost
    trace = json.loads(ask(stage, "GET", f"/v1/traces/{headers['x-headgate-trace']}")[2])
    [attempt] = trace["attempts"]
    assert (attempt["outcome"], attempt["cost_usd"]) == ("ok", trace["cost_usd"])
    assert float(trace["cost_usd"]) == pytest.approx(cost / 1e9, abs=1e-6)


def test_what_a_client_hears_settles_it_too(stage, client, takes, monkeypatch):
    monkeypatch.setattr(background, "FIRST", LONG)
    takes(0.3)
    begun = begin(client)
    until(lambda: client.responses.retrieve(begun.id).status == "completed")
    assert books(stage)[1].outcome == "ok"


def test_one_that_was_deleted_meanwhile_is_unknown(stage, client, takes):
    takes(LONG)
    begun = begin(client)
    client.responses.delete(begun.id)
    outcome = settled(stage)
    assert (outcome.state, outcome.outcome) == ("unknown", "cancelled")


def test_one_that_runs_longer_than_its_model_may_is_unknown(stage, client, takes):
    deployments = stage.gateway.house.snapshot.model("gpt-5.5").deployments
    usual = deployments[0].timeouts
    takes(LONG)
    try:
        for deployment in deployments:
            force_setattr(deployment, "timeouts", Timeouts(total=1.2))
        begin(client)
        assert settled(stage).state == "unknown"
    finally:
        for deployment in deployments:
            force_setattr(deployment, "timeouts", usual)


def test_a_defect_in_asking_keeps_no_money_reserved(stage, client, takes, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("a defect of ours")

    takes(LONG)
    monkeypatch.setattr(background, "request_for", broken)
    begin(client)
    assert settled(stage).state == "unknown"
    assert stage.gateway.house.background.running == []


def test_what_runs_when_the_house_closes_is_unknown(stage, client, takes):
    takes(LONG)
    begin(client)
    stage.loop.call(stage.gateway.house.background.close)
    assert books(stage)[1].state == "unknown"
    assert stage.gateway.house.background.running == []


def test_a_stream_whose_client_leaves_goes_on_and_is_paid_for_as_it_ended(stage):
    stage.loop.run(stage.sim.break_model("gpt-5.5", "stall", after=2))
    try:
        connection = http.client.HTTPConnection(stage.url.removeprefix("http://"), timeout=20)
        body = {"model": "gpt-5.5", "input": "What is 12*12?", "background": True, "stream": True}
        connection.request("POST", "/v1/responses", json.dumps(body))
        answer = connection.getresponse()
        assert b"response.created" in answer.read(300)
        answer.close()
        connection.close()
        outcome = settled(stage)
        assert (outcome.state, outcome.outcome) == ("settled", "ok")
        assert not outcome.usage.estimated
    finally:
        stage.loop.run(stage.sim.mend())


@pytest.mark.parametrize("model", ["claude-4.7", "gemini-3.0", "deepseek-v4", "reliable", "auto", "careful", "agent"])
def test_elsewhere_it_is_a_clear_error(stage, model):
    before = stage.calls()
    status, _, answer = post(stage, "/v1/responses", {"model": model, "input": "hi", "background": True})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "unsupported_parameter", "background")
    assert "name one model of a provider that has the Responses API" in answer["error"]["message"]
    assert stage.calls() == before


def test_at_the_chat_door_it_is_a_clear_error(stage):
    before = stage.calls()
    status, _, answer = post(stage, CHAT, {"model": "gpt-5.5", "input": "hi", "background": True})
    assert (status, answer["error"]["param"], stage.calls()) == (400, "background", before)


def test_a_stream_that_breaks_goes_on_and_is_paid_for_as_it_ended(stage):
    stage.loop.run(stage.sim.break_model("gpt-5.5", "cut_stream", after=2))
    try:
        body = {"model": "gpt-5.5", "input": "What is 12*12?", "background": True, "stream": True}
        connection = http.client.HTTPConnection(stage.url.removeprefix("http://"), timeout=20)
        connection.request("POST", "/v1/responses", json.dumps(body))
        said = connection.getresponse().read()
        assert b"response.created" in said
        assert b"response.completed" not in said
        connection.close()
        outcome = settled(stage)
        assert (outcome.state, outcome.outcome) == ("settled", "ok")
        assert not outcome.usage.estimated
    finally:
        stage.loop.run(stage.sim.mend())


def test_what_is_no_word_of_the_provider_ends_nothing(stage, client, takes):
    takes(LONG)
    begun = begin(client)
    running = stage.gateway.house.background
    garbled = Facts(error=fault("invalid_answer", "a proxy's page"))
    stage.loop.call(lambda: running.heard(begun.id, garbled))
    assert running.running == [begun.id]
    assert books(stage)[1] is None
    client.responses.cancel(begun.id)
    assert books(stage)[1].outcome == "cancelled"


def test_one_that_failed_is_paid_for_by_the_usage_that_it_tells(stage, client, takes):
    takes(LONG)
    begun = begin(client)
    body = {
        "id": begun.id, "status": "failed", "output": [], "error": {"code": "server_error", "message": "oops"},
        "usage": {"input_tokens": 90, "output_tokens": 50, "total_tokens": 140},
    }  # fmt: skip
    facts = inspect_answer(json.dumps(body).encode(), Quirks())
    stage.loop.call(lambda: stage.gateway.house.background.heard(begun.id, facts))
    outcome = books(stage)[1]
    assert (outcome.state, outcome.outcome, outcome.error) == ("settled", "failed", facts.error.kind)
    assert (outcome.usage.input, outcome.usage.output) == (90, 50)
    assert outcome.cost > 0


def test_an_answer_that_is_nested_too_deeply_is_a_fault_of_the_provider():
    body = b'{"id":"resp_1","status":"completed","output":' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert inspect_answer(body, Quirks()).error is not None
