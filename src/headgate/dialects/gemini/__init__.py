"""The wire format `gemini` (POST /v1beta/models/{model}:generateContent), in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from headgate.core.chat import ChatRequest
from headgate.core.dialect import Facts, Op, Peek, Quirks, Rendered, View, Wanted
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.dialects.gemini import answer as _answer
from headgate.dialects.gemini import errors as _errors
from headgate.dialects.gemini import parse as _parse
from headgate.dialects.gemini import peek as _peek
from headgate.dialects.gemini import skim as _skim
from headgate.dialects.gemini.array import Splitter
from headgate.dialects.gemini.chunks import EventRenderer, sse_frame
from headgate.dialects.gemini.render import RequestRenderer
from headgate.dialects.gemini.stream import EventParser
from headgate.dialects.jsonio import attach_field, decode, encode


class Gemini:
    """core.dialect.Dialect."""

    name = "gemini"
    heartbeat = b"\n\n"  # Google's Python SDK takes a comment for the beginning of JSON; blank lines it passes over

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model, stream=stream)

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        return _parse.parse_request(decode(body), model=model, stream=stream)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        return body if peek.spliceable else None

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        renderer = RequestRenderer(request, quirks)
        body = encode(renderer.render())
        return Rendered(body, tuple(dict.fromkeys(renderer.lossy)))

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        """Tuned models are a collection of their own."""
        name = model if model.startswith("tunedModels/") else f"models/{model.removeprefix('models/')}"
        name = quote(name, safe="/@.-_~")
        if op == "count_tokens":
            return f"/{name}:countTokens"
        return f"/{name}:streamGenerateContent?alt=sse" if stream else f"/{name}:generateContent"

    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        return _answer.parse_answer(body, quirks)

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        return _skim.inspect_answer(body, quirks)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        wire, lossy = _answer.render_answer(answer, view)
        return Rendered(encode(wire), tuple(dict.fromkeys(lossy)))

    def splitter(self) -> Splitter:
        return Splitter()

    def event_parser(self, quirks: Quirks) -> EventParser:
        return EventParser()

    def event_renderer(self, view: View) -> EventRenderer:
        return EventRenderer(view)

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        return _skim.inspect_frame(frame, quirks)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _errors.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_errors.render_error(error, request_id))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return sse_frame(_errors.render_error(error, request_id))

    def render_count(self, tokens: int) -> bytes:
        """The answer of `countTokens`."""
        return encode({"totalTokens": tokens})

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        """On the last chunk."""
        cut = frames.rstrip()
        at = cut.rfind(b"data:")
        if at < 0:
            return frames
        return cut[:at] + attach_field(cut[at:], "headgate", encode(details)) + b"\r\n\r\n"


DIALECT = Gemini()
__all__ = ["DIALECT"]
