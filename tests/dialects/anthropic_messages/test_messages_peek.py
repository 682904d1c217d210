import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest
from headgate.dialects.anthropic_messages import DIALECT
from support.corpus import select

Q = Quirks()
USER = [{"role": "user", "content": "hello"}]
HEAD = b'{"model":"m","messages":[{"role":"user","content":"a"}],'
DEEP = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 5, "messages": USER, **fields}).encode()


BAD: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "null": (b"null", None),
    "a list": (b"[]", None),
    "a string": (b'"x"', None),
    "a number": (b"1", None),
    "truncated": (body()[:-3], None),
    "nested too deeply": (DEEP, None),
    "nan": (HEAD + b'"temperature":NaN}', None),
    "too large a float": (HEAD + b'"temperature":1e999}', None),
    "too long an integer": (HEAD + b'"max_tokens":' + b"9" * 5000 + b"}", None),
    "byte order mark": (b"\xef\xbb\xbf" + body(), None),
    "invalid utf-8": (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None),
    "lone surrogate": (rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}', None),
    "numeric model": (body(model=7), "model"),
    "no messages": (b'{"model":"m"}', "messages"),
    "messages empty": (body(messages=[]), "messages"),
    "messages no list": (body(messages="hi"), "messages"),
    "role root": (body(messages=[*USER, {"role": "root", "content": "x"}]), "messages.1.role"),
    "content object": (body(messages=[{"role": "user", "content": {"a": 1}}]), "messages.0.content"),
    "content missing": (body(messages=[{"role": "user"}]), "messages.0.content"),
    "a block no object": (body(messages=[{"role": "user", "content": [7]}]), "messages.0.content"),
    "too many messages": (body(messages=USER * 20_001), "messages"),
    "max_tokens negative": (body(max_tokens=-1), "max_tokens"),
    "max_tokens huge": (body(max_tokens=10**12), "max_tokens"),
    "max_tokens a string": (body(max_tokens="9"), "max_tokens"),
    "stream a string": (body(stream="true"), "stream"),
    "temperature a string": (body(temperature="hot"), "temperature"),
    "stop no list": (body(stop_sequences="x"), "stop_sequences"),
    "tools no list": (body(tools={}), "tools"),
    "forbidden": (body(api_key="sk-1"), "api_key"),
    "headgate no object": (body(headgate=1), "headgate"),
}


@pytest.mark.parametrize(("raw", "param"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_refused_by_peek_and_by_the_parser(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(raw)
    assert param is None or caught.value.param == param
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.parse_request(raw)
    assert param is None or str(caught.value.param).startswith(param)


def test_no_model() -> None:
    raw = json.dumps({"messages": USER}).encode()
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(raw)
    assert caught.value.param == "model"
    assert DIALECT.peek(raw, model="m", stream=True).stream is True


def test_what_a_body_needs() -> None:
    simple = DIALECT.peek(body())
    assert (simple.model, simple.stream, simple.max_tokens, simple.needs) == ("m", False, 5, frozenset())
    assert (simple.n, simple.multi_turn, simple.spliceable, simple.include_usage) == (1, False, True, True)
    image = {"type": "image", "source": {"type": "url", "url": "https://a"}}
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}}
    rich = DIALECT.peek(
        body(
            messages=[{"role": "user", "content": [image, document]}, {"role": "assistant", "content": "x"}],
            tools=[{"name": "f", "input_schema": {}}],
            thinking={"type": "enabled", "budget_tokens": 1024},
            output_config={"format": {"type": "json_schema", "schema": {}}},
            stream=True,
            max_tokens=0,
        )
    )
    assert rich.needs == {"tools", "vision", "documents", "reasoning", "json_schema"}
    assert (rich.stream, rich.multi_turn, rich.max_tokens) == (True, True, 0)
    assert DIALECT.peek(body(thinking={"type": "disabled"})).needs == frozenset()
    quoted = body(messages=[{"role": "user", "content": 'say "type": "image" and {"type":"document"}'}])
    assert DIALECT.peek(quoted).needs == frozenset()


def test_every_recorded_request_is_peeked_as_it_is_parsed() -> None:
    for row in select("anthropic.messages", "vertexai.anthropic", "anthropic.count_tokens"):
        raw = json.dumps(row["request"]["body"]).encode()
        model = row["request"]["body"].get("model") or "m"
        peek, request = DIALECT.peek(raw, model=model), DIALECT.parse_request(raw, model=model)
        assert (peek.model, peek.stream, peek.max_tokens) == (request.model, request.stream, request.max_tokens)
        assert ("tools" in peek.needs) == bool(request.tools), row["id"]


def test_the_bound_is_above_what_the_provider_counted() -> None:
    """Where the recording holds all that was sent, and no tool ran on the provider's side."""
    seen = 0
    for row in select("anthropic.messages", "anthropic.count_tokens", kind="json", ok=True):
        raw, answer = json.dumps(row["request"]["body"]).encode(), json.loads(row["response"]["body"])
        used = answer.get("usage") or answer
        server_side = any("input_schema" not in tool for tool in row["request"]["body"].get("tools") or [])
        if b'"base64"' in raw or b'"mcp_servers"' in raw or b'"container"' in raw or server_side:
            continue
        keys = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        bound = DIALECT.peek(raw, model="m").input_bound
        assert bound >= sum(used.get(key) or 0 for key in keys), row["id"]
        seen += 1
    assert seen > 300


def test_media_do_not_count_as_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 3_000_000}}
    turned = {"source": dict(reversed(image["source"].items())), "type": "image"}  # type: ignore[attr-defined]
    for part in (image, turned):
        bound = DIALECT.peek(body(messages=[{"role": "user", "content": [part]}])).input_bound
        assert 3_000 <= bound < 10_000
    said = {"type": "tool_use", "id": "1", "name": "f", "input": {"data": "x" * 30_000}}
    assert DIALECT.peek(body(messages=[{"role": "assistant", "content": [said]}])).input_bound >= 10_000
    paper = {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}}
    assert DIALECT.peek(body(messages=[{"role": "user", "content": [paper]}])).input_bound > 90_000
    text = DIALECT.peek(body(messages=[{"role": "user", "content": "x" * 30_000}])).input_bound
    assert text >= 10_000


def test_splicing_replaces_the_model_and_nothing_else() -> None:
    raw = body(system="s")
    peek = DIALECT.peek(raw)
    assert DIALECT.splice(raw, peek, model="claude-é", quirks=Q) == raw.replace(
        b'"model": "m"', '"model": "claude-é"'.encode()
    )
    assert DIALECT.splice(raw, peek, model="m", quirks=Q) == raw


@pytest.mark.parametrize(
    "raw",
    [
        body(headgate={"details": True}),
        json.dumps({"model": "m", "messages": USER}).encode(),
        body(messages=[{"role": "user", "content": "x"}], tools=[{"name": "f", "input_schema": {"model": "m"}}]),
        rb'{"\u006dodel":"x","model":"m","max_tokens":1,"messages":[{"role":"user","content":"a"}]}',
    ],
)
def test_unsafe_bodies_are_not_spliced(raw: bytes) -> None:
    assert DIALECT.splice(raw, DIALECT.peek(raw), model="other", quirks=Q) is None


@given(name=st.text(min_size=1, max_size=20), text=st.text(max_size=30))
def test_a_splice_is_what_decoding_would_give(name: str, text: str) -> None:
    raw = json.dumps({"messages": [{"role": "user", "content": text}], "model": name, "max_tokens": 1}).encode()
    spliced = DIALECT.splice(raw, DIALECT.peek(raw), model="target", quirks=Q)
    if spliced is not None:
        assert json.loads(spliced) == {**json.loads(raw), "model": "target"}


def test_paths() -> None:
    assert DIALECT.path("chat", model="m", stream=True) == "/messages"
    assert DIALECT.path("count_tokens", model="m", stream=False) == "/messages/count_tokens"


def test_peeking_decodes_no_words() -> None:
    """What a peek allocates does not grow with what the messages say."""
    peaks = []
    for words in (200, 80_000):
        raw = body(messages=[{"role": "user", "content": "word " * words}])
        DIALECT.peek(raw)
        tracemalloc.start()
        DIALECT.peek(raw)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10_000
