"""Every recorded request of every format: parsed, its bytes discarded, rendered again, equal. Streams: any packets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.extract import FORMATS, STREAMS, format_of
from headgate.core.dialect import Quirks
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import Failed, collect
from headgate.providers.registry import dialect_of
from support.corpus import rows, select

PLAIN = Quirks(stream_usage="never")


def requests(fmt: str) -> list[dict[str, Any]]:
    return [row for row in rows() if format_of(row["api"]) == fmt and isinstance(row["request"]["body"], dict)]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_recorded_request_is_equal_after_parse_and_render(fmt):
    dialect = dialect_of(fmt)
    seen, wrong = 0, []
    for row in requests(fmt):
        body = row["request"]["body"]
        if fmt == "openai_chat" and "messages" not in body:
            continue  # a body that the recorder lost
        model = str(body.get("model") or "m")
        try:
            parsed = dialect.parse_request(json.dumps(body).encode(), model=None if body.get("model") else "m")
        except HeadgateError:
            if row["response"]["status"] < 400:
                wrong.append(f"{row['id']}: refused, though its provider took it")
            continue
        seen += 1
        got = json.loads(dialect.render_request(parsed, model=model, quirks=PLAIN).body)
        if not body.get("model"):
            got.pop("model", None)
        if got.get("max_tokens") == 4096 and "max_tokens" not in body:
            del got["max_tokens"]  # Messages need one; count_tokens bodies have none
        if got != body:
            wrong.append(f"{row['id']}: {[k for k in {*got, *body} if got.get(k) != body.get(k)]}")
    assert seen > 500
    assert not wrong, wrong[:10]


EMBEDDINGS = ("openai.embeddings", "azure.embeddings", "mistral.embeddings", "voyage.embeddings", "local.embeddings")


def test_a_recorded_embeddings_request_is_equal_after_parse_and_render():
    """This format has no other to be turned into: its parsed form is the JSON object. An empty `headgate` makes the door
    decode the body and write it anew (there is something to take out); without it, the bytes pass."""
    dialect = dialect_of("openai_embeddings")
    seen = 0
    for row in select(*EMBEDDINGS):
        body = row["request"]["body"]
        if not isinstance(body, dict):
            continue  # recorded without its request
        for sent, decoded in ((body, False), ({**body, "headgate": {}}, True)):
            raw = json.dumps(sent).encode()
            peek = dialect.peek(raw)
            assert (peek.model, peek.spliceable) == (body["model"], not decoded)
            got = dialect.splice(raw, peek, model=body["model"], quirks=PLAIN)
            assert got is not None
            assert json.loads(got) == body, row["id"]
            assert (got == raw) == (not decoded)
        seen += 1
    assert seen == 88


@pytest.mark.parametrize(
    ("api", "fmt"), [("anthropic.count_tokens", "anthropic_messages"), ("gemini.countTokens", "gemini")]
)
def test_a_recorded_request_to_count_is_equal_after_parse_and_render(api, fmt):
    dialect, seen = dialect_of(fmt), 0
    for row in select(api):
        body, raw = row["request"]["body"], json.dumps(row["request"]["body"]).encode()
        model = None if body.get("model") else "m"
        dialect.peek(raw, model=model, stream=False)
        parsed = dialect.parse_request(raw, model=model)
        got = json.loads(dialect.render_request(parsed, model=str(body.get("model") or "m"), quirks=PLAIN).body)
        got = {name: value for name, value in got.items() if name in body or name not in ("model", "max_tokens")}
        assert got == body, row["id"]
        seen += 1
    assert seen > 9


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_recorded_answer_is_equal_after_parse_and_render(fmt):
    from headgate.core.dialect import View

    dialect = dialect_of(fmt)
    seen, wrong = 0, []
    for row in rows():
        answer = row["response"]
        if format_of(row["api"]) != fmt or answer["kind"] != "json" or answer["status"] != 200:
            continue
        try:
            parsed = dialect.parse_answer(answer["body"].encode(), PLAIN)
        except UpstreamFault:
            continue  # an error told with status 200
        seen += 1
        if json.loads(dialect.render_answer(parsed, View()).body) != json.loads(answer["body"]):
            wrong.append(row["id"])
    assert seen > 300
    assert not wrong, wrong[:10]


@pytest.mark.parametrize("fmt", FORMATS)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_split_into_packets_gives_the_same_events(fmt, data):
    dialect = dialect_of(fmt)
    streams = [r for r in rows() if format_of(r["api"]) == fmt and r["response"]["kind"] in STREAMS]
    row = data.draw(st.sampled_from([r for r in streams if len(r["response"]["body"]) < 40_000]))
    body = row["response"]["body"].encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=30)))

    def events(pieces: list[bytes]) -> list[Any]:
        splitter, parser = dialect.splitter(), dialect.event_parser(PLAIN)
        found: list[Any] = []
        for piece in pieces:
            for frame in splitter.feed(piece):
                found += parser.feed(frame)
        if rest := splitter.close():
            found += parser.feed(rest)
        found += parser.close()
        return [repr(event.error) if isinstance(event, Failed) else event for event in found]

    whole = events([body])
    assert events([body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]) == whole


@pytest.mark.parametrize("fmt", FORMATS)
def test_what_a_renderer_streams_its_own_parser_reads_back(fmt):
    from headgate.core.chat import Choice, Reasoning, Text, ToolCall
    from headgate.core.dialect import View
    from headgate.core.events import ChatAnswer, events_of
    from headgate.core.usage import Usage

    dialect = dialect_of(fmt)
    parts = [
        Reasoning(text="Let me see."),
        Text(text="Here it is: 汉字."),
        ToolCall(id="call_1", name="f", arguments='{"a": 1}'),
    ]
    answer = ChatAnswer(
        id="x", model="m", choices=[Choice(parts=parts, finish="tool_calls")], usage=Usage(input=5, output=7)
    )
    for size in (0, 1, 3):
        renderer = dialect.event_renderer(View(model="m", id="tr_1", stream=True, include_usage=True))
        stream = b"".join(renderer.feed([event]) for event in events_of(answer, size)) + renderer.finish()
        splitter, parser = dialect.splitter(), dialect.event_parser(PLAIN)
        back = collect([e for frame in splitter.feed(stream) for e in parser.feed(frame)] + parser.close())
        words = "".join(p.text for p in back.choices[0].parts if isinstance(p, Text))
        calls = [(p.name, json.loads(p.arguments)) for p in back.choices[0].parts if isinstance(p, ToolCall)]
        assert words == "Here it is: 汉字."
        assert calls == [("f", {"a": 1})]
        assert back.choices[0].finish == "tool_calls"
        assert back.usage == answer.usage
