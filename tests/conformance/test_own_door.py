"""Every recorded answer at the door of its own format: the bytes that the provider sent, but for the frames that the
contract changes (the usage frame that only exists because the gateway asked for it)."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance import grid
from conformance.corpus import STEP, chosen, provider_of
from conformance.extract import FORMATS, STREAMS, format_of, frames
from support.corpus import rows

EMBEDDINGS = ("openai.embeddings", "azure.embeddings", "mistral.embeddings", "voyage.embeddings", "local.embeddings")


def post(url: str, path: str, body: Any) -> tuple[int, bytes]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("fmt", FORMATS)
def test_own_door_gives_the_recorded_bytes(stage, fmt):
    found, wrong = grid.Own(fmt), list[str]()
    for row in chosen(fmt):
        if (why := set_aside(fmt, row)) is not None:
            grid.count(found.aside, [why])
            continue
        model = f"{provider_of(fmt, row)}/{stage.sim.replay.register(row, packets='random').model}"
        status, got = post(stage.url, *own_door(fmt, row, model))
        stage.sim.replay.forget(row["id"])
        want = wanted(fmt, row)
        equal = got == want
        if row["response"]["kind"] == "json_array":  # in the form that the gateway asks for: chunk by chunk the same
            equal = frames(got.decode()) == json.loads(want)
        if status == 200 and equal:
            found.same += 1
        else:
            wrong.append(f"{row['id']}: {status}, {len(got)} bytes instead of {len(want)}: …{got[-200:]!r}")
    assert found.same > 0
    assert not wrong, f"{len(wrong)} of {found.same + len(wrong)}:\n" + "\n".join(wrong[:10])
    if STEP == 1:
        grid.save(found)


def test_own_door_gives_the_recorded_embeddings(stage):
    """Numbers and base64 alike, as each client asked for them."""
    found, wrong = grid.Own("openai_embeddings"), list[str]()
    recorded = [row for row in rows() if row["api"] in EMBEDDINGS]
    for row in recorded[::STEP]:
        if row["response"]["status"] != 200 or not isinstance(row["request"]["body"], dict):
            grid.count(found.aside, ["errors, or without their request"])
            continue
        provider = "mistral" if row["api"].startswith("mistral") else "openai"
        model = f"{provider}/{stage.sim.replay.register(row).model}"
        status, got = post(stage.url, "/v1/embeddings", {**row["request"]["body"], "model": model})
        stage.sim.replay.forget(row["id"])
        if (status, got.decode()) == (200, row["response"]["body"]):
            found.same += 1
        else:
            wrong.append(f"{row['id']}: {status} {got[:200]!r}")
    assert found.same > 0
    assert not wrong, wrong[:10]
    if STEP == 1:
        grid.save(found)


def test_own_door_gives_the_recorded_counts(stage):
    """Also to a request that has to be written anew, since our own field is taken out of it."""
    seen = 0
    for row in rows():
        if row["api"] not in ("anthropic.count_tokens", "gemini.countTokens") or row["response"]["status"] != 200:
            continue
        key, body = stage.sim.replay.register(row).model, dict(row["request"]["body"])
        if row["api"] == "gemini.countTokens":
            path = f"/v1beta/models/google/{key}:countTokens"
        else:
            path, body["model"] = "/v1/messages/count_tokens", f"anthropic/{key}"
        for asked in (body, {**body, "headgate": {}}):
            assert post(stage.url, path, asked) == (200, row["response"]["body"].encode()), row["id"]
        if row["api"] == "anthropic.count_tokens":
            sent = json.loads(stage.sim.replay.recordings[row["id"]].received[-1].body)
            assert sent == {**row["request"]["body"], "model": key}
        stage.sim.replay.forget(row["id"])
        seen += 1
    assert seen == 19


def set_aside(fmt: str, row: dict[str, Any]) -> str | None:
    """Why an exchange has no answer to pass on unchanged; None where it has one."""
    answer = row["response"]
    if answer["status"] != 200:
        return "errors, told in the gateway's own words"
    if tells_an_error(fmt, answer["kind"], answer["body"]):
        return TOLD_WITH_200
    return None


TOLD_WITH_200 = "errors told with status 200"


def tells_an_error(fmt: str, kind: str, body: str) -> bool:
    whole = json.loads(body) if kind != "sse" else None
    chunks = frames(body) if kind == "sse" else whole if kind == "json_array" else [whole]
    nothing = fmt == "openai_chat" and kind == "json" and not chunks[0].get("choices")
    return nothing or any(chunk.get("error") for chunk in chunks)


def test_an_error_told_with_status_200_is_one(stage):
    """With a status of its own, since nothing has been sent yet."""
    seen = 0
    for fmt in FORMATS:
        recorded = (
            row for row in rows() if format_of(row["api"]) == fmt and row["response"]["kind"] in ("json", "sse")
        )
        for row in (row for row in recorded if set_aside(fmt, row) == TOLD_WITH_200):
            model = f"{provider_of(fmt, row)}/{stage.sim.replay.register(row).model}"
            status, got = post(stage.url, *own_door(fmt, row, model))
            stage.sim.replay.forget(row["id"])
            assert 400 <= status <= 502, row["id"]
            assert json.loads(got)["error"]["message"]
            seen += 1
    assert seen == 5


PLAIN: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "hello"}]},
    "openai_responses": {"input": "hello"},
    "anthropic_messages": {"max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
}


def recorded_request(fmt: str, row: dict[str, Any]) -> dict[str, Any]:
    """The request's body; a plain one where it was not recorded, or goes on with a state that only its provider has."""
    request = row["request"]["body"]
    if not isinstance(request, dict) or "previous_response_id" in request or "conversation" in request:
        return PLAIN[fmt]
    return request


def own_door(fmt: str, row: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
    """(path, body): the recorded request, addressed to its own recording."""
    stream = row["response"]["kind"] in STREAMS
    body = dict(recorded_request(fmt, row))
    if fmt == "gemini":
        body.pop("model", None)
        return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}", body
    body["model"] = model
    if stream:
        body["stream"] = True
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return {
        "openai_chat": "/v1/chat/completions",
        "openai_responses": "/v1/responses",
        "anthropic_messages": "/v1/messages",
    }[fmt], body


def wanted(fmt: str, row: dict[str, Any]) -> bytes:
    """The recording; of a chat stream whose client did not ask for usage, without the frame with empty choices."""
    body = row["response"]["body"].encode()
    asked = (recorded_request(fmt, row).get("stream_options") or {}).get("include_usage")
    if fmt != "openai_chat" or row["response"]["kind"] != "sse" or asked:
        return body
    return b"\n\n".join(frame for frame in body.split(b"\n\n") if not _usage_only(frame))


def _usage_only(frame: bytes) -> bool:
    data = frame.removeprefix(b"data: ")
    if not data.startswith(b"{"):
        return False
    chunk = json.loads(data)
    return bool(chunk.get("usage")) and chunk.get("choices") == []
