"""Providers broken on purpose, over real sockets: one complete answer or one clean error, and never a false end."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from support import asking
from support.asking import ASK, told

BEFORE_CONTENT = [
    "refuse", "500", "502", "503", "529", "429", "auth", "403", "quota", "hang", "html", "empty", "no_choices", "malformed",
    "error_in_200", "redirect", "slow_first_token", "not_found",
]  # fmt: skip
WITHIN = ["cut_stream", "reset_stream", "stall", "truncate_finish", "error_in_stream", "malformed_stream"]


def ask(stage: Any, model: str, *, stream: bool, **more: Any) -> tuple[int, dict[str, str], bytes]:
    return asking.ask(stage.url, model, stream=stream, **more)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", [m for m in BEFORE_CONTENT if m != "not_found"])
def test_a_failure_before_content_moves_on_unseen(stage, mode, stream):
    stage.break_model("claude-4.7", mode)
    status, headers, body = ask(stage, "reliable", stream=stream)
    assert status == 200, body
    assert headers["x-headgate-model"] == "gpt-5.5"
    if stream:
        text, finished, error, details = told(body)
        assert (bool(text), finished, error) == (True, True, None)
        assert body.endswith(b"data: [DONE]\n\n")
    else:
        answer = json.loads(body)
        details = answer["headgate"]
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["total_tokens"] > 0
    assert [a["outcome"] for a in details["attempts"]] == ["failed", "ok"]
    assert stage.served().count("claude-4.7") <= 1  # the healthy next one is asked, not the broken one again
    stage.loop.run(stage.sim.mend())
    assert ask(stage, "reliable", stream=stream)[0] == 200
    assert stage.gateway.house.inflight == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", BEFORE_CONTENT)
def test_a_single_model_fails_with_one_clean_error(stage, mode, stream):
    stage.break_model("claude-4.7", mode)
    status, headers, body = ask(stage, "claude-4.7", stream=stream)
    error = json.loads(body)["error"]
    assert status != 401  # would look like the client's own key
    assert status >= 400
    assert error["message"]
    assert "Traceback" not in error["message"]
    assert len(stage.served()) <= 3
    if mode == "429":
        assert status == 429
        assert float(headers["retry-after"]) > 0
    stage.loop.run(stage.sim.mend())


@pytest.mark.parametrize("mode", WITHIN)
def test_a_broken_stream_is_continued_by_the_next_model(stage, mode):
    stage.break_model("claude-4.7", mode, after=3)
    status, _, body = ask(stage, "reliable", stream=True)
    _, finished, error, details = told(body)
    assert status == 200
    assert error is None, error
    assert finished
    assert body.endswith(b"data: [DONE]\n\n")
    assert [a["outcome"] for a in details["attempts"]][:2] == ["failed", "ok"]
    assert details["attempts"][1]["role"] == "rescue"
    assert len({json.loads(f[6:])["id"] for f in body.decode().split("\n\n") if f.startswith("data: {")}) == 1


@pytest.mark.parametrize("mode", WITHIN)
@pytest.mark.parametrize("model", ["claude-4.7", "told"])
def test_without_rescue_a_broken_stream_ends_with_an_error_and_no_finish(stage, mode, model):
    stage.break_model("claude-4.7", mode, after=3)
    _, _, body = ask(stage, model, stream=True)
    text, finished, error, _ = told(body)
    assert error is not None
    assert not finished
    assert b"[DONE]" not in body
    assert text


@pytest.mark.parametrize("mode", WITHIN)
def test_a_broken_body_moves_on(stage, mode):
    stage.break_model("claude-4.7", mode, after=3)
    status, headers, _ = ask(stage, "reliable", stream=False)
    assert (status, headers["x-headgate-model"]) == (200, "gpt-5.5")


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-4.7", "gemini-3.0", "llama-4"])
@pytest.mark.parametrize("stream", [True, False])
def test_missing_usage_is_estimated_and_flagged(stage, model, stream):
    """In each of the providers' formats: never counted as nothing."""
    stage.break_model(model, "no_usage")
    status, _, body = ask(stage, model, stream=stream)
    finished, error, details = told(body)[1:] if stream else (True, None, json.loads(body)["headgate"])
    assert (status, finished, error) == (200, True, None)
    [attempt] = details["attempts"]
    assert attempt["usage"]["estimated"] is True
    assert attempt["usage"]["output"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_context_error_goes_only_to_more_room(stage, stream):
    stage.break_model("claude-4.7", "context_length")
    status, headers, body = ask(stage, "reliable", stream=stream)
    assert (status, headers["x-headgate-model"]) == (200, "gemini-3.0")  # gpt-5.5 and llama-4 have less room
    details = (told(body)[3] if stream else json.loads(body)["headgate"]) or {}
    assert [a["model"] for a in details["attempts"]] == ["claude-4.7", "gemini-3.0"]
    stage.break_model("gemini-3.0", "context_length")
    assert ask(stage, "reliable", stream=stream)[0] in (400, 503)
    assert stage.served().count("gpt-5.5") == stage.served().count("llama-4") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_for_content_is_the_providers_answer(stage, stream):
    stage.break_model("claude-4.7", "content_policy")
    status, _, body = ask(stage, "reliable", stream=stream)
    assert status == 400
    assert json.loads(body)["error"]["code"] == "content_policy_violation"
    assert stage.served() == ["claude-4.7"]


def test_only_the_listed_classes_move_on(stage):
    stage.break_model("claude-4.7", "hang")
    status, _, _ = ask(stage, "strict", stream=False)
    assert status == 504
    stage.loop.run(stage.sim.mend())
    stage.break_model("claude-4.7", "500")
    assert ask(stage, "strict", stream=False)[0] == 200


def test_everything_down_is_one_error_that_lists_the_attempts(stage):
    for name in ("claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4"):
        stage.break_model(name, "500")
    status, headers, body = ask(stage, "reliable", stream=False)
    answer = json.loads(body)
    assert status == 503
    assert answer["error"]["code"] == "all_models_unavailable"
    assert headers["x-should-retry"] == "false"
    assert {a["model"] for a in answer["headgate"]["attempts"]} == {"claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4"}


@pytest.mark.parametrize("stream", [False, True])
def test_rate_limits_everywhere_are_429_with_the_smallest_wait(stage, stream):
    for name, wait in (("claude-4.7", 30), ("gpt-5.5", 20), ("gemini-3.0", 40), ("llama-4", 50)):
        stage.break_model(name, "429", retry_after=wait)
    status, headers, _ = ask(stage, "reliable", stream=stream)
    assert status == 429, [(a["model"], a.get("error")) for a in json.loads(_)["headgate"]["attempts"]]
    assert 0 < float(headers["retry-after"]) <= 20


def test_an_answer_that_breaks_the_schema_is_a_failed_attempt(stage):
    stage.break_model("claude-4.7", "invalid_json")
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    status, headers, body = ask(stage, "reliable", stream=False, response_format=wanted)
    assert (status, headers["x-headgate-model"]) == (200, "gpt-5.5")
    assert isinstance(json.loads(json.loads(body)["choices"][0]["message"]["content"])["n"], int)


def test_a_breaker_opens_and_the_primary_comes_back(stage):
    stage.break_model("claude-4.7", "500")
    for _ in range(12):
        assert ask(stage, "reliable", stream=False)[0] == 200
    asked = stage.served().count("claude-4.7")
    assert asked <= 6, "an open breaker spares a broken provider"
    stage.loop.run(stage.sim.mend())
    health = stage.gateway.house.snapshot.model("claude-4.7").deployments[0].vitals.health
    stage.loop.call(lambda: setattr(health, "_open_until", 0.0))  # the cool-down is over
    for _ in range(3):
        status, headers, _ = ask(stage, "reliable", stream=False)
    assert (status, headers["x-headgate-model"]) == (200, "claude-4.7")
    assert stage.loop.call(lambda: health.state) == "closed"


def test_a_client_that_leaves_cancels_upstream(stage):
    stage.break_model("claude-4.7", "stall", after=2)
    netloc = urlsplit(stage.url).netloc
    connection = HTTPConnection(netloc, timeout=5)
    body = {"model": "claude-4.7", "messages": ASK, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    connection.getresponse().read(20)
    connection.sock.close() if connection.sock else None
    connection.close()
    for _ in range(50):
        left = stage.loop.call(lambda: [s for s in stage.sim.log if s.model == "claude-4.7"])
        if left and stage.loop.call(lambda: stage.gateway.house.inflight) == 0:
            break
        stage.loop.run(_pause())
    outcomes = stage.loop.call(lambda: list(stage.gateway.ledger.outcomes.values()))
    assert stage.gateway.house.inflight == 0
    assert len(outcomes) == 1
    assert outcomes[0].usage is not None


async def _pause() -> None:
    import asyncio

    await asyncio.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["hang", "slow_first_token"])
def test_a_silent_route_is_not_asked_again_in_the_same_request(stage, mode, stream):
    stage.break_model("claude-4.7", mode)
    status, _, body = ask(stage, "claude-4.7", stream=stream)
    assert (status, json.loads(body)["error"]["code"]) == (504, "upstream_timeout")
    assert stage.served() == ["claude-4.7"]
