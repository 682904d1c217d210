import json
from typing import Any

import pytest
from anthropic import Anthropic
from httpx2 import Client, MockTransport, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.chat import Image, Opaque, Reasoning, Refusal, Source, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import (
    CitationAdded,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
    collect,
    events_of,
)
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.anthropic_messages import DIALECT
from headgate.dialects.openai_chat import DIALECT as CHAT
from support.corpus import select
from support.messages import accumulated, events_in, frames_of, recorded, rendered, wire

Q = Quirks()


def frame(kind: str, **fields: Any) -> bytes:
    return sse.frame(json.dumps({"type": kind, **fields}).encode(), kind)


def start(**usage: int) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 1, **usage}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": usage}  # fmt: skip
    return frame("message_start", message=message)


def block(index: int, head: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    return (
        frame("content_block_start", index=index, content_block=head)
        + b"".join(frame("content_block_delta", index=index, delta=delta) for delta in deltas)
        + frame("content_block_stop", index=index)
    )


def end(reason: str = "end_turn", **usage: int) -> bytes:
    usage = {"output_tokens": 9, **usage}
    delta = {"stop_reason": reason, "stop_sequence": None}
    return frame("message_delta", delta=delta, usage=usage) + frame("message_stop")


def events(body: bytes) -> list[Event]:
    return events_in(frames_of(body))


def plain(value: Any) -> Any:
    """Without what is empty: the SDK has a default for it. Its dates as text."""
    if isinstance(value, dict):
        found = {key: plain(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item not in (None, [], {})}
    if isinstance(value, list):
        return [plain(item) for item in value if not (isinstance(item, dict) and item.get("text") == "")]
    return value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else value


# -- recordings ------------------------------------------------------------------------------------------------------


def test_every_recorded_stream_is_the_same_message_after_parse_and_render() -> None:
    """As the official SDK puts it together: from the events, from the collected answer, and as one JSON answer."""
    seen = 0
    for row in recorded(kind="sse", ok=True):
        body = row["response"]["body"].encode()
        want = plain(accumulated(body, strict=False))
        told = events(body)
        answer = collect(told)
        assert plain(accumulated(rendered(told), strict=False)) == want, row["id"]
        assert plain(accumulated(rendered(events_of(answer, 7), cut=3), strict=False)) == want, row["id"]
        assert plain(json.loads(DIALECT.render_answer(answer, View()).body)) == want, row["id"]
        seen += 1
    assert seen > 120


def test_raw_streams_tell_what_parsed_ones_tell() -> None:
    for row in recorded(kind="sse", ok=True):
        told = events(row["response"]["body"].encode())
        facts = [f for f in (DIALECT.inspect_frame(x, Q) for x in frames_of(row["response"]["body"].encode())) if f]
        finished = [event for event in told if isinstance(event, Finished)]
        started = told[0]
        assert isinstance(started, Started)
        assert (facts[0].id, facts[0].model) == (started.id, started.model)
        assert [f.finish for f in facts if f.finish] == [event.reason for event in finished]
        assert facts[-1].terminal, row["id"]
        used = told[-1]
        assert isinstance(used, Used)
        said = [f.usage for f in facts if f.usage]
        assert max(usage.output for usage in said) == used.usage.output
        assert used.usage.input in {usage.input for usage in said}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_split_into_packets_gives_the_same_events(data: st.DataObject) -> None:
    rows = list(recorded(kind="sse", ok=True, sample=9))
    body = data.draw(st.sampled_from(rows))["response"]["body"].encode()
    if data.draw(st.booleans()):
        body = body.replace(b"\n", b"\r\n")
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    assert events_in(frames_of(body, cuts)) == events(body)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_official_client_reads_any_answer_of_any_provider(data: st.DataObject) -> None:
    text = st.text(max_size=8)
    call = st.builds(
        ToolCall,
        id=st.just("call_1"),
        name=st.just("f"),
        arguments=st.dictionaries(text, st.one_of(st.integers(-9, 9), text), max_size=3).map(json.dumps),
    )
    parts = data.draw(
        st.lists(
            st.one_of(
                st.builds(Text, text=text),
                st.builds(Reasoning, text=text, signature=st.sampled_from([None, "other's"])),
                st.builds(Refusal, text=text),
                call,
            ),
            max_size=5,
        )
    )
    told: list[Event] = [Started("chatcmpl-1", "gpt")]
    for number, part in enumerate(parts):
        told += _pieces(part, number, data.draw(st.integers(1, 4)))
    told += [Finished("tool_calls" if any(isinstance(p, ToolCall) for p in parts) else "stop", "stop"), Used(USAGE)]
    answer = collect(told)
    message = accumulated(rendered(told, cut=data.draw(st.integers(1, 5))))
    assert plain(json.loads(DIALECT.render_answer(answer, View(id="tr_1")).body)) == plain(message)
    assert message["id"] == "msg_1"
    assert "other's" not in str(message)


USAGE = Usage(input=10, output=5, cached_input=4, cache_write=1, reasoning=2)


def _pieces(part: Any, number: int, size: int) -> list[Event]:
    if isinstance(part, ToolCall):
        pieces = [part.arguments[i : i + size] for i in range(0, len(part.arguments), size)]
        return [ToolCallStarted(part.id, part.name, number), *(ToolCallDelta(piece, number) for piece in pieces)]
    kind = {Text: TextDelta, Reasoning: ReasoningDelta, Refusal: RefusalDelta}[type(part)]
    out: list[Event] = [kind(part.text[i : i + size], number) for i in range(0, len(part.text), size)]
    return [*out, ReasoningDelta("", number, signature=part.signature)] if isinstance(part, Reasoning) else out


# -- reading ---------------------------------------------------------------------------------------------------------


def test_all_kinds_of_deltas() -> None:
    body = (
        start(cache_read_input_tokens=5)
        + frame("ping")
        + block(0, {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "s"})
        + b": a comment\n\n"
        + block(1, {"type": "redacted_thinking", "data": "d"})
        + block(2, {"type": "text", "text": "", "citations": []}, {"type": "text_delta", "text": "a"},
                {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "c"}})
        + frame("ping")
        + block(3, {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
                {"type": "input_json_delta", "partial_json": ""}, {"type": "input_json_delta", "partial_json": '{"a'},
                {"type": "input_json_delta", "partial_json": '": 1}'})
        + block(4, {"type": "tool_use", "id": "u", "name": "g", "input": {}},
                {"type": "input_json_delta", "partial_json": ""})
        + block(5, {"type": "server_tool_use", "id": "v", "name": "web_search", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"query": "q"}'})
        + block(6, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "sum"},
                {"type": "compaction_delta", "content": "mary"})
        + block(7, {"type": "what_may_come", "x": 1}, {"type": "what_delta", "y": {"z": 2}})
        + frame("what_may_come", x=1)
        + end("tool_use", input_tokens=4, output_tokens=20)
    )  # fmt: skip
    answer = collect(events(body))
    parts = answer.choices[0].parts
    assert [part.__class__.__name__ for part in parts] == [
        "Reasoning", "Reasoning", "Text", "ToolCall", "ToolCall", "Opaque", "Opaque", "Opaque"]  # fmt: skip
    assert (parts[0].text, parts[0].signature) == ("hm", "s")  # type: ignore[union-attr]
    assert parts[1].encrypted == "d"  # type: ignore[union-attr]
    assert [part.arguments for part in parts if isinstance(part, ToolCall)] == ['{"a": 1}', "{}"]
    assert [part.data for part in parts if isinstance(part, Opaque)] == [
        {"type": "server_tool_use", "id": "v", "name": "web_search", "input": {"query": "q"}},
        {"type": "compaction", "content": "summary"},
        {"type": "what_may_come", "x": 1, "y": {"z": 2}},
    ]
    assert answer.usage == Usage(input=9, output=20, cached_input=5)
    assert answer.choices[0].finish == "tool_calls"
    assert plain(accumulated(rendered(events(body)), strict=False)) == plain(
        json.loads(DIALECT.render_answer(answer, View()).body)
    )


def test_thinking_of_a_signature_alone_and_input_that_came_at_once() -> None:
    body = (
        start()
        + block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "signature_delta", "signature": "s"})
        + block(1, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}})
        + end("tool_use")
    )
    message = accumulated(rendered(events(body)))
    assert message["content"] == [
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    ]


def test_usage_is_cumulative_and_never_added() -> None:
    first, second = end("tool_use", output_tokens=5), end("tool_use", output_tokens=7, input_tokens=30)
    told = events(start() + first.replace(frame("message_stop"), b"") + second)
    assert [event.usage for event in told if isinstance(event, Used)] == [Usage(input=30, output=7)]
    assert sum(isinstance(event, Finished) for event in told) == 1


def test_words_that_we_do_not_know_are_kept() -> None:
    body = start() + block(0, {"type": "text", "text": "a"}) + end("what_may_come")
    told = events(body)
    assert next(e for e in told if isinstance(e, Finished)) == Finished("other", "what_may_come")
    assert accumulated(rendered(told), strict=False)["stop_reason"] == "what_may_come"


def test_an_error_in_the_stream() -> None:
    error = frame("error", error={"type": "overloaded_error", "message": "Overloaded"})
    told = events(start() + error + end())
    assert isinstance(told[1], Failed)
    assert told[1].error.kind == "overloaded"
    facts = DIALECT.inspect_frame(error, Q)
    assert facts is not None
    assert facts.error is not None
    assert facts.error.kind == "overloaded"


def test_a_cut_stream_did_not_finish() -> None:
    with pytest.raises(UpstreamFault) as caught:
        collect(events(start() + block(0, {"type": "text", "text": "a"})))
    assert caught.value.kind == "stream_broken"


@pytest.mark.parametrize(
    "data",
    [b'{"type":7}', b'{"type":"content_block_start","index":null,"content_block":7}',
     b'{"type":"content_block_delta","delta":[]}', b'{"type":"message_start","message":"x"}', b"{}",
     b'{"type":"message_delta","delta":null,"usage":null}', b'{"type":"content_block_stop"}'],
)  # fmt: skip
def test_odd_frames_harm_nothing(data: bytes) -> None:
    odd = sse.frame(data)
    DIALECT.inspect_frame(odd, Q)
    told = events(start() + odd + block(0, {"type": "text", "text": "a"}) + end())
    assert collect(told).choices[0].finish == "stop"


@pytest.mark.parametrize(
    "data",
    [b"<html>", b"[]", b"7", b"null", b'{"type":"message_del', b'event: content_block_delta\ndata: {"type":"con'],
)
def test_broken_frames_are_faults(data: bytes) -> None:
    broken = data + b"\n\n" if data.startswith(b"event") else sse.frame(data)
    with pytest.raises(UpstreamFault) as caught:
        DIALECT.inspect_frame(broken, Q)
    assert caught.value.kind == "invalid_answer"
    with pytest.raises(UpstreamFault):
        DIALECT.event_parser(Q).feed(broken)


def test_blocks_and_pings_are_passed_by_also_with_padding() -> None:
    padded = b'event: content_block_delta\ndata: {"type":"content_block_delta"}   \n\n'
    for passed in (padded, frame("ping"), frame("content_block_stop", index=0), b": ping\n\n", b"data:\n\n"):
        assert DIALECT.inspect_frame(passed, Q) is None
    assert DIALECT.inspect_frame(end()[: end().index(b"\n\n") + 2].replace(b"}}\n", b"}}  \n"), Q) == Facts(
        usage=Usage(output=9), in_parts=True, finish="stop"
    )


# -- writing ---------------------------------------------------------------------------------------------------------

ENDED: list[Event] = [Finished("stop", "stop"), Used(USAGE)]


def test_the_order_of_the_frames() -> None:
    told = [Started("chatcmpl-9", "gpt"), TextDelta("a"), TextDelta("b"), ToolCallStarted("1", "f", 1), *ENDED]
    assert [raw["type"] for raw in wire(rendered(told))] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "content_block_stop",
        "content_block_start", "content_block_stop", "message_delta", "message_stop"]  # fmt: skip
    message = accumulated(rendered(told))
    assert message["usage"] == {
        "input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1, "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2}}  # fmt: skip
    assert message["content"][1]["input"] == {}


def test_an_answer_of_nothing_is_a_whole_stream() -> None:
    message = accumulated(rendered([Finished("content_filter")]))
    assert (message["content"], message["stop_reason"], message["model"]) == ([], "refusal", "shown")


@pytest.mark.parametrize(
    ("end_", "native"),
    [
        (Finished("stop", "stop"), "end_turn"),
        (Finished("length", "MAX_TOKENS"), "max_tokens"),
        (Finished("tool_calls", "STOP"), "tool_use"),
        (Finished("content_filter", "SAFETY"), "refusal"),
        (Finished("refusal", "stop"), "refusal"),
        (Finished("pause"), "pause_turn"),
        (Finished("other", "strange"), "end_turn"),
        (Finished("stop", stop_sequence="x"), "stop_sequence"),
    ],
)
def test_reasons_of_all_providers(end_: Finished, native: str) -> None:
    message = accumulated(rendered([Started(), TextDelta("a"), end_]))
    assert message["stop_reason"] == native
    assert message["stop_sequence"] == end_.stop_sequence


def test_mixed_calls_wait_until_the_open_one_is_complete() -> None:
    told: list[Event] = [
        TextDelta("t"), ToolCallStarted("1", "f", 1), ToolCallStarted("2", "g", 2), ToolCallDelta('{"a"', 1),
        ToolCallDelta("{", 2), ToolCallDelta(':"}"}', 1), ToolCallDelta("}", 2), ToolCallDelta("\n", 1),
        ToolCallStarted("3", "h", 3), ToolCallStarted("4", "i", 4), ToolCallDelta("{}", 4), TextDelta("u", 5),
        Finished("tool_calls")]  # fmt: skip
    for cut in (0, 1):
        message = accumulated(rendered(told, cut=cut))
        assert [(b["type"], b.get("id"), b.get("input"), b.get("text")) for b in message["content"]] == [
            ("text", None, None, "t"), ("tool_use", "1", {"a": "}"}, None), ("tool_use", "2", {}, None),
            ("tool_use", "3", {}, None), ("tool_use", "4", {}, None), ("text", None, None, "u")]  # fmt: skip


def test_arguments_out_of_place_are_a_fault() -> None:
    for told in (
        [ToolCallDelta("{}", 0)],
        [ToolCallStarted("1", "f", 0), ToolCallDelta("{}", 0), TextDelta("x", 1), ToolCallDelta("{}", 0)],
    ):
        with pytest.raises(UpstreamFault) as caught:
            rendered(told)
        assert caught.value.kind == "invalid_answer"


def test_free_text_calls_become_an_object() -> None:
    told = [ToolCallStarted("1", "x", 0, custom=True), ToolCallDelta('say "', 0), ToolCallDelta('hi"', 0), *ENDED]
    assert accumulated(rendered(told))["content"][0]["input"] == {"input": 'say "hi"'}


def test_what_other_providers_sign_and_hide_stays_with_us() -> None:
    told = [
        Started("resp_1"), ReasoningDelta("because", 0), ReasoningDelta("", 0, encrypted="secret"),
        ReasoningDelta("", 1, signature="sig"), PartAdded(Opaque(dialect="gemini", data={"type": "x"}), 2),
        PartAdded(Image(source=Source(data="QQ==")), 3), CitationAdded({"kind": "gemini"}, 4), TextDelta("a", 4), *ENDED,
    ]  # fmt: skip
    assert accumulated(rendered(told))["content"] == [
        {"type": "thinking", "thinking": "because", "signature": ""},
        {"type": "text", "text": "a"},
    ]


def test_only_the_first_of_several_answers_is_told() -> None:
    told = [TextDelta("a"), TextDelta("b", choice=1), Finished("stop"), Finished("length", choice=1)]
    message = accumulated(rendered(told))
    assert (message["content"][0]["text"], message["stop_reason"]) == ("a", "end_turn")


def test_an_answer_begun_by_one_provider_is_ended_by_another() -> None:
    """Rescue: the client has the first frames; numbering goes on."""
    begun = start() + block(0, {"type": "text", "text": "", "citations": None}, {"type": "text_delta", "text": "a"})
    renderer = DIALECT.event_renderer(View(id="tr_1", model="m"))
    parser = DIALECT.event_parser(Q)
    frames = frames_of(begun)[:-1]
    renderer.feed([event for part in frames for event in parser.feed(part)])
    rest = renderer.feed([TextDelta("b"), ToolCallStarted("1", "f", 1)]) + renderer.feed([Finished("tool_calls")])
    message = accumulated(b"".join(frames) + rest + renderer.finish())
    assert [b["type"] for b in message["content"]] == ["text", "tool_use"]
    assert message["content"][0]["text"] == "ab"
    assert message["id"] == "msg_1"


def test_details_and_errors() -> None:
    body = rendered([TextDelta("a"), *ENDED], details={"cost": 1})
    assert wire(body)[-2]["headgate"] == {"cost": 1}
    accumulated(body)
    tail = frame("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}) + frame("message_stop")
    for raw in (tail, tail.replace(b"}}\n", b"}}   \n"), tail.replace(b"\n", b"\r\n")):
        found = wire(DIALECT.attach_frame(raw, {"cost": 1}))
        assert [part.get("headgate") for part in found] == [{"cost": 1}, None]
    assert DIALECT.attach_frame(frame("message_stop"), {"cost": 1}) == frame("message_stop")
    failed = wire(DIALECT.event_renderer(View(id="tr_1")).fail(fault("overloaded", "busy")))
    assert failed == [{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "tr_1"}]
    assert rendered([Failed(fault("timeout", "late"))]).startswith(b"event: error\n")


def test_the_official_client_over_the_wire() -> None:
    told = [Started("c", "gpt"), ReasoningDelta("hm", 0), TextDelta("hello", 1), ToolCallStarted("1", "f", 2),
            ToolCallDelta('{"a":', 2), ToolCallDelta("2}", 2), Finished("tool_calls"), Used(USAGE)]  # fmt: skip
    body = DIALECT.heartbeat + rendered(told, cut=1, details={"trace": "t"})

    def answer(_: Request) -> Response:
        return Response(200, headers={"content-type": "text/event-stream"}, content=body)

    with Anthropic(api_key="k", http_client=Client(transport=MockTransport(answer))) as client:
        asked: Any = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        with client.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == "hello"
            message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert message.content[2].input == {"a": 2}  # type: ignore[union-attr]
    assert message.usage.cache_read_input_tokens == 4


def test_recorded_streams_of_other_formats_have_a_place_here() -> None:
    """A door of this format in front of a provider of another: the SDK knows every frame by its type."""
    seen = 0
    for row in select("openai.chat", "groq.chat", "mistral.chat", kind="sse", ok=True, sample=3):
        splitter, parser = CHAT.splitter(), CHAT.event_parser(Q)
        told = [event for part in splitter.feed(row["response"]["body"].encode()) for event in parser.feed(part)]
        told += parser.close()
        if any(isinstance(event, Failed) for event in told) or not any(isinstance(e, Finished) for e in told):
            continue
        message = accumulated(rendered(told))
        answer = collect(told)
        calls = [part for part in answer.choices[0].parts if isinstance(part, ToolCall)]
        assert [b["name"] for b in message["content"] if b["type"] == "tool_use"] == [call.name for call in calls]
        seen += 1
    assert seen > 50
