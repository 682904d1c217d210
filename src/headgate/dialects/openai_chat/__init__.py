"""The wire format `openai_chat` (POST /v1/chat/completions), in both directions, as OpenAI and its followers speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import ChatRequest
from headgate.core.dialect import Facts, Op, Peek, Quirks, Rendered, View, Wanted
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.dialects import openai_error as _error
from headgate.dialects import sse
from headgate.dialects.jsonio import attach_field, decode, encode
from headgate.dialects.openai_chat import answer as _answer
from headgate.dialects.openai_chat import chunks as _chunks
from headgate.dialects.openai_chat import parse as _parse
from headgate.dialects.openai_chat import peek as _peek
from headgate.dialects.openai_chat import skim as _skim
from headgate.dialects.openai_chat import stream as _stream
from headgate.dialects.openai_chat.render import RequestRenderer


class OpenAiChat:
    """core.dialect.Dialect."""

    name = "openai_chat"
    heartbeat = sse.PING

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model, stream=stream)

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        if not peeked:
            _peek.peek(body, model=model, stream=stream)  # every check that typed fields make
        return _parse.parse_request(decode(body), model=model, stream=stream)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        return _peek.splice(body, peek, model=model, quirks=quirks)

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        renderer = RequestRenderer(request, quirks)
        body = encode(renderer.render(model))
        return Rendered(body, tuple(dict.fromkeys(renderer.lossy)))

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return "/chat/completions"

    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        return _answer.parse_answer(body, quirks)

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        return _skim.inspect_answer(body, quirks)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        wire, lossy = _answer.render_answer(answer, view)
        return Rendered(encode(wire), tuple(dict.fromkeys(lossy)))

    def splitter(self) -> sse.SseSplitter:
        return sse.SseSplitter()

    def event_parser(self, quirks: Quirks) -> _stream.EventParser:
        return _stream.EventParser(quirks)

    def event_renderer(self, view: View) -> _chunks.EventRenderer:
        return _chunks.EventRenderer(view)

    inspect_frame = staticmethod(_skim.inspect_frame)

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _error.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_error.render_error(error))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return _chunks.render_stream_error(error)

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        return _chunks.attach_details(frames, details)


DIALECT = OpenAiChat()
__all__ = ["DIALECT"]
