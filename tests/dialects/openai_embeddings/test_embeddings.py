import base64
import json
import struct
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from headgate.core.chat import ChatRequest
from headgate.core.dialect import Dialect, Quirks, View
from headgate.core.errors import InvalidRequest, UnsupportedFeature, fault
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects.openai_embeddings import DIALECT
from support.corpus import select

Q = Quirks()
APIS = ("openai.embeddings", "azure.embeddings", "mistral.embeddings", "voyage.embeddings", "local.embeddings")


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hello", **fields}).encode()


def spliced(raw: bytes, model: str = "new") -> dict[str, Any]:
    out = DIALECT.splice(raw, DIALECT.peek(raw), model=model, quirks=Q)
    assert out is not None
    return json.loads(out)


def test_it_is_a_dialect() -> None:
    dialect: Dialect = DIALECT
    assert (dialect.name, dialect.path("embeddings", model="m", stream=False)) == ("openai_embeddings", "/embeddings")


def test_every_recorded_request_passes_with_the_model_replaced() -> None:
    seen = 0
    for row in select(*APIS):
        wanted = row["request"]["body"]
        if wanted is None:
            continue
        seen += 1
        raw = json.dumps(wanted).encode()
        peek = DIALECT.peek(raw)
        assert (peek.model, peek.stream, peek.spliceable, peek.needs) == (wanted["model"], False, True, {"embeddings"})
        assert peek.input_bound > 0
        assert spliced(raw) == {**wanted, "model": "new"}, row["id"]
    assert seen > 75


def test_every_recorded_answer_is_accounted() -> None:
    seen = 0
    for row in select(*APIS, ok=True):
        raw = row["response"]["body"].encode()
        facts = DIALECT.inspect_answer(raw, Q)
        wire = json.loads(raw)
        expected = wire["usage"].get("prompt_tokens", wire["usage"]["total_tokens"])
        assert (facts.error, facts.finish, facts.terminal) == (None, "stop", True)
        assert facts.usage == Usage(input=expected), row["id"]
        assert facts.model == wire["model"]
        seen += 1
    assert seen > 75


def test_every_recorded_error_is_classified() -> None:
    kinds = {
        DIALECT.parse_error(row["response"]["status"], {}, row["response"]["body"].encode()).kind
        for row in select(*APIS, ok=False)
    }
    assert kinds == {"not_found", "auth"}


BAD: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"[]", None),
    (b'{"model":"m","input":"a"', None),
    (b"\xef\xbb\xbf" + body(), None),
    (b'{"model":"m","input":"\xff"}', None),
    (rb'{"model":"m","input":"\ud800"}', None),
    (b'{"model":"m","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    (b'{"model":"m"}', "input"),
    (b'{"input":"a"}', "model"),
    (body(model=3), "model"),
    (body(input=None), "input"),
    (body(input=7), "input"),
    (body(input={"a": 1}), "input"),
    (body(input=[]), "input"),
    (body(input=[None]), "input"),
    (body(input=["a", 1]), "input"),
    (body(input=["a"] * 20_001), "input"),
    (body(dimensions=0), "dimensions"),
    (body(dimensions=10**12), "dimensions"),
    (body(dimensions="many"), "dimensions"),
    (body(encoding_format=1), "encoding_format"),
    (body(stream="true"), "stream"),
    (body(api_base="http://evil"), "api_base"),
    (body(extra_headers={}), "extra_headers"),
]


@pytest.mark.parametrize(("raw", "param"), BAD)
def test_bad_bodies_are_refused(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(raw)
    if param is not None:
        assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "at_least", "at_most"),
    [
        ("word " * 300, 500, 600),
        (["word " * 300] * 2, 1000, 1100),
        ([1, 2, 3], 3, 3),
        ([[1, 2, 3], [4]], 4, 5),
        ([{"type": "text", "text": "hello"}], 1, 100),
    ],
)
def test_the_bound(given: Any, at_least: int, at_most: int) -> None:
    assert at_least <= DIALECT.peek(body(input=given)).input_bound <= at_most


def test_a_splice_keeps_the_bytes_where_it_can_and_decodes_where_it_must() -> None:
    raw = b'{ "input":["a"],"model" : "m","encoding_format":"base64"}'
    assert DIALECT.splice(raw, DIALECT.peek(raw), model="new", quirks=Q) == raw.replace(b'"m"', b'"new"')
    assert spliced(body(headgate={"details": True})) == {"model": "new", "input": "hello"}
    assert spliced(b'{"model":"a","model":"b","input":"x"}') == {"model": "new", "input": "x"}
    assert spliced(body(x={"model": "m"})) == {"model": "new", "input": "hello", "x": {"model": "m"}}


def test_both_forms_of_vectors_pass_untouched_with_details() -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode()
    for embedding in ([0.5, -0.25], packed):
        wire = {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
            "model": "m",
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        raw = json.dumps(wire).encode()
        assert DIALECT.inspect_answer(raw, Q).usage == Usage(input=1)
        out = json.loads(DIALECT.attach(raw, {"cost_usd": "0"}))
        assert out == {**wire, "headgate": {"cost_usd": "0"}}
        assert CreateEmbeddingResponse.construct(**out).usage.prompt_tokens == 1


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"error":{"message":"Rate limit","code":429}}', "rate_limit"),
        (b'{"data":[]}', "invalid_answer"),
        (b"{}", "invalid_answer"),
        (b"[]", "invalid_answer"),
        (b"<html>", "invalid_answer"),
        (b'{"data":[{"emb', "invalid_answer"),
    ],
)
def test_what_is_no_answer_is_a_fault(raw: bytes, kind: str) -> None:
    error = DIALECT.inspect_answer(raw, Q).error
    assert error is not None
    assert error.kind == kind


def test_odd_types_are_read() -> None:
    facts = DIALECT.inspect_answer(
        b'\n{"id":1,"data":[{"embedding":[1]}],"usage":{"prompt_tokens":null,"total_tokens":3}}', Q
    )
    assert (facts.error, facts.usage) == (None, Usage(input=3))


def test_errors_are_told_in_the_formats_words() -> None:
    error = json.loads(DIALECT.render_error(fault("not_found", "no such model"), "r"))["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "model_not_found")


def test_there_is_no_conversation_in_it() -> None:
    request = ChatRequest(model="m", messages=[])
    for ask in (
        lambda: DIALECT.parse_request(body()),
        lambda: DIALECT.render_request(request, model="m", quirks=Q),
        lambda: DIALECT.parse_answer(b"{}", Q),
        lambda: DIALECT.render_answer(ChatAnswer(), View()),
        lambda: DIALECT.event_parser(Q),
        lambda: DIALECT.event_renderer(View()),
        lambda: DIALECT.inspect_frame(b"data: {}\n\n", Q),
        lambda: DIALECT.attach_frame(b"", {}),
    ):
        with pytest.raises(UnsupportedFeature):
            ask()
