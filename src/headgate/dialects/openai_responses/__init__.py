"""The wire format `openai_responses` (POST /v1/responses), in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import ChatRequest
from headgate.core.dialect import Facts, Op, Peek, Quirks, Rendered, View, Wanted
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.dialects import sse
from headgate.dialects.jsonio import attach_field, decode, decode_upstream, encode, splice_string
from headgate.dialects.openai_responses import answer as _answer
from headgate.dialects.openai_responses import parse as _parse
from headgate.dialects.openai_responses import peek as _peek
from headgate.dialects.openai_responses import stream as _stream
from headgate.dialects.openai_responses.render import RequestRenderer
from headgate.dialects.openai_responses.writer import EventRenderer


class OpenAiResponses:
    """core.dialect.Dialect."""

    name = "openai_responses"
    heartbeat = sse.PING

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model, stream=stream)

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        return _parse.parse_request(decode(body), model=model, stream=stream)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        if not peek.spliceable:
            return None
        return body if peek.model == model else splice_string(body, "model", peek.model, model)

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        renderer = RequestRenderer(request, quirks)
        body = encode(renderer.render(model))
        return Rendered(body, tuple(dict.fromkeys(renderer.lossy)))

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return "/responses"

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

    def event_renderer(self, view: View) -> EventRenderer:
        return EventRenderer(view)

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        return _stream.inspect_frame(frame, quirks)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _answer.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_answer.render_error(error))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return _stream.render_stream_error(error, request_id)

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        """Inside the final `response` object, where the SDKs keep unknown fields."""
        splitter = sse.SseSplitter()
        out: list[bytes] = []
        for frame in splitter.feed(frames):
            name = sse.event_of(frame)
            if name in _stream.ENDS and (data := sse.data_of(frame)) is not None:
                event = decode_upstream(data)
                event["response"]["headgate"] = details
                frame = sse.frame(encode(event), name)
            out.append(frame)
        return b"".join(out) + splitter.close()


DIALECT = OpenAiResponses()
__all__ = ["DIALECT"]
