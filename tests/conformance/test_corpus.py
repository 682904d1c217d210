"""Every recorded exchange through the running gateway: unchanged at its own door, understood at every other.

`make test` takes every STEP-th row; `make conformance` (marker slow) takes them all and writes the table of what a door
cannot express.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from conformance.clients import Doors
from conformance.extract import FORMATS, Said, format_of, said
from support.corpus import rows

STEP = 1 if os.environ.get("HEADGATE_CONFORMANCE") == "all" else 29
PROVIDER = {"anthropic_messages": "anthropic", "gemini": "google"}
BY_API = {"mistral": "mistral", "groq": "groq", "deepseek": "deepseek", "xai": "xai", "openrouter": "openrouter"}


def provider_of(fmt: str, row: dict[str, Any], door: str | None = None) -> str:
    """The recording's provider; where a door's format is also OpenAI's own, a vendor that has only the recording's."""
    if fmt in PROVIDER:
        return PROVIDER[fmt]
    if fmt == "openai_responses":
        return "only-responses"
    found = BY_API.get(row["api"].partition(".")[0], "openai")
    return "only-chat" if door == "openai_responses" and found == "openai" else found


def chosen(fmt: str) -> list[dict[str, Any]]:
    found = [r for r in rows() if format_of(r["api"]) == fmt and r["response"]["kind"] in ("json", "sse")]
    return found[::STEP]


def post(url: str, path: str, body: Any) -> tuple[int, bytes, dict[str, str]]:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    connection.close()
    return found


def own_door(fmt: str, row: dict[str, Any], model: str) -> tuple[str, dict[str, Any]]:
    """(path, body): the recorded request, addressed to its own recording."""
    stream = row["response"]["kind"] == "sse"
    body = dict(row["request"]["body"])
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


def without_usage_frame(body: bytes) -> bytes:
    """The extra frame with empty choices that only exists because the gateway asked for usage."""
    kept = []
    for frame in body.split(b"\n\n"):
        data = frame.removeprefix(b"data: ")
        if data.startswith(b"{"):
            chunk = json.loads(data)
            if chunk.get("usage") and chunk.get("choices") == []:
                continue
        kept.append(frame)
    return b"\n\n".join(kept)


@pytest.mark.parametrize("fmt", FORMATS)
def test_own_door_gives_the_recorded_bytes(stage, fmt):
    seen = 0
    wrong: list[str] = []
    for row in chosen(fmt):
        request = row["request"]["body"]
        if not isinstance(request, dict) or row["response"]["status"] != 200:
            continue
        if "previous_response_id" in request or "conversation" in request:
            continue  # state that lives at the recording's provider
        recorded = (row["response"]["body"] or "").encode()
        if said(fmt, row["response"]["kind"], recorded.decode()) is None and b'"choices"' not in recorded:
            continue  # an error told with status 200, or a cut stream: never passed on as an answer
        model = f"{provider_of(fmt, row)}/{stage.sim.replay.register(row).model}"
        path, body = own_door(fmt, row, model)
        status, got, _ = post(stage.url, path, body)
        stage.sim.replay.forget(row["id"])
        if status != 200:
            error = json.loads(got)
            if (status in (400, 502, 503) and b'"error"' in recorded[:2000]) or _cut(fmt, row):
                continue
            wrong.append(f"{row['id']}: {status} {str(error)[:200]}")
            continue
        seen += 1
        asked = (request.get("stream_options") or {}).get("include_usage") if fmt == "openai_chat" else True
        want = recorded if asked or row["response"]["kind"] != "sse" else without_usage_frame(recorded)
        if got.strip() != want.strip() and not _cut(fmt, row):
            wrong.append(f"{row['id']}: {len(got)} bytes instead of {len(want)}: {got[-200:]!r} != {want[-200:]!r}")
    assert seen > 0
    assert not wrong, f"{len(wrong)} of {seen + len(wrong)}:\n" + "\n".join(wrong[:10])


def _cut(fmt: str, row: dict[str, Any]) -> bool:
    """A stream that was recorded without its end: the gateway adds an error to it."""
    return row["response"]["kind"] == "sse" and said(fmt, "sse", row["response"]["body"]) is None


CANNOT = {
    # (door, what): why the door's format cannot say it
    ("gemini", "refusal"): "no refusal finish: a refusal is text with STOP",
    ("gemini", "pause"): "no pause: STOP",
    ("openai_chat", "pause"): "no pause: stop",
    ("openai_responses", "pause"): "no pause: completed",
    ("openai_chat", "refusal"): "a refusal is a field of the message, finish stop",
    ("openai_responses", "refusal"): "a refusal is a content part, status completed",
    ("anthropic_messages", "filter"): "no content filter: refusal",
}


def same(want: Said, got: Said, door: str) -> str | None:
    """What differs; None where nothing that the door's format can say does."""
    if want.text != got.text:
        return f"text {got.text[:60]!r} instead of {want.text[:60]!r}"
    if want.calls != got.calls:
        return f"calls {got.calls} instead of {want.calls}"
    if want.tokens is not None and got.tokens != want.tokens:
        return f"tokens {got.tokens} instead of {want.tokens}"
    if want.finish != got.finish and (door, want.finish) not in CANNOT:
        return f"finish {got.finish} instead of {want.finish}"
    return None


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("door", FORMATS)
def test_every_other_door_is_understood_by_its_sdk(stage, fmt, door, record_property):
    if door == fmt:
        return
    doors = Doors(stage.url)
    pairs, wrong, cannot = 0, [], Counter()
    for row in chosen(fmt):
        if row["response"]["status"] != 200:
            continue
        stream = row["response"]["kind"] == "sse"
        want = said(fmt, row["response"]["kind"], row["response"]["body"] or "")
        if want is None:
            continue
        model = f"{provider_of(fmt, row, door)}/{stage.sim.replay.register(row).model}"
        pairs += 1
        try:
            got = doors.ask(door, model, stream)
        except Exception as error:  # noqa: BLE001  whatever the SDK raises is the finding
            wrong.append(f"{row['id']}: {type(error).__name__}: {str(error)[:250]}")
            continue
        finally:
            stage.sim.replay.forget(row["id"])
        if want.finish != got.finish and (door, want.finish) in CANNOT:
            cannot[want.finish] += 1
        if (difference := same(want, got, door)) is not None:
            wrong.append(f"{row['id']}: {difference}")
    assert pairs > 0
    assert not wrong, f"{len(wrong)} of {pairs} pairs:\n" + "\n".join(wrong[:12])
    assert sum(cannot.values()) <= 0.05 * pairs
