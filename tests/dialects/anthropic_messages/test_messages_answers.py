import json
from typing import Any

import pytest
from anthropic.types.beta import BetaMessage

from headgate.core.chat import Audio, Choice, Opaque, Reasoning, Refusal, Source, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import (
    AllModelsUnavailable,
    AuthenticationFailed,
    BudgetExceeded,
    Conflict,
    DeadlineExceeded,
    HeadgateError,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    RateLimited,
    UpstreamFault,
    fault,
)
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.anthropic_messages import DIALECT
from support.messages import recorded

Q = Quirks()
TEXT = {"type": "text", "text": "a"}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [TEXT],
           "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 2}}  # fmt: skip


def message(**fields: Any) -> bytes:
    return json.dumps({**MESSAGE, **fields}).encode()


def test_every_recorded_answer_is_equal_after_parse_and_render() -> None:
    seen = 0
    for row in recorded(kind="json", ok=True):
        body = row["response"]["body"].encode()
        answer = DIALECT.parse_answer(body, Q)
        out = DIALECT.render_answer(answer, View())
        assert json.loads(out.body) == json.loads(body), row["id"]
        assert not out.lossy
        facts = DIALECT.inspect_answer(body, Q)
        choice = answer.choices[0]
        assert facts == Facts(
            content=True, usage=answer.usage, finish=choice.finish, terminal=True, id=answer.id, model=answer.model
        )
        seen += 1
    assert seen > 450


def test_tokens_are_counted_once() -> None:
    used = {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4}}  # fmt: skip
    answer = DIALECT.parse_answer(message(usage=used), Q)
    assert answer.usage == Usage(input=35, output=9, cached_input=20, cache_write=5, reasoning=4)
    assert json.loads(DIALECT.render_answer(ChatAnswer(usage=answer.usage), View()).body)["usage"] == used
    answer.usage = Usage(input=1, output=1)  # a strategy's sum wins over the provider's own words
    assert json.loads(DIALECT.render_answer(answer, View()).body)["usage"]["input_tokens"] == 1


@pytest.mark.parametrize("used", [None, {}, {"input_tokens": None}, {"output_tokens": "9"}, {"input_tokens": -1}, 7])
def test_odd_usage(used: Any) -> None:
    answer = DIALECT.parse_answer(message(usage=used), Q)
    assert answer.usage in (None, Usage())


def test_answers_of_other_formats_are_messages_for_the_sdk() -> None:
    parts = [
        Reasoning(text="hm", signature="other's"),
        Reasoning(encrypted="secret"),
        Text(text="a", citations=[{"kind": "gemini"}]),
        Text(text=""),
        Refusal(text="no"),
        ToolCall(id="1", name="f", arguments='{"a":1}'),
        ToolCall(id="2", name="g", arguments=""),
        ToolCall(id="3", name="h", arguments="[1"),
        ToolCall(id="4", name="x", arguments="free", custom=True),
        Opaque(dialect="gemini", data={"type": "executableCode"}),
        Audio(source=Source(data="QQ==")),
    ]
    answer = ChatAnswer(
        id="chatcmpl-1",
        choices=[Choice(parts=parts, finish="tool_calls", native_finish="tool_calls", logprobs=[1]), Choice()],
        usage=Usage(input=5, output=6),
    )
    out = DIALECT.render_answer(answer, View(id="tr_9", model="shown"))
    body = json.loads(out.body)
    BetaMessage.model_validate(body, strict=True)
    assert (body["id"], body["model"], body["stop_reason"]) == ("msg_9", "shown", "tool_use")
    assert body["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        TEXT,
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "2", "name": "g", "input": {}},
        {"type": "tool_use", "id": "3", "name": "h", "input": {"input": "[1"}},
        {"type": "tool_use", "id": "4", "name": "x", "input": {"input": "free"}},
    ]
    assert set(out.lossy) == {
        "choices",
        "logprobs",
        "citations",
        "reasoning_signature",
        "opaque:executableCode",
        "audio",
    }


def test_an_empty_answer_is_still_a_message() -> None:
    body = json.loads(DIALECT.render_answer(ChatAnswer(), View(id="tr_1", model="m")).body)
    BetaMessage.model_validate(body, strict=True)
    assert body["content"] == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "overloaded"),
        (b'{"error":{"type":"invalid_request_error","message":"prompt is too long: 3 > 2"}}', "context_length"),
        (b'{"type":"error"}', "invalid_answer"),
        (b"{}", "invalid_answer"),
        (b"[]", "invalid_answer"),
        (b"null", "invalid_answer"),
        (b'{"content":null}', "invalid_answer"),
        (b'{"content":[7]}', "invalid_answer"),
        (b"<html><body>sign in</body></html>", "invalid_answer"),
        (b'{"content":[', "invalid_answer"),
        (b"", "invalid_answer"),
    ],
)
def test_what_is_no_answer(body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamFault) as caught:
        DIALECT.parse_answer(body, Q)
    assert caught.value.kind == kind
    if body != b'{"content":[7]}':  # the skim does not look into blocks
        facts = DIALECT.inspect_answer(body, Q)
        assert facts.error is not None
        assert facts.error.kind == kind


def test_odd_types_do_not_break_the_skim() -> None:
    body = message(id=7, model=None, stop_reason=["x"])
    facts = DIALECT.inspect_answer(body, Q)
    assert facts == Facts(content=True, usage=Usage(input=1, output=2), finish="stop", terminal=True, id="", model="")


def test_details_are_attached_and_nothing_else_changes() -> None:
    body = message()
    assert json.loads(DIALECT.attach(body, {"cost": 1})) == {**MESSAGE, "headgate": {"cost": 1}}
    assert DIALECT.attach(body, {"cost": 1}).startswith(body[:-1])
    assert DIALECT.render_count(12) == b'{"input_tokens":12}'


# -- errors ----------------------------------------------------------------------------------------------------------


def error(kind: str, text: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}).encode()


PROVIDER_ERRORS: list[tuple[int, bytes, str]] = [
    (400, error("invalid_request_error", "max_tokens: 9 > 8, which is the maximum allowed number"), "bad_request"),
    (400, error("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), "context_length"),
    (400, error("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2, decrease"),
     "context_length"),
    (400, error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), "quota"),
    (400, error("invalid_request_error", "Output blocked by content filtering policy"), "content_policy"),
    (401, error("authentication_error", "invalid x-api-key"), "auth"),
    (402, error("billing_error", "pay"), "quota"),
    (403, error("permission_error", "no"), "auth"),
    (404, error("not_found_error", "model: claude-nope"), "not_found"),
    (413, error("request_too_large", "Request exceeds the maximum size"), "bad_request"),
    (429, error("rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit"), "rate_limit"),
    (500, error("api_error", "Internal server error"), "unavailable"),
    (504, error("timeout_error", "late"), "timeout"),
    (529, error("overloaded_error", "Overloaded"), "overloaded"),
    (429, b'[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}]', "rate_limit"),
    (404, b'{"error":{"code":404,"message":"Publisher Model `x` not found.","status":"NOT_FOUND"}}', "not_found"),
    (403, b'{"message":"The security token is invalid"}', "auth"),
    (502, b"<html>bad gateway</html>", "unavailable"),
    (503, b"", "overloaded"),
    (400, b"event: error\ndata: " + error("invalid_request_error", "prompt is too long") + b"\n\n", "context_length"),
    (400, b"\xff\xfe", "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind"), PROVIDER_ERRORS)
def test_errors_of_the_provider(status: int, body: bytes, kind: str) -> None:
    found = DIALECT.parse_error(status, {"retry-after": "7"}, body)
    assert found.kind == kind
    assert found.upstream_status == status
    assert found.retry_after == 7
    assert "<html" not in found.message
    assert found.message


def test_recorded_errors() -> None:
    kinds = {row["response"]["status"]: DIALECT.parse_error(row["response"]["status"], {}, row["response"]["body"]
             .encode()).kind for row in recorded(ok=False)}  # fmt: skip
    assert kinds == {400: "bad_request", 404: "not_found"}


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        (InvalidRequest("x", param="model"), "invalid_request_error"),
        (AuthenticationFailed("x"), "authentication_error"),
        (BudgetExceeded("x"), "billing_error"),
        (PermissionDenied("x"), "permission_error"),
        (ModelNotFound("x"), "not_found_error"),
        (Conflict("x"), "invalid_request_error"),
        (PayloadTooLarge("x"), "request_too_large"),
        (RateLimited("x"), "rate_limit_error"),
        (InternalError("x"), "api_error"),
        (Overloaded("x"), "overloaded_error"),
        (DeadlineExceeded("x"), "timeout_error"),
        (AllModelsUnavailable("x"), "overloaded_error"),
        (AllModelsUnavailable("x", code="rate_limit_exceeded"), "rate_limit_error"),
        (fault("auth", "x"), "api_error"),
        (fault("quota", "x"), "api_error"),
        (fault("context_length", "x"), "invalid_request_error"),
        (fault("rate_limit", "x"), "rate_limit_error"),
        (fault("overloaded", "x"), "overloaded_error"),
        (fault("timeout", "x"), "timeout_error"),
        (fault("invalid_answer", "x"), "api_error"),
    ],
)
def test_our_errors_in_anthropics_words(known: HeadgateError, kind: str) -> None:
    body = json.loads(DIALECT.render_error(known, "req_7"))
    assert body == {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "req_7"}
