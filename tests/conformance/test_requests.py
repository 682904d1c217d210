"""Every recorded request, read at its own door and written for a provider of every other format: nothing is lost in
silence. What cannot cross is an error before anything is sent; what is left out is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from conformance import features, grid
from conformance.corpus import STEP
from conformance.crossing import silent
from conformance.extract import FORMATS, format_of
from headgate.core.chat import ChatRequest
from headgate.core.dialect import Quirks
from headgate.core.errors import HeadgateError, UnsupportedFeature
from headgate.providers.registry import dialect_of
from support.corpus import rows

PLAIN = Quirks(stream_usage="never", max_output=4096)
LEFT_OUT = {
    # what a loss is named → the feature that it belongs to; all else is "other fields"
    "cache_control": "cache marks",
    "citations": "other fields",
    "is_error": "tool results",
    "json_object": "JSON schema",
    "json_schema": "JSON schema",
    "opaque": "server-side tools",
    "reasoning": "thinking sent back",
    "reasoning_budget": "thinking asked for",
    "reasoning_content": "thinking sent back",
    "reasoning_details": "thinking sent back",
    "reasoning_signature": "thinking sent back",
    "reasoning_effort": "thinking asked for",
    "seed": "seed",
    "strict": "tools",
    "system_position": "system text",
    "temperature": "temperature",
    "thinking": "thinking asked for",
    "tool_result_media_position": "tool results",
    "tools": "server-side tools",
}
REFUSED = {
    "stop": "stop sequences",
    "n": "n > 1",
    "logprobs": "logprobs",
    "response_format": "JSON schema",
    "modalities": "other fields",
}
MEDIA = {
    "video": "video",
    "audio": "audio",
    "file": "documents",
    "URL": "images by URL",
    "document": "documents",
    "last message": "documents",  # one that is nothing else than Mistral's link to one
}


def requests(fmt: str) -> Iterator[tuple[str, dict[str, Any], ChatRequest]]:
    """(id, body, what it says) of those that their door takes."""
    dialect = dialect_of(fmt)
    for row in rows():
        body = row["request"]["body"]
        if format_of(row["api"]) != fmt or not isinstance(body, dict):
            continue
        try:
            said = dialect.parse_request(json.dumps(body).encode(), model=None if body.get("model") else "m")
        except HeadgateError:
            continue  # test_roundtrip holds the door to what its provider took
        yield row["id"], body, said


def cross(fmt: str, target: str) -> tuple[grid.Requests, list[str]]:
    found, wrong = grid.Requests(fmt, target), list[str]()
    dialect = dialect_of(target)
    for row_id, body, said in requests(fmt):
        names = features.of_request(fmt, body)
        grid.count(found.of, names)
        try:
            rendered = dialect.render_request(said, model="m", quirks=PLAIN)
        except UnsupportedFeature as error:
            grid.count(found.refused, [because(error, names)])
            continue
        left_out = {LEFT_OUT.get(name.partition(".")[0].partition(":")[0], "other fields") for name in rendered.lossy}
        grid.count(found.of, left_out - names)
        grid.count(found.named, left_out)
        grid.count(found.kept, names - left_out)
        heard = dialect.parse_request(rendered.body, model="m")
        wrong += [f"{row_id}: {what}" for what in silent(said, heard, rendered.lossy)]
    return found, wrong


def because(error: UnsupportedFeature, names: set[str]) -> str:
    """The feature for which a request was refused."""
    if error.param in ("tools", "tool_choice"):
        return "server-side tools" if "server-side tools" in names else "tools"
    found = REFUSED.get(error.param or "") or next((f for word, f in MEDIA.items() if word in error.message), None)
    assert found is not None, (error.param, error.message)
    return found


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_no_request_loses_anything_in_silence(fmt, target):
    if target == fmt:
        return
    found, wrong = cross(fmt, target)
    assert found.of
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])
    if STEP == 1:
        grid.save(found)
    else:  # all of them in `make test` too: the page must say exactly this
        page = grid.committed(grid.title(found))
        assert {name: page[name][target] for name in found.of} == {name: grid.cell(found, name) for name in found.of}
