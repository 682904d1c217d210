"""The doors without a format of ours, by OpenAI's own SDK in front of a provider that notes what it was sent."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest

from support.canned import Provider
from support.corpus import rows
from support.gateway import Loop, RunningGateway

CONFIG = """
providers:
  near: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
  chatty: {kind: deepseek, base_url: "http://127.0.0.1:1/v1", api_key: sk-chatty}
models:
  house: {provider: near, upstream: near-one, cost_per_1k: 1.0}
  talker: {provider: chatty, upstream: deepseek-chat}
  chain: {fallback: [talker, house]}
  neighbour: {provider: near, upstream: near-two, cost_per_1k: 1.0}
  pair: {fallback: {order: [house, neighbour], retries: 0}}
"""
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


class Stage:
    def __init__(self, config: str = CONFIG) -> None:
        self.loop = Loop()
        self.provider = Provider()
        self.loop.run(self.provider.server.__aenter__())
        url = f"http://127.0.0.1:{self.provider.server.port}/v1"
        self.gateway = self.loop.call(lambda: RunningGateway(config, {"near": url, "chatty": url}, env={"X": "y"}))
        self.loop.run(self.gateway.start())
        self.client = openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key="sk-any", max_retries=0)

    def answer(self, path: str, body: Any, *, status: int = 200, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.provider.answers[path] = (status, kind, data)

    def last(self) -> tuple[str, str, dict[str, str], bytes]:
        return self.provider.seen[-1]

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """(status, JSON) of a plain request."""
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": kind} if data else {})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def raw(
        self, path: str, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        connection.request("POST", path, body, {"content-type": kind, **(headers or {})})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str | None, bytes]:
        """(status, content type, body)."""
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        found = answer.status, answer.getheader("content-type"), answer.read()
        connection.close()
        return found

    def cost(self) -> int | None:
        """Nano-US$ of the newest attempt."""
        return self.loop.call(lambda: list(self.gateway.ledger.outcomes.values())[-1].cost)

    def close(self) -> None:
        self.client.close()
        self.loop.run(self.gateway.stop())
        self.loop.run(self.provider.server.__aexit__())
        self.loop.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage()
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
        status, answer = stage.ask("POST", f"/v1{path}", FORM + FILE + b"--B--\r\n", "multipart/form-data; boundary=B")
    else:
        status, answer = stage.ask("POST", f"/v1{path}", asked)
    assert status == 502
    assert "answer is" in answer["error"]["message"]


def form(**fields: str) -> bytes:
    told = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    return told + FILE + b"--B--\r\n"


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
    assert stage.raw("/v1/audio/transcriptions", asked, "multipart/form-data; boundary=B") == (200, good)
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
        found = stage.raw("/v1/audio/transcriptions", asked, "multipart/form-data; boundary=B", details)
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
    told = stage.raw("/v1/audio/transcriptions", form(model="house"), "multipart/form-data; boundary=B", details)[1]
    assert json.loads(told)["text"] == "Mind the gate."
    assert json.loads(told)["headgate"]["strategy"] == "single"


def test_a_list_is_an_answer_too(stage):
    """As Hugging Face's server reranks."""
    stage.answer("/rerank", [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}])
    ask = {"model": "house", "query": "weir", "documents": ["cat", "dam"]}
    assert stage.ask("POST", "/v1/rerank", ask)[1][0]["index"] == 1


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
