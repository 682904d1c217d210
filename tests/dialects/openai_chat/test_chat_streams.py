import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from headgate.core.chat import Audio, Image, Reasoning, Source, Text, ToolCall, text_of
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import UpstreamFault, fault
from headgate.core.events import (
    ChatAnswer,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
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
from headgate.dialects.openai_chat import DIALECT
from support.chat import recorded

Q = Quirks()


def frames_of(body: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    splitter = DIALECT.splitter()
    frames: list[bytes] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(body)]):
        frames += splitter.feed(body[start:stop])
    rest = splitter.close()
    return [*frames, rest] if rest.strip() else frames


def events_in(frames: Iterable[bytes], **quirks: Any) -> list[Event]:
    parser = DIALECT.event_parser(Quirks(**quirks))
    return [event for frame in frames for event in parser.feed(frame)] + parser.close()


def stream(*chunks: dict[str, Any] | str, done: bool = True) -> bytes:
    frames = [sse.frame(c.encode() if isinstance(c, str) else json.dumps(c).encode()) for c in chunks]
    return b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def rendered(events: Iterable[Event], cut: int = 0, details: Any = None, **view: Any) -> bytes:
    renderer = DIALECT.event_renderer(View(**{"stream": True, "id": "v", "model": "v", "include_usage": True, **view}))
    out = b""
    batch = list(events)
    for start in range(0, len(batch), cut or len(batch) or 1):
        out += renderer.feed(batch[start : start + (cut or len(batch))])
    return out + renderer.finish(details)


def accumulated(body: bytes) -> Any:
    """What the official SDK makes of the bytes."""
    state: Any = ChatCompletionStreamState()
    frames = frames_of(body)
    assert sse.data_of(frames[-1]) == b"[DONE]"
    for frame in frames[:-1]:
        data = sse.data_of(frame)
        if data is not None:
            raw = json.loads(data)
            # Providers have tiers of their own; the SDK does not mind.
            ChatCompletionChunk.model_validate({**raw, "service_tier": None}, strict=True)
            list(state.handle_chunk(ChatCompletionChunk.construct(**raw)))
    return state


def sdk_sees(body: bytes) -> dict[str, Any]:
    state = accumulated(body)
    final = state.current_completion_snapshot
    return {
        "choices": [
            (
                choice.message.content or "",
                choice.message.refusal or "",
                (getattr(choice.message, "reasoning_content", None) or ""),
                # {} is ours for "the model wrote no arguments"
                [(c.id, c.function.name, c.function.arguments or "{}") for c in choice.message.tool_calls or []],
                choice.finish_reason,
            )
            for choice in final.choices
        ],
        "usage": final.usage and (final.usage.prompt_tokens, final.usage.completion_tokens),
        "ids": (final.id, final.model),
    }


def we_see(answer: ChatAnswer) -> dict[str, Any]:
    return {
        "choices": [
            (
                "".join(p.text for p in choice.parts if isinstance(p, Text)),
                text_of([p for p in choice.parts if p.__class__.__name__ == "Refusal"]),
                "".join(p.text for p in choice.parts if isinstance(p, Reasoning)),
                [(p.id, p.name, p.arguments) for p in choice.parts if isinstance(p, ToolCall)],
                choice.native_finish or choice.finish,
            )
            for choice in answer.choices
        ],
        "usage": answer.usage and (answer.usage.input, answer.usage.output),
        "ids": (answer.id or "v", answer.model or "v"),
    }


def whole(row: dict[str, Any]) -> bool:
    return "error_in_stream" not in row["features"] and b'"error":{' not in row["response"]["body"].encode()


def test_every_recorded_stream_is_parsed_and_what_we_write_of_it_the_sdk_reads_alike() -> None:
    seen = 0
    for row in recorded(kind="sse", ok=True):
        if not whole(row):
            continue
        seen += 1
        events = events_in(frames_of(row["response"]["body"].encode()))
        answer = collect(events)
        assert answer.choices, row["id"]
        assert sum(isinstance(event, Used) for event in events) <= 1
        assert sum(isinstance(event, Finished) for event in events) == len(answer.choices)
        assert sdk_sees(rendered(events)) == we_see(answer), row["id"]
    assert seen > 480


def test_openais_own_streams_read_the_same_raw_and_parsed() -> None:
    for row in recorded(kind="sse", ok=True, sample=2):
        if row["api"] != "openai.chat" or b"function_call" in row["response"]["body"].encode():
            continue
        body = row["response"]["body"].encode()
        if b'"finish_reason":"' not in body:
            continue
        raw, ours = sdk_sees(body), sdk_sees(rendered(events_in(frames_of(body))))
        assert raw["choices"] == ours["choices"], row["id"]
        assert raw["usage"] == ours["usage"]
        assert raw["ids"] == ours["ids"]


def test_facts_of_frames_agree_with_events() -> None:
    for row in recorded(kind="sse", ok=True):
        if not whole(row):
            continue
        frames = frames_of(row["response"]["body"].encode())
        facts = [found for frame in frames if (found := DIALECT.inspect_frame(frame, Q)) is not None]
        events = events_in(frames)
        usages = [found.usage for found in facts if found.usage is not None]
        assert usages[-1:] == [event.usage for event in events if isinstance(event, Used)], row["id"]
        ends = {found.finish for found in facts if found.finish}
        told = {"stop" if event.reason == "tool_calls" else event.reason for event in events
                if isinstance(event, Finished) and event.native}  # fmt: skip
        assert {"stop" if end == "tool_calls" else end for end in ends} == told, row["id"]
        assert sum(found.usage_only for found in facts) <= 2
        assert not any(found.error for found in facts)
        done = [found for found in facts if found.terminal]
        assert len(done) == row["response"]["body"].count("data: [DONE]")


def test_most_frames_are_not_decoded() -> None:
    frames = selected = 0
    for row in recorded(kind="sse", ok=True, sample=5):
        if row["api"] == "openai.chat":
            for frame in frames_of(row["response"]["body"].encode()):
                frames += 1
                selected += DIALECT.inspect_frame(frame, Q) is not None
    assert frames > 1000
    assert selected < 0.2 * frames


def test_errors_inside_recorded_streams_are_told() -> None:
    kinds: list[str] = []
    for row in recorded(kind="sse", ok=True):
        if whole(row):
            continue
        frames = frames_of(row["response"]["body"].encode())
        failed = [event for event in events_in(frames) if isinstance(event, Failed)]
        facts = [f.error for frame in frames if (f := DIALECT.inspect_frame(frame, Q)) is not None and f.error]
        assert len(failed) == 1
        assert [f.kind for f in facts if f] == [failed[0].error.kind]
        kinds.append(failed[0].error.kind)
    assert sorted(kinds) == ["bad_request", "invalid_answer", "invalid_answer"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"object":"error","message":"the context is too long","type":"BadRequestError","code":400}',
        b'{"detail":"the context is too long"}',
        b'{"id":"c","choices":[],"type":"invalid_request_error","message":"the context is too long"}',
    ],
    ids=["flat", "detail", "no choices"],
)
def test_an_error_that_is_the_object_itself_is_an_error_raw_and_parsed(data: bytes) -> None:
    frame = b"data: " + data + b"\n\n"
    facts = DIALECT.inspect_frame(frame, Q)
    (failed,) = [event for event in events_in([frame]) if isinstance(event, Failed)]
    assert facts is not None
    assert facts.error is not None
    assert facts.error.kind == failed.error.kind
    assert "the context is too long" in facts.error.message


def test_a_chunk_without_choices_is_no_error() -> None:
    for data in (
        b'{"id":"c","choices":[],"prompt_filter_results":[]}',
        b'{"id":"c","object":"ping"}',
        b'{"choices":null}',
    ):
        assert DIALECT.inspect_frame(b"data: " + data + b"\n\n", Q) is None


@settings(max_examples=60)
@given(st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(data: st.DataObject) -> None:
    rows = SAMPLE or SAMPLE.extend(recorded(kind="sse", ok=True, sample=23)) or SAMPLE
    body = data.draw(st.sampled_from(rows))["response"]["body"].encode()[:20_000]
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    cut, uncut = frames_of(body, cuts), frames_of(body)
    assert cut == uncut
    assert b"".join(cut) == body or not body.endswith(b"\n\n")


SAMPLE: list[dict[str, Any]] = []

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}


def calls(*chunks: dict[str, Any], **more: Any) -> list[tuple[str, str, str]]:
    answer = collect(events_in(frames_of(stream(*chunks, delta(finish="tool_calls"), **more))))
    return [(p.id, p.name, p.arguments) for p in answer.choices[0].parts if isinstance(p, ToolCall)]


def call(arguments: str = "", **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return {**fields, "function": function}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        # OpenAI: two calls side by side
        (
            [[call(name="f", index=0, id="1")], [call(name="g", index=1, id="2")], [call('{"a"', index=0)],
             [call("{}", index=1)], [call(":1}", index=0)]],
            [("1", "f", '{"a":1}'), ("2", "g", "{}")],
        ),
        # Mistral: whole calls, neither type nor index
        ([[call('{"a":1}', name="f", id="1"), call("{}", name="f", id="2")]], [("1", "f", '{"a":1}'), ("2", "f", "{}")]),
        ([[call("{}", name="f", id="1")], [call("{}", name="g", id="2")]], [("1", "f", "{}"), ("2", "g", "{}")]),
        # no index, but pieces
        ([[call(name="f", id="1")], [call('{"a"')], [call(":1}")]], [("1", "f", '{"a":1}')]),
        # the same index for all, other ids
        ([[call("{}", name="f", id="1", index=0)], [call("{}", name="g", id="2", index=0)]],
         [("1", "f", "{}"), ("2", "g", "{}")]),
        # the id in every chunk
        ([[call("{", name="f", id="1", index=0)], [call("}", id="1", index=0)]], [("1", "f", "{}")]),
        # no ids at all
        ([[call("{}", name="f", index=0)], [call("{}", name="g", index=1)]],
         [("call_0_0", "f", "{}"), ("call_0_1", "g", "{}")]),
        # the name after the id and the first of the arguments
        ([[call("{", id="1", index=0)], [call("}", name="f", index=0)]], [("1", "f", "{}")]),
        # no arguments
        ([[call(name="f", id="1", index=0)]], [("1", "f", "{}")]),
        # placeholders
        ([[{"index": 0, "function": {}}], [call("{}", name="f", id="1", index=0)]], [("1", "f", "{}")]),
        # arguments as an object
        ([[{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}]], [("1", "f", '{"a":1}')]),
    ],
)  # fmt: skip
def test_calls_however_they_are_streamed(chunks: list[Any], expected: list[tuple[str, str, str]]) -> None:
    body = [delta(tool_calls=piece) for piece in chunks]
    assert calls(*body) == expected
    answer = events_in(frames_of(stream(*body, delta(finish="stop"))))
    seen = sdk_sees(rendered(answer))["choices"][0]
    assert seen[3] == expected
    assert seen[4] == "stop"  # its own word, as it would be raw
    for event in answer:
        if isinstance(event, Started):
            event.extensions = {}
    assert sdk_sees(rendered(answer))["choices"][0][4] == "tool_calls"


def test_a_call_without_a_name_is_no_answer() -> None:
    with pytest.raises(UpstreamFault) as caught:
        calls(delta(tool_calls=[call("{}", id="1", index=0)]))
    assert caught.value.kind == "invalid_answer"


def test_legacy_function_calls() -> None:
    body = stream(
        delta(role="assistant", content=None, function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": '{"a":'}),
        delta(function_call={"arguments": "1}"}),
        delta(finish="function_call"),
    )
    events = events_in(frames_of(body))
    part = collect(events).choices[0].parts[0]
    assert isinstance(part, ToolCall)
    assert (part.id, part.name, part.arguments) == ("call_f", "f", '{"a":1}')
    final = accumulated(rendered(events)).current_completion_snapshot.choices[0]
    assert (final.message.function_call.name, final.message.function_call.arguments) == ("f", '{"a":1}')
    assert final.finish_reason == "function_call"


def test_thinking_in_each_of_its_places() -> None:
    for field in ("reasoning_content", "reasoning"):
        answer = collect(events_in(frames_of(stream(
            delta(**{field: "h", "content": None}), delta(**{field: "m"}), delta(content="a", **{field: None}),
            delta(finish="stop")))))  # fmt: skip
        assert [(type(p).__name__, getattr(p, "text", "")) for p in answer.choices[0].parts] == [
            ("Reasoning", "hm"),
            ("Text", "a"),
        ]
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}]
    answer = collect(events_in(frames_of(stream(delta(content="", reasoning_details=details), delta(finish="stop")))))
    assert isinstance(answer.choices[0].parts[0], Reasoning)
    listed = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    answer = collect(events_in(frames_of(stream(delta(content=listed), delta(finish="stop")))))
    assert [type(p) for p in answer.choices[0].parts] == [Reasoning, Text]


def test_usage_is_counted_once_wherever_it_comes() -> None:
    last = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = stream(
        {**delta(content="a"), "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}},
        {**delta(finish="stop"), "x_groq": {"id": "r", "usage": last}},
        {**delta(), "choices": [], "usage": last},
    )
    events = events_in(frames_of(body))
    assert [event.usage for event in events if isinstance(event, Used)] == [Usage(input=3, output=2)]
    facts = [DIALECT.inspect_frame(frame, Q) for frame in frames_of(body)]
    assert facts == [
        Facts(content=True, usage=Usage(input=3, output=1), id="c", model="m"),
        Facts(usage=Usage(input=3, output=2), finish="stop", id="c", model="m"),
        Facts(usage=Usage(input=3, output=2), usage_only=True, id="c", model="m"),
        Facts(terminal=True),
    ]


def test_an_end_mark_after_the_final_usage_is_an_end() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    counted = collect(events_in(frames_of(stream(delta(content="a"), {**delta(), "choices": [], "usage": usage}))))
    assert counted.choices[0].finish == "stop"
    for cut in (stream(delta(content="a"), done=False), stream(delta(content="a"))):
        with pytest.raises(UpstreamFault) as caught:
            collect(events_in(frames_of(cut)))
        assert caught.value.kind == "stream_broken"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'event: error\ndata: {"error":{"message":"x","code":"tool_use_failed"}}\n\n', "invalid_answer"),
        (b'event: error\ndata: {"message":"Too many requests","code":"429"}\n\n', "rate_limit"),
        (b'data: {"error":{"message":"Overloaded","type":"overloaded_error"}}\n\n', "overloaded"),
        (b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error","error":{"code":502,"message":"gone"}}]}\n\n',
         "unavailable"),
        (b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"insufficient_system_resource"}]}\n\n',
         "stream_broken"),
        (b'{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}', "auth"),
    ],
)  # fmt: skip
def test_errors_inside_a_stream(body: bytes, kind: str) -> None:
    frames = frames_of(body)
    failed = events_in(frames)
    assert len(failed) == 1
    assert isinstance(failed[0], Failed)
    assert failed[0].error.kind == kind
    facts = DIALECT.inspect_frame(frames[0], Q)
    assert facts is not None
    assert facts.error is not None
    assert facts.error.kind == kind


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"data: <html>\n\n", b'data: {"id":"c","choi\n\n'])
def test_frames_that_are_no_json_are_faults(body: bytes) -> None:
    for read in (lambda: events_in(frames_of(body)), lambda: DIALECT.inspect_frame(frames_of(body)[0], Q)):
        with pytest.raises(UpstreamFault) as caught:
            read()
        assert caught.value.kind == "invalid_answer"


def test_a_complete_answer_where_a_stream_should_be_is_read() -> None:
    body = json.dumps(
        {"id": "c", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    ).encode()
    assert text_of(collect(events_in(frames_of(body))).choices[0].parts) == "a"


def test_noise_is_tolerated() -> None:
    body = (
        b": OPENROUTER PROCESSING\n\n\n\n"
        + stream({"id": "", "model": "", "choices": [], "prompt_filter_results": []}, done=False)
        + b"retry: 100\n\ndata: \n\n"
        + stream(
            {**delta(content="a", x=[1]), "obfuscation": "zz", "p": "ab"},
            {"id": "c", "choices": None},
            {"id": "c", "choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]},
            {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        )
        + b"data: after the end\n\n"
    ).replace(b"data: after the end\n\n", b"")
    events = events_in(frames_of(body))
    assert [type(e) for e in events] == [Started, TextDelta, Finished]


def test_n_choices_interleave() -> None:
    body = stream(delta(1, content="b"), delta(0, content="a"), delta(1, finish="length"), delta(0, content="a"),
                  delta(0, finish="stop"))  # fmt: skip
    events = events_in(frames_of(body))
    assert [(text_of(c.parts), c.finish) for c in collect(events).choices] == [("aa", "stop"), ("b", "length")]
    seen = sdk_sees(rendered(events))
    assert [(c[0], c[4]) for c in seen["choices"]] == [("aa", "stop"), ("b", "length")]


def test_logprobs_of_a_stream_are_those_of_an_answer() -> None:
    tokens = [{"token": token, "logprob": -1.0, "bytes": None, "top_logprobs": []} for token in "ab"]
    one, two = ({"content": [token], "refusal": None} for token in tokens)
    chunks = [delta(content="a"), delta(content="b"), delta(finish="stop")]
    chunks[0]["choices"][0]["logprobs"], chunks[1]["choices"][0]["logprobs"] = one, two
    events = events_in(frames_of(stream(*chunks)))
    out = json.loads(DIALECT.render_answer(collect(events), View()).body)
    assert out["choices"][0]["logprobs"] == {"content": tokens, "refusal": None}
    final = accumulated(rendered(events)).current_completion_snapshot
    assert [token.token for token in final.choices[0].logprobs.content] == ["a", "b"]


def test_media_of_a_stream() -> None:
    url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}
    body = stream(
        delta(audio={"id": "au", "transcript": "h"}), delta(audio={"data": "QUJD"}),
        delta(audio={"data": "REVG", "transcript": "i"}), delta(audio={"expires_at": 5}), delta(images=[url]),
        delta(images=[url]), delta(finish="stop"))  # fmt: skip
    events = events_in(frames_of(body))
    assert isinstance(events[-1], Finished)
    parts = collect(events).choices[0].parts
    assert [type(part) for part in parts] == [Image, Image, Audio]
    assert isinstance(parts[2], Audio)
    assert (parts[2].id, parts[2].source.data, parts[2].transcript) == ("au", "QUJDREVG", "hi")
    message = accumulated(rendered(events)).current_completion_snapshot.choices[0].message
    assert message.audio.data == "QUJDREVG"
    assert len(message.images) == 2


# -- what we write ---------------------------------------------------------------------------------------------------


def test_chunks_have_the_formats_form() -> None:
    events: list[Event] = [
        Started("chatcmpl-1", "m", 5, {"openai_chat": {"rest": {"system_fingerprint": "fp"}}}),
        ReasoningDelta("hm"),
        TextDelta("a", 1),
        ToolCallStarted("1", "f", 2, signature="s"),
        ToolCallDelta('{"a":1}', 2),
        Finished("tool_calls", "tool_use"),
        Used(Usage(input=3, output=2)),
    ]
    raw = [sse.data_of(frame) for frame in frames_of(rendered(events))]
    assert raw[-1] == b"[DONE]"
    chunks = [json.loads(data) for data in raw[:-1] if data]
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["id"] == "chatcmpl-1" for chunk in chunks)
    assert all(chunk["created"] == 5 and chunk["system_fingerprint"] == "fp" for chunk in chunks)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
        {"content": "a"},
        {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""},
                         "extra_content": {"google": {"thought_signature": "s"}}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
        {},
    ]  # fmt: skip
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, None, "tool_calls"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_usage_is_told_only_to_those_who_asked() -> None:
    events = [TextDelta("a"), Finished("stop"), Used(Usage(input=1, output=1))]
    assert b"usage" not in rendered(events, include_usage=False)


def test_an_empty_answer_still_has_a_role_and_a_finish() -> None:
    seen = sdk_sees(rendered([Started("x", "m"), Finished("content_filter")]))
    assert seen["choices"] == [("", "", "", [], "content_filter")]


def test_a_second_start_does_not_rename_the_answer() -> None:
    events = [Started("x", "m"), TextDelta("a"), Started("y", "other"), TextDelta("b"), Finished("stop")]
    assert sdk_sees(rendered(events))["ids"] == ("x", "m")


def test_an_answer_that_began_raw_is_continued() -> None:
    before: list[Event] = [Started("x", "m", 1), ToolCallStarted("1", "f"), ToolCallDelta("{}", 0)]
    renderer = DIALECT.event_renderer(View(id="v"))
    renderer.feed(before)
    out = renderer.feed([ToolCallStarted("2", "g", 1)]) + renderer.finish()
    chunk = json.loads(sse.data_of(frames_of(out)[0]) or b"")
    assert chunk["choices"][0]["delta"]["tool_calls"][0]["index"] == 1
    assert "role" not in chunk["choices"][0]["delta"]
    assert chunk["id"] == "x"


def test_batches_make_no_difference() -> None:
    for row in recorded(kind="sse", ok=True, sample=60):
        if whole(row):
            events = events_in(frames_of(row["response"]["body"].encode()))
            assert rendered(events, cut=1) == rendered(events, cut=7) == rendered(events)


def test_complete_answers_stream_as_what_they_are() -> None:
    for row in recorded(kind="json", ok=True, sample=40):
        body = row["response"]["body"].encode()
        if b"function_call" in body or b'"error":' in body:
            continue
        answer = DIALECT.parse_answer(body, Q)
        assert sdk_sees(rendered(events_of(answer, text_chunk=9))) == we_see(answer), row["id"]


def test_foreign_parts_in_a_stream_do_no_harm() -> None:
    events = [PartAdded(Image(source=Source(file_id="f"))), TextDelta("a", 1), Finished("stop")]
    assert sdk_sees(rendered(events))["choices"][0][0] == "a"


def test_a_failure_is_in_band_and_the_last_word() -> None:
    renderer = DIALECT.event_renderer(View())
    renderer.feed([TextDelta("a")])
    out = renderer.fail(fault("overloaded", "busy"))
    assert json.loads(sse.data_of(out) or b"")["error"]["code"] == "overloaded"
    assert renderer.feed([TextDelta("b")]) == b""
    assert renderer.finish() == b""
    assert DIALECT.render_stream_error(fault("timeout", "late"), "r").endswith(b"\n\n")


# -- details ---------------------------------------------------------------------------------------------------------

DETAILS = {"cost_usd": "0.000001"}


def detailed(body: bytes) -> list[Any]:
    return [json.loads(data).get("headgate") for f in frames_of(body) if (data := sse.data_of(f)) and data != b"[DONE]"]


def test_details_stand_on_the_last_chunk_that_we_write() -> None:
    events = [TextDelta("a"), Finished("stop"), Used(Usage(input=1, output=1))]
    for include_usage in (True, False):
        body = rendered(events, details=DETAILS, include_usage=include_usage)
        assert [d for d in detailed(body) if d] == [DETAILS]
        assert detailed(body)[-1] == DETAILS
        assert bool(sdk_sees(body)["usage"]) == include_usage


@pytest.mark.parametrize(
    "tail",
    [
        stream(delta(finish="stop"), {**delta(), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
        stream({**delta(content="data: [DONE] {}", finish="stop")}),
        stream(delta(finish="stop")).replace(b"\n", b"\r\n"),
        stream(delta(finish="stop"), done=False) + b": ping\n\n" + b"data: [DONE]\n\n",
        stream(delta(finish="stop"), done=False),
        stream(delta(finish="stop"))[:-2],
        stream(),
        b"",
    ],
)
def test_details_are_attached_to_the_last_raw_chunk(tail: bytes) -> None:
    out = DIALECT.attach_frame(tail, DETAILS)
    assert [d for d in detailed(out) if d] == [DETAILS]
    assert detailed(out)[-1] == DETAILS
    assert (b"data: [DONE]\n" in out.replace(b"\r", b"") or out.endswith(b"[DONE]")) == (b"data: [DONE]" in tail and
                                                                                        tail != b"")  # fmt: skip
