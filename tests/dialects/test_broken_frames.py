"""An event of a provider's stream that is no JSON object is an error of the provider, raw or decoded, in every format."""

from __future__ import annotations

import importlib

import pytest

from headgate.core.dialect import Quirks
from headgate.core.errors import UpstreamFault

NAMES = {
    "openai_chat": b"",
    "openai_completions": b"",
    "openai_responses": b"event: response.output_text.delta\n",
    "anthropic_messages": b"event: content_block_delta\n",
    "gemini": b"",
}


@pytest.mark.parametrize("data", [b"{bad", b"[1,2]", b'"x"', b"7", b"true"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_what_is_no_object_is_no_event(name, data, end):
    dialect = importlib.import_module(f"headgate.dialects.{name}").DIALECT
    frame = NAMES[name] + b"data: " + data + end
    with pytest.raises(UpstreamFault) as caught:
        dialect.event_parser(Quirks()).feed(frame)
    assert caught.value.kind == "invalid_answer"
    assert _found(dialect, frame) == "invalid_answer"


MIDDLES = {
    "openai_chat": b'data: {"choices":[{"index":0,"delta":{"content":"wa%ter"},"finish_reason":null}]}',
    "openai_responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"wa%ter"}',
    "anthropic_messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"wa%ter"}}',
    "gemini": b'data: {"candidates":[{"content":{"parts":[{"text":"wa%ter"}]}}]}',
}


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("name", MIDDLES)
@pytest.mark.parametrize(
    ("cut", "is_broken"),
    [(b"", False), (b'"', True), (b'",}', True), (b"\\x", True), (b"\\n", False), (b'\\"}', False), (b"\t", False)],
)
def test_a_frame_in_the_middle_that_looks_whole_and_is_not(name, cut, is_broken, end):
    """It begins and ends as an object does. A bare tab in a text is forgiven, as everywhere."""
    dialect = importlib.import_module(f"headgate.dialects.{name}").DIALECT
    frame = MIDDLES[name].replace(b"%", cut) + end
    assert _found(dialect, frame) == ("invalid_answer" if is_broken else None)


def _found(dialect, frame: bytes) -> str | None:
    """The fault that raw passthrough sees in the frame, raised or told."""
    try:
        facts = dialect.inspect_frame(frame, Quirks())
    except UpstreamFault as error:
        return error.kind
    return facts.error.kind if facts is not None and facts.error is not None else None
