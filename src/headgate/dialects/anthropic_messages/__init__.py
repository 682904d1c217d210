"""The wire format `anthropic_messages` (POST /v1/messages), in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import ChatRequest
from headgate.core.dialect import Facts, Op, Peek, Quirks, Rendered, View, Wanted
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.dialects import sse
from headgate.dialects.anthropic_messages import answer as _answer
from headgate.dialects.anthropic_messages import errors as _errors
from headgate.dialects.anthropic_messages import parse as _parse
from headgate.dialects.anthropic_messages import peek as _peek
from headgate.dialects.anthropic_messages import stream as _stream
from headgate.dialects.anthropic_messages import writer as _writer
from headgate.dialects.anthropic_messages.render import RequestRenderer
from headgate.dialects.jsonio import attach_field, decode, encode, splice_string


class AnthropicMessages:
    """core.dialect.Dialect."""

    name = "anthropic_messages"
    heartbeat = sse.PING

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model, stream=stream)

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        return _parse.parse_request(decode(body), model=model, stream=stream)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        if not peek.spliceable or peek.max_tokens is None:
            return None
        return body if peek.model == model else splice_string(body, "model", peek.model, model)

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        renderer = RequestRenderer(request, model, quirks)
        wire = renderer.render()
        return Rendered(encode(wire), tuple(dict.fromkeys(renderer.lossy)))

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return "/messages/count_tokens" if op == "count_tokens" else "/messages"

    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        return _answer.parse_answer(body, quirks)

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        return _answer.inspect_answer(body, quirks)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        wire, lossy = _answer.render_answer(answer, view)
        return Rendered(encode(wire), tuple(dict.fromkeys(lossy)))

    def splitter(self) -> sse.SseSplitter:
        return sse.SseSplitter()

    def event_parser(self, quirks: Quirks) -> _stream.EventParser:
        return _stream.EventParser()

    def event_renderer(self, view: View) -> _writer.EventRenderer:
        return _writer.EventRenderer(view)

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        return _stream.inspect_frame(frame, quirks)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _errors.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_errors.render_error(error, request_id))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return _writer.render_stream_error(error, request_id)

    def render_count(self, tokens: int) -> bytes:
        """The answer of `count_tokens`."""
        return encode({"input_tokens": tokens})

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        """On `message_delta`, which every SDK reads with unknown fields allowed."""
        splitter = sse.SseSplitter()
        out = [*splitter.feed(frames), splitter.close()]
        for number, frame in enumerate(out):
            end = frame.rfind(b"}") + 1
            if end and b'"message_delta"' in frame:
                out[number] = attach_field(frame[:end], "headgate", encode(details)) + frame[end:]
        return b"".join(out)


DIALECT = AnthropicMessages()
__all__ = ["DIALECT"]
