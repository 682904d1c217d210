"""The wire format `openai_embeddings` (POST /v1/embeddings). Requests and answers pass as bytes, in whatever form the
vectors have (lists of numbers or base64); only routing, accounting and errors read them. It has no other dialect to be
turned into: what concerns conversations raises UnsupportedFeature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from headgate.core.chat import ChatRequest
from headgate.core.dialect import EventParser, EventRenderer, Facts, Op, Peek, Quirks, Rendered, View
from headgate.core.errors import HeadgateError, UnsupportedFeature, UpstreamFault, fault
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects import openai_error as _error
from headgate.dialects import sse
from headgate.dialects.jsonio import attach_field, decode_upstream, encode
from headgate.dialects.openai_embeddings import peek as _peek


class _Skim(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


class OpenAiEmbeddings:
    """core.dialect.Dialect, but for conversations and streams."""

    name = "openai_embeddings"
    heartbeat = sse.PING

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model)

    def parse_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
        _no_chat()

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        return _peek.splice(body, peek, model)

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        _no_chat()

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return "/embeddings"

    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        _no_chat()

    def inspect_answer(self, body: bytes, quirks: Quirks) -> Facts:
        try:
            skim = _skim.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                skim = _loose(body)
            except UpstreamFault as error:
                return Facts(error=error)
        if skim.error:
            return Facts(error=_error.error_of(skim.error, None, {}))
        if not skim.data:
            return Facts(error=fault("invalid_answer", "the provider's answer holds no embeddings"))
        return Facts(content=True, usage=_usage(skim.usage), finish="stop", terminal=True, id=skim.id, model=skim.model)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        _no_chat()

    def splitter(self) -> sse.SseSplitter:
        return sse.SseSplitter()

    def event_parser(self, quirks: Quirks) -> EventParser:
        _no_chat()

    def event_renderer(self, view: View) -> EventRenderer:
        _no_chat()

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        _no_chat()

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _error.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_error.render_error(error))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return sse.frame(encode(_error.render_error(error)))

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        _no_chat()


def _no_chat() -> NoReturn:
    raise UnsupportedFeature("embeddings cannot be turned into another format", param="input")


def _loose(body: bytes) -> _Skim:
    """An answer whose ids or the like have unexpected types."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    data, usage = raw.get("data"), raw.get("usage")
    return _Skim(
        data=[msgspec.Raw(b"null")] * len(data) if isinstance(data, list) else None,
        usage=usage if isinstance(usage, dict) else None,
        error=raw.get("error"),
    )


def _usage(raw: Mapping[str, Any] | None) -> Usage | None:
    """prompt_tokens, or total_tokens alone (Voyage)."""
    for key in ("prompt_tokens", "total_tokens", "input_tokens"):
        value = raw.get(key) if raw else None
        if isinstance(value, int) and not isinstance(value, bool):
            return Usage(input=max(value, 0))
    return None


DIALECT = OpenAiEmbeddings()
__all__ = ["DIALECT"]
