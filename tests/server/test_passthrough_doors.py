"""The doors without a format of ours, by OpenAI's own SDK in front of a provider that notes what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import openai
import pytest

from support.corpus import rows
from support.passthrough import Stage

CONFIG = """
providers:
  near: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
  chatty: {kind: deepseek, base_url: "http://127.0.0.1:1/v1", api_key: sk-chatty}
models:
  house: {provider: near, upstream: near-one, cost_per_1k: 1.0}
  talker: {provider: chatty, upstream: deepseek-chat}
  chain: {fallback: [talker, house]}
"""
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage(CONFIG)
    yield found
    found.close()


def test_completions_carry_the_upstreams_model_and_are_paid_by_their_usage(stage):
    choice = {"index": 0, "text": " world", "finish_reason": "stop"}
    whole = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "near-one", "choices": [choice]}
    stage.answer("/completions", {**whole, "usage": USAGE})
    answer = stage.client.completions.with_raw_response.create(model="house", prompt="hello", max_tokens=9)
    assert answer.parse().choices[0].text == " world"
    assert answer.headers["x-headgate-model"] == "house"
    assert json.loads(stage.last()[3]) == {"model": "near-one", "prompt": "hello", "max_tokens": 9}
    assert stage.cost() == 12 * 1_000_000


RECORDED = [r for r in rows() if r["api"].endswith(".completions")]


def test_recorded_completions_arrive_as_they_were_and_are_paid_by_their_usage(stage):
    seen = 0
    for row in RECORDED:
        if row["response"]["kind"] != "json":
            continue
        body = row["response"]["body"].encode()
        stage.answer("/completions", body)
        asked = {**(row["request"]["body"] or {"prompt": "x"}), "model": "house"}
        asked.pop("stream", None)
        assert stage.raw("/v1/completions", json.dumps(asked).encode()) == (200, body), row["id"]
        assert json.loads(stage.last()[3]) == {**asked, "model": "near-one"}
        if usage := json.loads(body).get("usage"):
            paid = usage["prompt_tokens"] + (usage.get("completion_tokens") or 0)
            assert stage.cost() == paid * 1_000_000, row["id"]
        seen += 1
    assert seen == 41


STREAMS = [row for row in RECORDED if row["response"]["kind"] == "sse" and row["provider"] != "writer"]
"""Writer streams in a form of its own."""


@pytest.mark.parametrize("row", STREAMS, ids=lambda row: row["id"])
def test_recorded_completion_streams_arrive_as_they_were(stage, row):
    stage.answer("/completions", row["response"]["body"].encode(), kind="text/event-stream")
    asked = {"prompt": "x", "stream_options": {"include_usage": True}}
    chunks = list(stage.client.completions.create(model="house", stream=True, **asked))
    recorded = [json.loads(line[5:]) for line in row["response"]["body"].splitlines() if line.startswith("data: {")]
    assert [[c.text for c in chunk.choices] for chunk in chunks] == [
        [c.get("text") for c in r["choices"]] for r in recorded
    ]
    usages = [r["usage"] for r in recorded if r.get("usage")]
    if usages:
        assert stage.cost() == (usages[-1]["prompt_tokens"] + usages[-1]["completion_tokens"]) * 1_000_000


def test_details_come_before_a_completion_streams_end(stage):
    frame = (
        b'data: {"id":"c","choices":[{"index":0,"text":"Hi","finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
    )
    stage.answer("/completions", frame + b"data: [DONE]\n\n", kind="text/event-stream")
    asked = {"extra_headers": {"x-headgate-details": "true"}}
    chunks = list(stage.client.completions.create(model="house", prompt="x", stream=True, **asked))
    assert chunks[-1].headgate["strategy"] == "single"
    assert chunks[-1].headgate["cost_usd"] == "0.001000"


def test_a_completion_stream_that_breaks_off_ends_with_an_error(stage):
    body = b'data: {"id":"c","choices":[{"index":0,"text":"Once","finish_reason":null}]}\n\n'
    stage.answer("/completions", body, kind="text/event-stream")
    said: list[str] = []
    with pytest.raises(openai.APIError):
        for chunk in stage.client.completions.create(model="house", prompt="x", stream=True):
            said += [choice.text for choice in chunk.choices]
    assert said == ["Once"]


def test_moderations_have_a_default_model_of_openais(stage):
    with pytest.raises(openai.NotFoundError):
        stage.client.moderations.create(input="I like weirs")
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    stage.answer("/moderations", {"id": "modr-1", "model": "m", "results": [result]})
    assert stage.client.moderations.create(model="house", input="I like weirs").results[0].flagged is False


def test_images_are_made_and_edited(stage):
    usage = {"input_tokens": 10, "output_tokens": 90, "total_tokens": 100}
    stage.answer("/images/generations", {"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage})
    made = stage.client.images.generate(model="house", prompt="a weir", n=1)
    assert made.data[0].b64_json == "aGk="
    assert stage.cost() == 100 * 1_000_000
    stage.answer("/images/edits", {"created": 1, "data": [{"b64_json": "eW8="}]})
    picture = b"\x89PNG\r\n--not a boundary\r\n" + bytes(range(256)) * 40
    edited = stage.client.images.edit(model="house", image=("weir.png", picture, "image/png"), prompt="more water")
    assert edited.data[0].b64_json == "eW8="
    _, path, headers, body = stage.last()
    assert path == "/v1/images/edits"
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert headers["authorization"] == "Bearer sk-near"
    assert picture in body
    assert b'name="model"\r\n\r\nnear-one\r\n' in body
    with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
        stage.client.images.generate(model="house", prompt="a weir", stream=True)


def test_speech_and_transcriptions_keep_their_form(stage):
    sound = b"ID3" + bytes(range(256)) * 30
    stage.answer("/audio/speech", sound, kind="audio/mpeg")
    spoken = stage.client.audio.speech.create(model="house", voice="alloy", input="Mind the gate.")
    assert spoken.content == sound
    assert spoken.response.headers["content-type"] == "audio/mpeg"
    bare = b"{\x01" + sound  # samples without a header may begin with any byte
    stage.answer("/audio/speech", bare, kind="audio/pcm")
    spoken = stage.client.audio.speech.create(model="house", voice="alloy", input="Mind it.", response_format="pcm")
    assert spoken.content == bare
    stage.answer("/audio/transcriptions", b"1\n00:00:00,000 --> 00:00:01,000\nMind the gate.\n", kind="text/plain")
    heard = stage.client.audio.transcriptions.create(model="house", file=("a.mp3", sound), response_format="srt")
    assert "Mind the gate." in heard
    assert sound in stage.last()[3]
    stage.answer("/audio/translations", {"text": "Mind the gate."})
    assert stage.client.audio.translations.create(model="house", file=("a.mp3", sound)).text == "Mind the gate."


def test_rerank_and_its_neighbour_without_v1(stage):
    stage.answer(
        "/rerank", {"id": "r1", "results": [{"index": 1, "relevance_score": 0.9}], "usage": {"total_tokens": 8}}
    )
    ask = {"model": "house", "query": "weir", "documents": ["cat", "dam"]}
    for path in ("/v1/rerank", "/rerank"):
        assert stage.ask("POST", path, ask)[1]["results"][0]["index"] == 1
        assert stage.cost() == 8 * 1_000_000


def test_a_provider_without_the_door_says_so_and_a_chain_goes_on(stage):
    before = len(stage.provider.seen)
    status, answer = stage.ask("POST", "/v1/moderations", {"model": "talker", "input": "x"})
    assert status == 400
    assert "does not offer moderations" in answer["error"]["message"]
    assert len(stage.provider.seen) == before
    stage.answer("/moderations", {"id": "modr-1", "model": "m", "results": []})
    assert stage.ask("POST", "/v1/moderations", {"model": "chain", "input": "x"})[0] == 200


def test_an_upstreams_error_is_told_in_the_doors_words(stage):
    stage.answer("/moderations", {"error": {"message": "no such input", "type": "invalid_request_error"}}, status=400)
    with pytest.raises(openai.BadRequestError, match="no such input"):
        stage.client.moderations.create(model="house", input="x")


def test_files_and_batches_live_at_the_one_provider_that_has_them(stage):
    made = {"id": "file-1", "object": "file", "bytes": 3, "created_at": 1, "filename": "a.jsonl", "purpose": "batch",
            "status": "processed"}  # fmt: skip
    stage.answer("/files", made)
    assert stage.client.files.create(file=("a.jsonl", b"{}\n"), purpose="batch").id == "file-1"
    assert b'filename="a.jsonl"' in stage.last()[3]
    stage.answer("/files", {"object": "list", "data": [made], "has_more": False})
    assert [file.id for file in stage.client.files.list()] == ["file-1"]
    stage.answer("/files/file-1/content", b'{"custom_id": "1"}\n', kind="application/octet-stream")
    assert stage.client.files.content("file-1").content == b'{"custom_id": "1"}\n'
    batch = {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-1",
             "completion_window": "24h", "status": "validating", "created_at": 1}  # fmt: skip
    stage.answer("/batches", batch)
    found = stage.client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert found.id == "batch_1"
    assert stage.loop.call(lambda: stage.gateway.ledger.requests[-1].cost) is None  # its provider alone knows
    stage.answer("/batches/batch_1/cancel", {**batch, "status": "cancelling"})
    assert stage.client.batches.cancel("batch_1").status == "cancelling"
    assert stage.last()[0] == "POST"
    stage.answer("/files/file-1", {"id": "file-1", "object": "file", "deleted": True})
    assert stage.client.files.delete("file-1").deleted
    assert stage.ask("PUT", "/v1/files/file-1")[0] == 405
    assert stage.ask("GET", "/v1/files?provider=chatty")[0] == 404
    assert stage.ask("POST", "/v1/batches", {"endpoint": "x"})[1]["error"]["param"] == "input_file_id"


FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nhouse\r\n'
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx\r\n'


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"-" * 10_000 + b"\r\n" + FORM, "boundary"),
        (FORM * 10_000 + b"--B--\r\n", "more than 100 parts"),
        (FORM + FILE, "final boundary"),
        (FORM + FORM + b"--B--\r\n", "two model fields"),
        (FILE + b"--B--\r\n", "provide a model"),
        (b"--B\r\nno name here\r\n\r\nx\r\n--B--\r\n", "no name"),
        (b"--B\r\nContent-Disposition: form-data; name=" + b"x" * 9000, "headers"),
        (b"--B\r\n\r\n" + b"\r\n-" * 400_000, "final boundary"),
        (FORM + b'--B\r\nContent-Disposition: form-data; name="base_url"\r\n\r\nhttp://x\r\n--B--\r\n', "base_url"),
    ],
    ids=[
        "long boundary",
        "10,000 parts",
        "no end",
        "two models",
        "no model",
        "no name",
        "long head",
        "near misses",
        "theft",
    ],
)
def test_45_bad_forms_are_400_without_an_upstream_call(stage, body, why):
    before = len(stage.provider.seen)
    status, answer = stage.ask("POST", "/v1/audio/transcriptions", body, "multipart/form-data; boundary=B")
    assert status == 400, answer
    assert why in answer["error"]["message"]
    assert len(stage.provider.seen) == before


def test_another_keys_files_do_not_exist(stage):
    """The plane is open in these tests: the rule is asked of the route itself."""
    from headgate.core.errors import NotFound
    from headgate.core.principal import Principal
    from headgate.server.http import Request
    from headgate.server.routes.files import _home

    class Closed:
        open = False

    plane = stage.gateway.plane
    open_governor, plane.house.governor = plane.house.governor, Closed()
    try:
        request = Request("GET", "/v1/files/file-1", "", {}, [])
        with pytest.raises(NotFound):
            asyncio.run(_home(plane, request, Principal(key_id="another"), "files", "file-1"))
    finally:
        plane.house.governor = open_governor
