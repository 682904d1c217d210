"""The wire format `openai_embeddings` (POST /v1/embeddings): routed and metered, its vectors passed on untouched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from headgate.core.chat import ChatRequest
from headgate.core.dialect import EventParser, EventRenderer, Facts, Op, Peek, Quirks, Rendered, View
from headgate.core.errors import HeadgateError, InvalidRequest, UnsupportedFeature, UpstreamFault, fault, wire_type
from headgate.core.events import ChatAnswer
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.faults import classify
from headgate.dialects.jsonio import attach_field, decode, encode, splice_string

MOST_INPUTS = 2048


class _Skim(msgspec.Struct):
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: Any = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


class OpenAiEmbeddings:
    """core.dialect.Dialect for one operation. What belongs to chats raises UnsupportedFeature."""

    name = "openai_embeddings"
    heartbeat = sse.PING

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        raw = decode(body)
        name = model if model is not None else raw.get("model")
        if not isinstance(name, str) or not name:
            raise InvalidRequest("you must provide a model", param="model")
        _check_input(raw.get("input"))
        for key, kinds in (("dimensions", int), ("encoding_format", str)):
            value = raw.get(key)
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
                raise InvalidRequest(f"{key} has the wrong type", param=key)
        options = raw.get("headgate")
        if options is not None and not isinstance(options, dict):
            raise InvalidRequest("headgate must be an object", param="headgate")
        return Peek(
            model=name,
            needs=frozenset({"embeddings"}),
            input_bound=len(body) // 3 + 8,
            max_tokens=1,
            spliceable=options is None,
            options=options,
        )

    def parse_request(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
        raw = decode(body)
        rest = {key: value for key, value in raw.items() if key not in ("model", "headgate")}
        name = model or str(raw.get("model") or "")
        return ChatRequest(model=name, messages=[], extensions={self.name: {"rest": rest}})

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        if not peek.spliceable:
            return None
        return body if peek.model == model else splice_string(body, "model", peek.model, model)

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        rest = request.extensions.get(self.name, {}).get("rest")
        if rest is None:
            raise UnsupportedFeature("this model only makes embeddings", param="model")
        return Rendered(encode({**rest, "model": model}))

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return "/embeddings"

    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        self._no_chat()

    def inspect_answer(self, body: bytes, quirks: Quirks) -> Facts:
        try:
            raw = _skim.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Facts(error=fault("invalid_answer", "the provider's answer is not JSON"))
        if raw.error or not raw.data:
            error = raw.error if isinstance(raw.error, dict) else {"message": "the provider's answer holds no vectors"}
            return Facts(error=classify(status=None, message=str(error.get("message"))))
        count = (raw.usage or {}).get("prompt_tokens") if isinstance(raw.usage, dict) else None
        usage = Usage(input=count) if isinstance(count, int) else None
        return Facts(content=True, usage=usage, finish="stop", terminal=True, model=raw.model)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        self._no_chat()

    def splitter(self) -> sse.SseSplitter:
        return sse.SseSplitter()

    def event_parser(self, quirks: Quirks) -> EventParser:
        self._no_chat()

    def event_renderer(self, view: View) -> EventRenderer:
        self._no_chat()

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        return None

    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        try:
            raw: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raw = None
        error = raw.get("error") if isinstance(raw, dict) else None
        if not isinstance(error, dict):
            return classify(status=status, headers=headers, message=str(error or "")[:500])
        code = error.get("code")
        message = str(error.get("message") or "")
        return classify(
            status=status,
            headers=headers,
            message=message,
            code=None if code is None else str(code),
            type=error.get("type"),
        )

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        kind, code = wire_type(error)
        return encode({"error": {"message": error.message, "type": kind, "param": error.param, "code": code}})

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return sse.frame(self.render_error(error, request_id))

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details))

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        return frames

    def _no_chat(self) -> NoReturn:
        raise UnsupportedFeature("embeddings have no chat form: use an embeddings model", param="model")


def _check_input(value: Any) -> None:
    """A string, strings, tokens, or lists of tokens."""
    if isinstance(value, str) and value:
        return
    if isinstance(value, list) and 0 < len(value) <= MOST_INPUTS:
        kinds = {type(item) for item in value}
        if kinds <= {str} or kinds <= {int} or kinds <= {list}:
            return
    elif isinstance(value, list) and len(value) > MOST_INPUTS and all(isinstance(item, int) for item in value):
        return  # one long text as tokens
    raise InvalidRequest(f"input must be text or up to {MOST_INPUTS} texts, or their tokens", param="input")


DIALECT = OpenAiEmbeddings()
__all__ = ["DIALECT"]
