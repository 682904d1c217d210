"""Every door of the contract, by the official SDKs where there is one: the shapes of models, stored responses, token
counts, both spellings of each path, operations."""

from __future__ import annotations

import http.client
import json
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as google_types

from server.test_bad_inputs import DOORS, GOOD

ENTRIES = {"claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4", "reliable", "auto", "careful", "agent"}


@pytest.fixture(scope="module")
def client(stage):
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def claude(stage):
    with anthropic.Anthropic(base_url=stage.url, api_key="any", max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def google(stage):
    return genai.Client(api_key="any", http_options=google_types.HttpOptions(base_url=stage.url))


def ask(stage: Any, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(stage.url.removeprefix("http://"), timeout=20)
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def test_models_in_openais_shape(client):
    listed = {model.id: model for model in client.models.list()}
    assert listed.keys() >= ENTRIES
    assert all(model.object == "model" and model.owned_by for model in listed.values())
    assert client.models.retrieve("reliable").id == "reliable"
    assert client.models.retrieve("openai/gpt-5.5").id == "openai/gpt-5.5"  # direct addressing, with its slash
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_models_in_anthropics_shape(claude):
    listed = list(claude.models.list(limit=1000))
    assert {model.id for model in listed} >= ENTRIES
    assert all(model.type == "model" and model.display_name for model in listed)
    assert claude.models.retrieve("claude-4.7").display_name == "Claude 4.7"
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("nobody")


def test_models_in_googles_shape(google):
    assert {str(model.name).removeprefix("models/") for model in google.models.list()} >= ENTRIES
    assert google.models.get(model="gemini-3.0").name == "models/gemini-3.0"


@pytest.mark.parametrize("model", ["claude-4.7", "gpt-5.5", "auto"])
def test_tokens_are_counted_or_bounded(claude, google, model):
    messages: Any = [{"role": "user", "content": "How many tokens is this sentence?"}]
    counted = claude.messages.with_raw_response.count_tokens(model=model, messages=messages)
    assert 5 <= counted.parse().input_tokens < 100
    if model == "gpt-5.5":
        assert counted.headers["x-headgate-lossy"] == "count_is_an_upper_bound"
    total = google.models.count_tokens(model=model, contents="How many tokens is this sentence?").total_tokens
    assert total is not None
    assert 5 <= total < 100


def test_a_stored_response_is_read_and_deleted_where_it_is_kept(client):
    made = client.responses.create(model="gpt-5.5", input="What is 12*12?", store=True)
    assert client.responses.retrieve(made.id).id == made.id
    followed = client.responses.create(model="gpt-5.5", input="And plus one?", previous_response_id=made.id)
    assert "[simulated]" in followed.output_text
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_of_nobody")
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_of_nobody")


@pytest.mark.parametrize("path", [path for path in DOORS if path.startswith("/v1/")] + ["/v1/chat/completions"])
def test_both_spellings_of_a_door_are_one(stage, path):
    body = DOORS.get(path, GOOD)
    with_v1, without = ask(stage, "POST", path, body), ask(stage, "POST", path.removeprefix("/v1"), body)
    assert with_v1[0] == without[0]
    assert with_v1[0] != 404 or b"no such" in with_v1[2], with_v1[2]


def test_explain_calls_nobody(stage):
    before = stage.calls()
    status, _, body = ask(stage, "POST", "/v1/explain", {**GOOD, "model": "auto"})
    found = json.loads(body)
    assert (status, stage.calls()) == (200, before)
    assert found["chosen"]["model"] in ENTRIES
    assert found["predicted"].keys() >= {"cost_usd", "latency_ms"}
    assert "attempts" not in found


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/metrics", "/openapi.json"])
def test_operations(stage, path):
    status, headers, body = ask(stage, "GET", path)
    assert status == 200
    assert body or path == "/metrics"  # this stage has no telemetry: e2e/test_serve looks at a whole process
    assert ask(stage, "HEAD", path)[0] == 200
    assert ask(stage, "POST", path, {})[0] == 405
    assert ("json" in headers["content-type"]) == (path != "/metrics")


def test_every_door_of_the_openapi_is_there(stage):
    """No path that it names is nobody's: 404 may only speak of the object that was asked for."""
    document = json.loads(ask(stage, "GET", "/openapi.json")[2])
    for path, methods in document["paths"].items():
        named = path.replace("{id}", "xyz").replace("{model}", "gpt-5.5")
        for method in methods:
            if method in ("get", "post", "delete"):
                _, _, body = ask(stage, method.upper(), named, {} if method == "post" else None)
                assert b"nothing at this path" not in body, (method, path)
