"""What counts as an answer at the doors that pass bytes through: what a provider gives with status 200 may be a page, half
a body, nothing at all or an error; and sound and words may begin with anything."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.passthrough import FORM, Stage, form

CONFIG = """
providers:
  near: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
  chatty: {kind: deepseek, base_url: "http://127.0.0.1:1/v1", api_key: sk-chatty}
models:
  house: {provider: near, upstream: near-one, cost_per_1k: 1.0}
  neighbour: {provider: near, upstream: near-two, cost_per_1k: 1.0}
  pair: {fallback: {order: [house, neighbour], retries: 0}}
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage(CONFIG)
    yield found
    found.close()


PAGE = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images/generations", b"\n"),
        ("/images/generations", b"{}"),
        ("/moderations", b" {\n} "),
        ("/rerank", b"null"),
        ("/audio/speech", b"{}"),
        ("/audio/transcriptions", b"{}"),
        ("/audio/speech", b""),
        ("/audio/speech", b"\r\n"),
        ("/audio/transcriptions", b""),
        ("/audio/transcriptions", b"\n"),
        ("/audio/transcriptions", b"Mind the gate."),
        ("/images/generations", PAGE),
        ("/images/generations", b'{"created": 1, "data": [{"b64_json": "aGk'),
        ("/images/generations", b""),
        ("/moderations", PAGE),
        ("/rerank", b'{"results": ['),
        ("/audio/speech", PAGE),
        ("/audio/transcriptions", b'{"text": "Mind the'),
    ],
)
def test_10_a_page_or_half_a_body_with_status_200_is_no_answer(stage, path, body):
    stage.answer(path, body, kind="text/html" if body == PAGE else "application/json")
    asked = {"model": "house", "input": "x", "prompt": "x", "query": "x", "documents": ["y"], "voice": "alloy"}
    if path.endswith("transcriptions"):
        status, answer = stage.ask("POST", f"/v1{path}", form(model="house"), FORM)
    else:
        status, answer = stage.ask("POST", f"/v1{path}", asked)
    assert status == 502
    assert "answer is" in answer["error"]["message"]


FAILURE = json.dumps({"error": {"message": "we are overloaded", "type": "server_error"}}).encode()
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("form_of", ["json", "text", "srt"])
@pytest.mark.parametrize("body", [FAILURE, BOM + FAILURE, BOM + PAGE, b"", BOM])
def test_no_answer_where_text_was_asked_for_and_a_chain_goes_on(stage, form_of, body):
    """Whatever form was asked for, an error told with status 200 is one, behind a byte order mark too."""
    good = b'{"text": "Mind the gate."}' if form_of == "json" else b"1\nMind the gate.\n"
    stage.provider.once["/audio/transcriptions"] = [(200, "text/plain", body)]
    stage.answer("/audio/transcriptions", good, kind="text/plain")
    before = len(stage.provider.seen)
    asked = form(model="pair", response_format=form_of)
    assert stage.raw("/v1/audio/transcriptions", asked, FORM) == (200, good)
    assert len(stage.provider.seen) == before + 2


@pytest.mark.parametrize("body", [FAILURE, BOM + FAILURE, b"", BOM + PAGE])
def test_no_sound_is_no_answer_and_a_chain_goes_on(stage, body):
    stage.provider.once["/audio/speech"] = [(200, "audio/mpeg", body)]
    stage.answer("/audio/speech", b"ID3\x00", kind="audio/mpeg")
    before = len(stage.provider.seen)
    asked = json.dumps({"model": "pair", "voice": "alloy", "input": "Mind the gate."}).encode()
    assert stage.raw("/v1/audio/speech", asked) == (200, b"ID3\x00")
    assert len(stage.provider.seen) == before + 2


@pytest.mark.parametrize(
    "said",
    [
        b'{"Mind the gate", she said.',
        b'{"name": "weir"} is what it says, {"and": so on}',
        b'{"text": "Mind the',
        b'{"error": is how it begins',
        b"\n",
        BOM + b"1\n00:00:00,000 --> 00:00:01,000\nMind the gate.\n",
    ],
)
def test_a_transcript_may_begin_with_any_words(stage, said):
    """Nothing of it is JSON, and details are not written into it."""
    stage.answer("/audio/transcriptions", said, kind="text/plain")
    for details in ({}, {"x-headgate-details": "true"}):
        asked = form(model="house", response_format="text")
        found = stage.raw("/v1/audio/transcriptions", asked, FORM, details)
        assert found == (200, said)


def test_details_are_written_into_no_sound(stage):
    """That it begins and ends with a brace makes no JSON of it; of JSON, they are one more field."""
    sound = b'{"' + bytes(range(256)) * 20 + b"}"
    asked = json.dumps({"model": "house", "voice": "alloy", "input": "Mind it.", "response_format": "pcm"}).encode()
    details = {"x-headgate-details": "true"}
    for body in (sound, b"{" + sound, b"{}}"):
        stage.answer("/audio/speech", body, kind="audio/pcm")
        assert stage.raw("/v1/audio/speech", asked, headers=details) == (200, body)
    stage.answer("/audio/transcriptions", {"text": "Mind the gate."})
    told = stage.raw("/v1/audio/transcriptions", form(model="house"), FORM, details)[1]
    assert json.loads(told)["text"] == "Mind the gate."
    assert json.loads(told)["headgate"]["strategy"] == "single"


def test_a_list_is_an_answer_too(stage):
    """As Hugging Face's server reranks."""
    stage.answer("/rerank", [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}])
    ask = {"model": "house", "query": "weir", "documents": ["cat", "dam"]}
    assert stage.ask("POST", "/v1/rerank", ask)[1][0]["index"] == 1
