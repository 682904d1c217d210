import json
from typing import Any

import pytest

from headgate.core.chat import Audio, Choice, Image, Opaque, Reasoning, Refusal, Source, Text, ToolCall, text_of
from headgate.core.dialect import Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import ChatAnswer, collect, events_of
from headgate.core.usage import Usage
from headgate.dialects.openai_chat import DIALECT
from support.chat import recorded

Q = Quirks()


def answer(message: dict[str, Any] | None = None, finish: Any = "stop", **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **(message or {"content": "hi"})}}
    return {"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}


def parse(wire: Any, **quirks: Any) -> ChatAnswer:
    return DIALECT.parse_answer(json.dumps(wire).encode(), Quirks(**quirks))


def render(value: ChatAnswer, **view: Any) -> tuple[dict[str, Any], set[str]]:
    rendered = DIALECT.render_answer(value, View(**view))
    return json.loads(rendered.body), set(rendered.lossy)


def test_every_recorded_answer_is_equal_after_parse_and_render() -> None:
    seen = 0
    for row in recorded(kind="json", ok=True):
        body = row["response"]["body"].encode()
        if json.loads(body).get("error"):
            continue
        seen += 1
        value = DIALECT.parse_answer(body, Q)
        out, lossy = render(value)
        assert out == json.loads(body), row["id"]
        assert not lossy
        facts = DIALECT.inspect_answer(body, Q)
        assert facts.error is None
        assert (facts.usage, facts.finish) == (value.usage, value.choices[0].finish), row["id"]
        assert (facts.id or "", facts.model or "") == (value.id, value.model)
    assert seen > 1700


def test_recorded_answers_survive_as_events() -> None:
    for row in recorded(kind="json", ok=True, sample=7):
        if json.loads(row["response"]["body"]).get("error"):
            continue
        value = DIALECT.parse_answer(row["response"]["body"].encode(), Q)
        again = collect(events_of(value, text_chunk=5))
        assert [c.finish for c in again.choices] == [c.finish for c in value.choices]
        assert [text_of(c.parts) for c in again.choices] == [text_of(c.parts) for c in value.choices]
        assert again.usage == value.usage


FORMS: dict[str, dict[str, Any]] = {
    "azure filter without message": {
        "choices": [{"index": 0, "finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": True}}}]
    },
    "list content with thinking": answer(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
                     {"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}], "tool_calls": None}
    ),
    "audio": answer({"content": None, "audio": {"id": "au", "data": "QUJD", "transcript": "t", "expires_at": 1}}),
    "images": answer({"content": "", "images": [{"type": "image_url",
                                                 "image_url": {"url": "data:image/png;base64,QQ=="}}]}),
    "refusal": answer({"content": None, "refusal": "no"}),
    "annotations": answer({"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]}),
    "reasoning and details": answer(
        {"content": "a", "reasoning": "r", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
    "details alone": answer({"content": "a", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}),
    "both reasoning fields": answer({"content": "a", "reasoning": "r", "reasoning_content": "r"}),
    "legacy call": answer({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call"),
    "an empty legacy call beside": answer({"content": "a", "function_call": {"name": "", "arguments": ""}}),
    "custom call": answer({"content": None, "tool_calls": [{"id": "1", "type": "custom",
                                                            "custom": {"name": "g", "input": "x"}}]}, "tool_calls"),
    "finish empty": answer({"content": "a"}, ""),
    "finish null": answer({"content": "a"}, None),
    "finish of its own": answer({"content": "a"}, "eos"),
    "logprobs": answer({"content": "a"}) | {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "a"},
                                            "logprobs": {"content": [{"token": "a", "logprob": -1}], "refusal": None}}]},
    "n": answer() | {"choices": [{"index": i, "finish_reason": "stop", "message": {"content": str(i)}} for i in range(3)]},
    "unknown everywhere": answer({"content": "a", "x": {"y": 1}}, x=[1], usage={"prompt_tokens": 1, "completion_tokens": 2,
                                                                                "total_tokens": 3, "x": {"y": None}}),
}  # fmt: skip


@pytest.mark.parametrize("wire", FORMS.values(), ids=FORMS.keys())
def test_forms_are_equal_after_parse_and_render(wire: dict[str, Any]) -> None:
    out, lossy = render(parse(wire))
    assert {key: out[key] for key in wire} == wire
    assert not lossy


@pytest.mark.parametrize(
    ("name", "parts", "finish"),
    [
        ("azure filter without message", [], "content_filter"),
        ("list content with thinking", ["reasoning", "text", "opaque"], "stop"),
        ("audio", ["audio"], "stop"),
        ("images", ["image"], "stop"),
        ("refusal", ["refusal"], "refusal"),
        ("reasoning and details", ["reasoning", "text"], "stop"),
        ("details alone", ["reasoning", "text"], "stop"),
        ("both reasoning fields", ["reasoning", "text"], "stop"),
        ("legacy call", ["toolcall"], "tool_calls"),
        ("an empty legacy call beside", ["text"], "stop"),
        ("custom call", ["toolcall"], "tool_calls"),
        ("finish empty", ["text"], "stop"),
        ("finish null", ["text"], "stop"),
        ("finish of its own", ["text"], "stop"),
    ],
)
def test_parts_and_finish(name: str, parts: list[str], finish: str) -> None:
    choice = parse(FORMS[name]).choices[0]
    assert [type(part).__name__.lower() for part in choice.parts] == parts
    assert choice.finish == finish
    assert DIALECT.inspect_answer(json.dumps(FORMS[name]).encode(), Q).finish == finish


def test_calls_win_over_stop() -> None:
    wire = answer({"content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, "stop")
    assert parse(wire).choices[0].finish == "tool_calls"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"Overloaded","code":503}}', "overloaded"),
        (b'{"error":{"message":"Rate limit","code":429},"choices":[]}', "rate_limit"),
        (b'{"error":"broken"}', "invalid_answer"),
        (b'{"object":"error","message":"m","type":"invalid_request_error","code":"3051"}', "bad_request"),
        (b'{"error":{"message":"The response was filtered","code":"content_filter","status":400}}', "content_policy"),
        (b'{"choices":[{"index":0,"error":{"code":502,"message":"down"},"finish_reason":"error"}]}', "unavailable"),
        (b'{"choices":[{"index":0,"finish_reason":"error","message":{"content":"ha"}}]}', "stream_broken"),
        (b'{"choices":[{"index":0,"finish_reason":"insufficient_system_resource","message":{}}]}', "stream_broken"),
        (b'{"choices":[]}', "invalid_answer"),
        (b'{"choices":["x"]}', "invalid_answer"),
        (b'{"choices":[{"message":{"tool_calls":["x"]}}]}', "invalid_answer"),
        (b"{}", "invalid_answer"),
        (b"[]", "invalid_answer"),
        (b"", "invalid_answer"),
        (b"<html>", "invalid_answer"),
        (b'{"choices":[{"index":0,', "invalid_answer"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_a_fault(body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamFault) as caught:
        DIALECT.parse_answer(body, Q)
    assert caught.value.kind == kind
    if b'"x"' not in body:
        error = DIALECT.inspect_answer(body, Q).error
        assert error is not None
        assert error.kind == kind


def test_leading_blank_lines_and_odd_types_are_read() -> None:
    body = b"\n   \n" + json.dumps(answer(created=1.5, id=7)).encode()
    assert parse(answer(created=1.5, id=7)).id == "7"
    facts = DIALECT.inspect_answer(body, Q)
    assert (facts.error, facts.finish, facts.id) == (None, "stop", "7")


USAGES: list[tuple[dict[str, Any], dict[str, Any], Usage]] = [
    ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4,
      "audio_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1}}, {},
     Usage(input=10, output=5, cached_input=4, reasoning=2, audio_input=1, audio_output=1)),
    # xAI: the total says that reasoning comes on top; on its older models that it does not.
    ({"prompt_tokens": 468, "completion_tokens": 82, "total_tokens": 870,
      "completion_tokens_details": {"reasoning_tokens": 320}}, {}, Usage(input=468, output=402, reasoning=320)),
    ({"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 60,
      "completion_tokens_details": {"reasoning_tokens": 40}}, {"output_excludes_reasoning": True},
     Usage(input=10, output=50, reasoning=40)),
    ({"prompt_tokens": 10, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}},
     {"output_excludes_reasoning": True}, Usage(input=10, output=90, reasoning=40)),
    # More reasoning than output can only mean that it is not in it; a token amiss means nothing.
    ({"prompt_tokens": 61, "completion_tokens": 10, "total_tokens": 71,
      "completion_tokens_details": {"reasoning_tokens": 96}}, {}, Usage(input=61, output=106, reasoning=96)),
    ({"prompt_tokens": 43, "completion_tokens": 10, "total_tokens": 53,
      "completion_tokens_details": {"reasoning_tokens": 11}}, {}, Usage(input=43, output=10, reasoning=10)),
    # Gemini's own endpoint: thinking is in the total only.
    ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}, {}, Usage(input=35, output=74, reasoning=62)),
    # DeepSeek, Mistral, Moonshot, OpenRouter
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_cache_hit_tokens": 6,
      "prompt_cache_miss_tokens": 3, "prompt_tokens_details": {"cached_tokens": 6}}, {},
     Usage(input=9, output=1, cached_input=6)),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "num_cached_tokens": 6}, {},
     Usage(input=9, output=1, cached_input=6)),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cached_tokens": 6}, {},
     Usage(input=9, output=1, cached_input=6)),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2,
      "cache_write_tokens": 5}}, {}, Usage(input=9, output=1, cached_input=2, cache_write=5)),
    ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "prompt_tokens_details": None,
      "completion_tokens_details": None}, {}, Usage(input=9, output=1)),
    ({"prompt_tokens": 9, "total_tokens": 9}, {}, Usage(input=9)),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "quirks", "usage"), USAGES)
def test_usage_is_turned_into_one_accounting(wire: dict[str, Any], quirks: dict[str, Any], usage: Usage) -> None:
    value = parse(answer(usage=wire), **quirks)
    assert value.usage == usage
    assert render(value)[0]["usage"] == wire
    body = json.dumps(answer(usage=wire)).encode()
    assert DIALECT.inspect_answer(body, Quirks(**quirks)).usage == usage
    value.extensions = {}
    assert parse(render(value)[0]).usage == usage


def test_a_changed_usage_is_not_told_as_it_was() -> None:
    value = parse(answer(usage={"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}))
    value.usage = Usage(input=90, output=10)
    assert render(value)[0]["usage"]["total_tokens"] == 100


def test_answers_of_other_formats() -> None:
    value = ChatAnswer(
        model="claude",
        choices=[
            Choice(
                parts=[
                    Reasoning(text="hm", signature="s"),
                    Text(text="a", citations=[{"kind": "web_search_result_location"}]),
                    Text(text="b"),
                    Opaque(dialect="anthropic_messages", data={"type": "server_tool_use"}),
                    Image(source=Source(data="QQ==", media_type="image/png")),
                    Audio(source=Source(data="QQ==")),
                    ToolCall(id="1", name="f", arguments='{"a":1}', signature="sig"),
                ],
                finish="tool_calls",
                native_finish="tool_use",
            )
        ],
        usage=Usage(input=3, output=2, cached_input=1),
    )
    out, lossy = render(value, id="chatcmpl-x", created=9)
    assert (out["id"], out["created"], out["model"], out["object"]) == ("chatcmpl-x", 9, "claude", "chat.completion")
    choice = out["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "ab",
        "refusal": None,
        "reasoning_content": "hm",
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}],
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "f", "arguments": '{"a":1}'},
                "extra_content": {"google": {"thought_signature": "sig"}},
            }
        ],
    }
    assert lossy == {"citations", "opaque:server_tool_use", "reasoning_signature", "audio"}
    refused = render(ChatAnswer(choices=[Choice(parts=[Refusal(text="no")], finish="refusal")]))[0]["choices"][0]
    assert (refused["message"]["refusal"], refused["finish_reason"]) == ("no", "stop")


def test_a_client_that_speaks_functions_hears_a_function_call() -> None:
    asked = DIALECT.parse_request(
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"functions":[{"name":"f"}]}'
    )
    value = ChatAnswer(choices=[Choice(parts=[ToolCall(id="1", name="f")], finish="tool_calls")])
    choice = render(value, request=asked)[0]["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


def test_details_are_attached_and_errors_told() -> None:
    body = b'\n{"id":"a","choices":[] }\n'
    out = DIALECT.attach(body, {"cost_usd": "0.1"})
    assert json.loads(out) == {"id": "a", "choices": [], "headgate": {"cost_usd": "0.1"}}
    error = json.loads(DIALECT.render_error(fault("rate_limit", "slow down"), "req"))["error"]
    assert error == {"message": "slow down", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}


ERRORS: list[tuple[int, bytes, str, str | None]] = [
    (401, b'{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}', "auth", "invalid_api_key"),
    (401, b'{"detail":"Unauthorized"}', "auth", None),
    (429, b'{"object":"error","message":"Requests rate limit exceeded","type":"t","code":"1300"}', "rate_limit", "1300"),
    (400, b'[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}]', "auth", "400"),
    (422, b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "bad_request", None),
    (502, b"<html>bad gateway</html>", "unavailable", None),
    (500, b"", "unavailable", None),
    (400, b'data: {"error":{"message":"maximum context length","code":"context_length_exceeded"}}\n\n', "context_length",
     "context_length_exceeded"),
    (400, b'"just words"', "bad_request", None),
    (400, b'{"error":"just words"}', "bad_request", None),
    (402, b'{"error":{"message":"Insufficient credits","code":402}}', "quota", "402"),
    (404, b'{"error":{"code":"DeploymentNotFound","message":"no"}}', "not_found", "DeploymentNotFound"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "code"), ERRORS)
def test_error_answers_are_classified(status: int, body: bytes, kind: str, code: str | None) -> None:
    error = DIALECT.parse_error(status, {"retry-after": "3"}, body)
    assert (error.kind, error.native_code, error.upstream_status) == (kind, code, status)
    assert error.retry_after == 3.0
    assert "<html>" not in error.message


def test_every_recorded_error_is_classified_by_more_than_its_status() -> None:
    kinds = {"invalid_answer": 0, "not_found": 0, "bad_request": 0, "auth": 0, "rate_limit": 0}
    for row in recorded(ok=False):
        headers = {key.lower(): value for key, value in row["response"]["headers"].items()}
        error = DIALECT.parse_error(row["response"]["status"], headers, row["response"]["body"].encode())
        assert error.message
        kinds[error.kind] += 1
    assert all(kinds.values())
