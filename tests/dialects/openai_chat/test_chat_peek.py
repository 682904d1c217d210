import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.asked import Asked, asked_of
from headgate.core.chat import Message, Text
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest
from headgate.core.request import Request
from headgate.dialects.openai_chat import DIALECT
from support.chat import recorded

Q = Quirks()
USER = [{"role": "user", "content": "hello"}]
HEAD = b'{"model":"m","messages":[{"role":"user","content":"a"}],'
DEEP = b'{"model":"m","messages":[{"role":"user","content":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": USER, **fields}).encode()


BAD: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "null": (b"null", None),
    "a list": (b"[]", None),
    "a string": (b'"x"', None),
    "a number": (b"1", None),
    "truncated": (body()[:-3], None),
    "nested too deeply": (DEEP, None),
    "nan": (HEAD + b'"temperature":NaN}', None),
    "too large a float": (HEAD + b'"temperature":1e999}', "temperature"),
    "too long an integer": (HEAD + b'"seed":' + b"9" * 5000 + b"}", "seed"),
    "byte order mark": (b"\xef\xbb\xbf" + body(), None),
    "invalid utf-8": (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', None),
    "lone surrogate": (rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}', None),
    "no model": (json.dumps({"messages": USER}).encode(), "model"),
    "empty model": (body(model=""), "model"),
    "numeric model": (body(model=7), "model"),
    "no messages": (b'{"model":"m"}', "messages"),
    "messages empty": (body(messages=[]), "messages"),
    "messages no list": (body(messages="hi"), "messages"),
    "a message no object": (body(messages=["hi"]), "messages[0]"),
    "role root": (body(messages=[*USER, {"role": "root", "content": "x"}]), "messages[1].role"),
    "role missing": (body(messages=[{"content": "x"}]), "messages[0]"),
    "content object": (body(messages=[{"role": "user", "content": {"a": 1}}]), "messages[0].content"),
    "content number": (body(messages=[{"role": "user", "content": -1}]), "messages[0].content"),
    "content bool": (body(messages=[{"role": "user", "content": True}]), "messages[0].content"),
    "content part number": (body(messages=[{"role": "user", "content": [1]}]), None),
    "too many messages": (b'{"model":"m","messages":[' + b'{"role":"user"},' * 20_000 + b'{"role":"user"}]}', "messages"),
    "n too large": (body(n=10_000), "n"),
    "n zero": (body(n=0), "n"),
    "max_tokens negative": (body(max_tokens=-1), "max_tokens"),
    "max_tokens huge": (body(max_tokens=10**12), "max_tokens"),
    "max_tokens broken": (body(max_completion_tokens=1.5), "max_completion_tokens"),
    "max_tokens a string": (body(max_tokens="9"), "max_tokens"),
    "top_logprobs": (body(top_logprobs=99), "top_logprobs"),
    "stream a string": (body(stream="true"), "stream"),
    "temperature a string": (body(temperature="hot"), "temperature"),
    "input beside messages": (body(input="x"), "input"),
    "api_base": (body(api_base="http://evil"), "api_base"),
    "base_url": (body(base_url="http://evil"), "base_url"),
    "api_key": (body(api_key="sk"), "api_key"),
    "extra_headers": (body(extra_headers={"a": "b"}), "extra_headers"),
    "organization": (body(organization="o"), "organization"),
    "an escaped name": (body().replace(b'"model"', rb'"\u0061pi_key":"x","model"'), "api_key"),
    "tools no list": (body(tools={"a": 1}), "tools"),
    "response_format": (body(response_format="json"), "response_format"),
    "stream_options": (body(stream_options=[]), "stream_options"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "param"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_refused_by_skim_and_by_parser(raw: bytes, param: str | None) -> None:
    for read in (DIALECT.peek, DIALECT.parse_request):
        with pytest.raises(InvalidRequest) as caught:
            read(raw)
        assert caught.value.message
        if param is not None:
            assert caught.value.param == param


def test_what_clients_send_and_must_pass() -> None:
    peek = DIALECT.peek(
        b' {"model":"a","model":"org/b","messages":[{"role":"user","content":null,"x":[{}]}],"max_tokens":100.0,'
        b'"x_unknown":{"deep":[1,2]},"stream":null,"metadata":{"api_key":"inside is fine"}}\n'
    )
    assert (peek.model, peek.max_tokens, peek.stream, peek.n) == ("org/b", 100, False, 1)
    assert DIALECT.peek(json.dumps({"messages": USER}).encode(), model="from-the-path").model == "from-the-path"
    assert DIALECT.peek(body(headgate={"details": True})).options == {"details": True}


def part(kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": kind, **fields}]}]


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"tools"}),
        ({"functions": [{"name": "f"}]}, {"tools"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {"json_schema"}),
        ({"response_format": {"type": "json_object"}}, {"json_object"}),
        ({"response_format": {"type": "text"}}, set()),
        ({"logprobs": True}, {"logprobs"}),
        ({"n": 3}, {"n"}),
        ({"modalities": ["text", "audio"]}, {"audio_output"}),
        ({"messages": part("image_url", image_url={"url": "https://a/b.png"})}, {"vision"}),
        ({"messages": part("input_audio", input_audio={"data": "QQ==", "format": "wav"})}, {"audio"}),
        ({"messages": part("file", file={"file_id": "f"})}, {"documents"}),
        ({"messages": part("video_url", video_url={"url": "https://a"})}, {"video"}),
        ({"reasoning_effort": "low"}, {"reasoning"}),
        ({"reasoning_effort": "none"}, set()),
        # Only looks like media: a parameter of a tool, and words about it.
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"image_url": {"type": "string"}}}}],
          "messages": [{"role": "user", "content": '{"type":"image_url"}'}]}, {"tools"}),
    ],
)  # fmt: skip
def test_needs(fields: dict[str, Any], needs: set[str]) -> None:
    assert DIALECT.peek(body(**fields)).needs == needs


def test_the_bound_counts_text_and_media_but_not_base64() -> None:
    words = DIALECT.peek(body(messages=[{"role": "user", "content": "word " * 4000}]))
    assert words.input_bound >= 6000
    image = part("image_url", image_url={"url": "data:image/png;base64," + "QUJD" * 100_000})
    assert 3000 <= DIALECT.peek(body(messages=image)).input_bound < 5000
    audio = part("input_audio", input_audio={"data": "QUJD" * 100_000, "format": "wav"})
    assert 3000 <= DIALECT.peek(body(messages=audio)).input_bound < 5000


def splice(raw: bytes, model: str = "new", **quirks: Any) -> bytes | None:
    return DIALECT.splice(raw, DIALECT.peek(raw), model=model, quirks=Quirks(**quirks))


def test_every_recorded_request_is_spliced_or_left_to_the_decoder() -> None:
    spliced = total = 0
    for row in recorded(sample=2):
        wanted = row["request"]["body"]
        if wanted is None or "model" not in wanted:
            continue
        total += 1
        for ascii_only in (True, False):
            raw = json.dumps(wanted, ensure_ascii=ascii_only).encode()
            out = splice(raw, 'target"/x')
            if out is not None:
                expected = {**wanted, "model": 'target"/x'}
                if wanted.get("stream"):
                    expected["stream_options"] = {**(wanted.get("stream_options") or {}), "include_usage": True}
                assert json.loads(out) == expected, row["id"]
                spliced += ascii_only
    assert spliced > 0.9 * total


def test_what_a_recorded_request_asks_is_the_same_without_decoding_it() -> None:
    told = total = 0
    for row in recorded():
        wanted = row["request"]["body"]
        if wanted is None or "model" not in wanted:
            continue
        total += 1
        raw = json.dumps(wanted).encode()
        found = DIALECT.peek(raw).asked()
        assert found is None or found == asked_of(DIALECT.parse_request(raw)), row["id"]
        told += found is not None
    assert 0.3 * total < told < total


def test_an_edited_request_asks_what_it_says_now() -> None:
    raw = body(messages=[{"role": "developer", "content": "Be \u00e9 short."}, *USER])
    request = Request(op="chat", dialect=DIALECT, body=raw, peek=DIALECT.peek(raw))
    assert request.asked() == Asked(("hello",), "Be \u00e9 short.", 2)
    edited = request.edited(messages=[Message(role="user", content=[Text(text="bye")])])
    assert edited.asked() == Asked(("bye",), "", 1)


def test_a_splice_keeps_the_bytes() -> None:
    raw = b'{ "messages" : [{"role":"user","content":"caf\\u00e9 \xc3\xa9"}],\n"model":"m" , "temperature":1.0}'
    assert splice(raw) == raw.replace(b'"m"', b'"new"')


@pytest.mark.parametrize(
    ("fields", "quirks", "options"),
    [
        ({"stream": True}, {}, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {}, {"include_usage": True}),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, {},
         {"include_usage": True, "include_obfuscation": False}),
        ({"stream": True}, {"stream_usage": "always"}, None),
        ({"stream": True}, {"stream_usage": "never"}, None),
        ({"stream": False}, {}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_usage_is_asked_for(fields: dict[str, Any], quirks: dict[str, Any], options: Any) -> None:
    out = splice(body(**fields), **quirks)
    assert out is not None
    assert json.loads(out).get("stream_options") == options


@pytest.mark.parametrize(
    ("raw", "quirks"),
    [
        (body(stream=True, stream_options={"include_usage": False}), {}),
        (body(stream=True, stream_options=None), {}),
        (body(stream=True, stream_options={}), {}),
        (body(tools=[{"type": "function", "function": {"name": "f", "parameters": {"model": {}}}}]), {}),
        (b'{"model":"a","model":"b","messages":[{"role":"user"}]}', {}),
        (rb'{"\u006dodel":"m","messages":[{"role":"user"}]}', {}),
        (body(headgate={"details": True}), {}),
        (body(max_completion_tokens=9), {"max_tokens_field": "max_tokens"}),
        (body(max_tokens=9), {"extra": {"rename_max_tokens": True}}),
    ],
)
def test_no_splice_where_something_must_change_or_bytes_cannot_tell(raw: bytes, quirks: dict[str, Any]) -> None:
    assert splice(raw, **quirks) is None


@given(st.text(), st.text(min_size=1), st.booleans())
def test_a_splice_is_what_rendering_would_be(content: str, model: str, stream: bool) -> None:
    fields = {"model": "m", "messages": [{"role": "user", "content": content}], "stream": stream}
    raw = json.dumps(fields, ensure_ascii=False).encode()
    out = splice(raw, model)
    rendered = DIALECT.render_request(DIALECT.parse_request(raw), model=model, quirks=Q).body
    if out is not None:
        assert json.loads(out) == json.loads(rendered)
