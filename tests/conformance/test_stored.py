"""What recordings hold beside conversations: responses that a client comes back for, and listings of models.

A response that is kept at its provider is begun at our door as it was recorded (queued, in the background) and then asked
for: the door gives the provider's bytes, OpenAI's SDK reads them, and what they cost is booked when the provider says
that it is done. What is recorded and not served (`/responses/compact`, `/responses/input_tokens`) is refused in OpenAI's
words. Listings are of our own names: they have the form of the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from conformance.extract import frames
from support.corpus import rows
from support.passthrough import Stage

CONFIG = """
providers:
  near: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
  chatty: {kind: deepseek, base_url: "http://127.0.0.1:1/v1", api_key: sk-chatty}
models:
  house: {provider: near, upstream: gpt-5, max_context: 400_000, price: {input: 1, output: 10}}
"""
GETS = [r for r in rows() if r["api"] == "openai.responses_get" and r["request"]["method"] == "GET"]
POSTS = [r for r in rows() if r["api"] == "openai.responses_get" and r["request"]["method"] == "POST"]
LISTINGS = {r["api"]: r for r in rows() if r["api"].endswith(".models") and r["request"]["path"].endswith("/models")}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage(CONFIG)
    yield found
    found.close()


def id_of(row: dict[str, Any]) -> str:
    return row["request"]["path"].partition("?")[0].rpartition("/")[2]


def beginning(id: str) -> tuple[dict[str, Any], bytes]:
    """The recorded request and queued answer that began a response, or such an answer where only its end was recorded."""
    for row in rows():
        if (row["api"], row["response"]["kind"]) == ("openai.responses", "json") and f'"{id}"' in (
            row["response"].get("body") or ""
        )[:200]:
            return row["request"]["body"], row["response"]["body"].encode()
    queued = {"id": id, "object": "response", "status": "queued", "background": True, "model": "gpt-5", "output": []}
    return {"input": "hello", "background": True}, json.dumps(queued).encode()


def test_the_recordings_are_these():
    assert (len(GETS), len(POSTS), len({id_of(row) for row in GETS})) == (9, 14, 7)
    assert LISTINGS.keys() == {"cerebras.models", "anthropic.models", "gemini.models"}


@pytest.mark.parametrize("id", sorted({id_of(row) for row in GETS}))
def test_a_stored_response_is_given_as_it_was_recorded(stage, id):
    request, queued = beginning(id)
    stage.answer("/responses", queued)
    status, begun = stage.raw("/v1/responses", json.dumps({**request, "model": "house", "stream": False}).encode())
    assert (status, begun) == (200, queued)
    for row in (row for row in GETS if id_of(row) == id):
        kind = "text/event-stream" if row["response"]["kind"] == "sse" else "application/json"
        body, query = row["response"]["body"].encode(), row["request"]["path"].partition("?")[2]
        stage.answer(f"/responses/{id}", body, kind=kind)
        assert stage.get(f"/v1/responses/{id}?{query}") == (200, kind, body)
        assert stage.last()[1] == f"/v1/responses/{id}?{query}"
        if kind == "text/event-stream":
            *_, last = list(stage.client.responses.retrieve(id, stream=True))
            assert last.type == frames(body.decode())[-1]["type"]
            continue
        told = json.loads(body)
        got = stage.client.responses.retrieve(id)
        assert (got.id, got.status) == (id, told["status"])
        assert len(got.output) == len(told["output"])
        if told["status"] == "completed":
            assert got.output_text == "".join(
                part["text"] for item in told["output"] if item["type"] == "message" for part in item["content"]
            )
            usage = told["usage"]
            assert stage.cost() == (usage["input_tokens"] + 10 * usage["output_tokens"]) * 1000


def test_a_response_that_nobody_began_here_does_not_exist(stage):
    before = len(stage.provider.seen)
    with pytest.raises(openai.NotFoundError, match="no such response"):
        stage.client.responses.retrieve("resp_of_somebody_else")
    assert len(stage.provider.seen) == before


@pytest.mark.parametrize("row", POSTS, ids=lambda row: row["id"])
def test_what_is_not_served_is_refused_in_openais_words(stage, row):
    before = len(stage.provider.seen)
    path = row["request"]["path"]
    status, answer = stage.ask("POST", path, {**(row["request"]["body"] or {}), "model": "house"})
    assert status == 404, answer
    assert path in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert len(stage.provider.seen) == before


def test_our_listings_have_the_form_of_the_recorded_ones(stage):
    """What every recorded entry has, ours have; what pages of entries are wrapped in, too."""
    asked = {
        "cerebras.models": ("/v1/models", {}),
        "anthropic.models": ("/v1/models", {"anthropic-version": "2023-06-01"}),
        "gemini.models": ("/v1beta/models", {}),
    }
    for api, (path, headers) in asked.items():
        recorded = json.loads(LISTINGS[api]["response"]["body"])
        _, _, body = stage.get(path, headers)
        ours = json.loads(body)
        entries = "models" if api == "gemini.models" else "data"
        common = set.intersection(*(set(entry) for entry in recorded[entries])) - ONLY_THEIRS.get(api, set())
        assert ours[entries]
        for entry in ours[entries]:
            assert common <= entry.keys(), (api, common - entry.keys())
            for name in common:
                assert type(entry[name]) is type(recorded[entries][0][name]), (api, name)
        assert recorded.keys() - {"nextPageToken"} <= ours.keys()


ONLY_THEIRS = {
    # what a provider says of its models that nobody can say of a name that may stand for several
    "anthropic.models": {"capabilities", "max_tokens"},
    "gemini.models": {"description", "temperature", "topP", "topK", "maxTemperature", "outputTokenLimit", "thinking"},
}


def test_the_sdks_list_our_names_and_no_providers(stage):
    assert [model.id for model in stage.client.models.list()] == ["house"]
    client = anthropic.Anthropic(base_url=stage.gateway.url, api_key="any", max_retries=0)
    assert [model.id for model in client.models.list()] == ["house"]
    with pytest.raises(openai.NotFoundError):
        stage.client.models.retrieve("command-r")
