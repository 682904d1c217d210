"""Answers and streams, by what real ones held (the ids are those of the recorded traffic)."""

import json
from typing import Any

import pytest

from headgate.core.chat import Choice, Reasoning, Text, ToolCall, text_of
from headgate.core.dialect import Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import ChatAnswer, CitationAdded, Event, Failed, Finished, collect, events_of
from headgate.core.usage import Usage
from headgate.dialects.gemini import DIALECT
from support.corpus import rows

Q = Quirks()


def recorded(row_id: str) -> bytes:
    return next(row for row in rows() if row["id"] == row_id)["response"]["body"].encode()


def answered(row_id: str) -> ChatAnswer:
    return DIALECT.parse_answer(recorded(row_id), Q)


def events(body: bytes, size: int = 0) -> list[Event]:
    splitter, parser = DIALECT.splitter(), DIALECT.event_parser(Q)
    pieces = [body[at : at + size] for at in range(0, len(body), size)] if size else [body]
    found = [e for piece in pieces for frame in splitter.feed(piece) for e in parser.feed(frame)]
    if rest := splitter.close():
        found += parser.feed(rest)
    return found + parser.close()


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(chunk).encode() for chunk in chunks)


def chunk(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **more}


def test_a_call_ends_with_stop_on_the_wire_and_with_tool_calls_here() -> None:
    assert answered("pai-6320a726ef").choices[0].finish == "tool_calls"
    assert answered("pai-6320a726ef").choices[0].native_finish == "STOP"


def test_a_given_id_is_kept_and_a_missing_one_is_made() -> None:
    kept = [p for p in answered("pai-76263243c6").choices[0].parts if isinstance(p, ToolCall)]
    assert all(call.id in recorded("pai-76263243c6").decode() for call in kept) or kept == []
    answer = DIALECT.parse_answer(json.dumps(chunk({"functionCall": {"name": "f"}}, finish="STOP")).encode(), Q)
    [call] = answer.choices[0].parts
    assert isinstance(call, ToolCall)
    assert call.id
    assert call.arguments == "{}"


@pytest.mark.parametrize(
    ("row_id", "finish"),
    [("pai-868f4a5287", "length"), ("pai-0ac6285b86", "content_filter"), ("pai-f1ed3bcd4a", "content_filter")],
)
def test_content_without_parts_and_prompts_without_candidates_are_answers(row_id: str, finish: str) -> None:
    body = recorded(row_id)
    found = collect(events(body)) if body.startswith(b"data:") else DIALECT.parse_answer(body, Q)
    assert found.choices[0].finish == finish
    assert text_of(found.choices[0].parts) == ""


def test_a_stream_of_crlf_lines_cut_anywhere_is_the_same_and_keeps_the_signature() -> None:
    body = recorded("pai-147b59c33f")
    assert b"\r\n" in body
    assert "thoughtSignature" in body.decode()
    whole = events(body)
    assert events(body, 7) == whole
    parts = collect(whole).choices[0].parts
    assert any(getattr(part, "signature", None) for part in parts)


def test_usage_of_the_last_chunk_counts_and_thoughts_are_output() -> None:
    first = chunk({"text": "a"}, usageMetadata={"promptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 6})
    last = chunk(
        {"text": "b"},
        finish="STOP",
        usageMetadata={
            "promptTokenCount": 5,
            "candidatesTokenCount": 2,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 4,
            "cachedContentTokenCount": 3,
        },
    )
    assert collect(events(sse(first, last))).usage == Usage(input=9, output=32, cached_input=3, reasoning=30)


def test_a_stream_as_one_array_is_the_same_stream() -> None:
    chunks = [chunk({"text": "a"}), chunk({"text": "b"}, finish="STOP")]
    assert events(json.dumps(chunks).encode()) == events(sse(*chunks))
    assert text_of(answered("slm-a5aa9ab55f").choices[0].parts)


def test_an_error_within_a_stream_is_a_failure_with_its_wait() -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}
    error = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [wait]}}
    found = events(sse(chunk({"text": "a"}), error))[-1]
    assert isinstance(found, Failed)
    assert (found.error.kind, found.error.retry_after) == ("rate_limit", 48.0)


def test_a_bad_key_is_told_by_400_and_is_no_fault_of_the_client() -> None:
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
    error = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [reason]}}
    assert DIALECT.parse_error(400, {}, json.dumps(error).encode()).kind == "auth"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>sign in</html>", b'{"candidates": []}'])
def test_a_200_with_nothing_in_it_is_a_fault(body: bytes) -> None:
    with pytest.raises(UpstreamFault):
        DIALECT.parse_answer(body, Q)


def test_what_an_answer_rests_on_is_told_once_and_is_unchanged_at_its_own_door() -> None:
    grounding = {"groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}], "webSearchQueries": ["q"]}
    body = chunk({"text": "a"}, finish="STOP")
    body["candidates"][0]["groundingMetadata"] = grounding
    answer = DIALECT.parse_answer(json.dumps(body).encode(), Q)
    [text] = answer.choices[0].parts
    assert isinstance(text, Text)
    assert [cited["web"]["uri"] for cited in text.citations] == ["https://a.example"]
    assert [e.part for e in events(sse(body)) if isinstance(e, CitationAdded)] == [0]
    again = DIALECT.render_answer(answer, View())
    assert json.loads(again.body)["candidates"] == body["candidates"]
    assert not again.lossy


def test_what_others_say_is_rendered_with_calls_whole_and_loss_named() -> None:
    parts = [
        Reasoning(text="hm", signature="theirs"),
        Text(text="so", citations=[{"kind": "openai_chat", "url": "u"}]),
        ToolCall(id="call_1", name="f", arguments='{"a": 1}'),
    ]
    answer = ChatAnswer(id="x", model="m", choices=[Choice(parts=parts, finish="tool_calls")])
    rendered = DIALECT.render_answer(answer, View(model="m"))
    wire = json.loads(rendered.body)
    [candidate] = wire["candidates"]
    assert candidate["finishReason"] == "STOP"
    assert candidate["content"]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "so"},
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "call_1"}},
    ]
    assert set(rendered.lossy) == {"citations", "reasoning_signature"}
    streamed = DIALECT.event_renderer(View(model="m", stream=True))
    wire_stream = b"".join(streamed.feed([event]) for event in events_of(answer, 1)) + streamed.finish()
    assert collect(events(wire_stream)).choices[0].finish == "tool_calls"


def test_a_failure_in_a_stream_is_googles_error_and_no_finish() -> None:
    renderer = DIALECT.event_renderer(View(model="m", stream=True))
    out = renderer.fail(fault("stream_broken", "gone"))
    assert b'"error"' in out
    assert b"finishReason" not in out
    assert not any(isinstance(event, Finished) for event in events(out))
