"""Answers and streams, by what real ones held (the ids are those of the recorded traffic)."""

import json
from typing import Any

import pytest

from headgate.core.chat import Choice, Opaque, Reasoning, Text, ToolCall, text_of
from headgate.core.dialect import Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import ChatAnswer, Event, Failed, Finished, collect, events_of
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.openai_responses import DIALECT
from support.corpus import rows

Q = Quirks()


def recorded(row_id: str) -> bytes:
    return next(row for row in rows() if row["id"] == row_id)["response"]["body"].encode()


def events(body: bytes, size: int = 0) -> list[Event]:
    splitter, parser = DIALECT.splitter(), DIALECT.event_parser(Q)
    pieces = [body[at : at + size] for at in range(0, len(body), size)] if size else [body]
    found = [e for piece in pieces for frame in splitter.feed(piece) for e in parser.feed(frame)]
    return found + parser.close()


def named(kind: str, **fields: Any) -> bytes:
    return sse.frame(json.dumps({"type": kind, **fields}).encode(), kind)


def typed(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for frame in DIALECT.splitter().feed(stream) if (data := sse.data_of(frame))]


@pytest.mark.parametrize("row_id", ["pai-04c6dfb524", "pai-def44ef510", "pai-477a22083d"])
def test_a_recorded_stream_cut_anywhere_is_its_final_response(row_id: str) -> None:
    body = recorded(row_id)
    whole = events(body)
    assert events(body, 11) == whole
    final = [event["response"] for event in typed(body) if event["type"] == "response.completed"][-1]
    streamed = collect(whole)
    complete = DIALECT.parse_answer(json.dumps(final).encode(), Q)
    assert text_of(streamed.choices[0].parts) == text_of(complete.choices[0].parts)
    assert streamed.usage == complete.usage
    assert streamed.choices[0].finish == complete.choices[0].finish
    calls = [
        [(p.id, p.name, p.arguments) for p in a.choices[0].parts if isinstance(p, ToolCall)]
        for a in (streamed, complete)
    ]
    assert calls[0] == calls[1]


def test_thinking_keeps_what_only_its_maker_can_read() -> None:
    answer = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": [
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "x",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "so", "annotations": []}],
            },
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}},
    }
    found = DIALECT.parse_answer(json.dumps(answer).encode(), Q)
    thinking, text, search = found.choices[0].parts
    assert isinstance(thinking, Reasoning)
    assert (thinking.text, thinking.encrypted, thinking.summary) == ("hm", "x", True)
    assert isinstance(text, Text)
    assert isinstance(search, Opaque)
    assert found.usage == Usage(input=5, output=9, reasoning=4)
    assert json.loads(DIALECT.render_answer(found, View()).body) == answer


@pytest.mark.parametrize(("reason", "finish"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_response_says_why(reason: str, finish: str) -> None:
    response = {"id": "resp_1", "status": "incomplete", "incomplete_details": {"reason": reason}, "output": []}
    assert DIALECT.parse_answer(json.dumps(response).encode(), Q).choices[0].finish == finish
    [end] = [e for e in events(named("response.incomplete", response=response)) if isinstance(e, Finished)]
    assert end.reason == finish


@pytest.mark.parametrize("kind", ["response.failed", "response.cancelled"])
def test_a_response_that_failed_is_no_answer(kind: str) -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow"}
    response = {"id": "resp_1", "status": kind.rpartition(".")[2], "error": error, "output": []}
    [found] = events(named(kind, response=response))
    assert isinstance(found, Failed)
    assert found.error.kind == "rate_limit"
    with pytest.raises(UpstreamFault):
        DIALECT.parse_answer(json.dumps(response).encode(), Q)


def test_an_error_event_is_a_failure_and_nothing_follows_it() -> None:
    stream = named("error", code="server_error", message="gone", param=None, sequence_number=3)
    found = events(stream + named("response.output_text.delta", output_index=0, content_index=0, delta="more"))
    assert [type(event) for event in found] == [Failed]


def test_events_that_nobody_knows_are_passed_by() -> None:
    assert events(named("response.something.new", sequence_number=1) + b": comment\n\n") == []


def test_the_status_alone_does_not_tell_a_missing_model() -> None:
    body = recorded("pai-2683219abb")
    refused = DIALECT.parse_error(400, {}, body)
    assert refused.kind == "not_found"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>sign in</html>"])
def test_a_200_with_nothing_in_it_is_a_fault(body: bytes) -> None:
    with pytest.raises(UpstreamFault):
        DIALECT.parse_answer(body, Q)


def test_the_sequence_of_events_is_the_formats_own() -> None:
    parts = [Reasoning(text="hm"), Text(text="so"), ToolCall(id="call_1", name="f", arguments='{"a": 1}')]
    answer = ChatAnswer(
        id="x", model="m", choices=[Choice(parts=parts, finish="tool_calls")], usage=Usage(input=5, output=7)
    )
    renderer = DIALECT.event_renderer(View(model="m", id="tr_1", stream=True))
    wire = typed(b"".join(renderer.feed([event]) for event in events_of(answer, 1)) + renderer.finish())
    assert [event["sequence_number"] for event in wire] == list(range(len(wire)))
    kinds = [event["type"].removeprefix("response.") for event in wire]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    assert kinds.count("output_item.added") == kinds.count("output_item.done") == 3
    added = [event["item"]["type"] for event in wire if event["type"] == "response.output_item.added"]
    assert added == ["reasoning", "message", "function_call"]
    final = wire[-1]["response"]
    assert final["output"][2]["arguments"] == '{"a": 1}'
    assert final["usage"]["total_tokens"] == 12


def test_a_failure_in_a_stream_is_told_twice_and_completes_nothing() -> None:
    """The SDKs raise the error event; clients that follow the protocol wait for response.failed."""
    renderer = DIALECT.event_renderer(View(model="m", id="tr_1", stream=True))
    kinds = [event["type"] for event in typed(renderer.fail(fault("stream_broken", "gone")))]
    assert kinds[-2:] == ["error", "response.failed"]
    assert "response.completed" not in kinds
