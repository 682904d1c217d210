"""Formats whose requests and answers pass as bytes: only routing, accounting and errors read them.

They have no other format to be turned into: what concerns conversations raises UnsupportedFeature. A request is JSON, or
multipart/form-data whose `model` field is read and replaced by a parser that is linear and bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from headgate.core.bounds import input_bound
from headgate.core.chat import ChatRequest
from headgate.core.dialect import EventParser, EventRenderer, Facts, Op, Peek, Quirks, Rendered, View, Wanted
from headgate.core.errors import HeadgateError, InvalidRequest, UnsupportedFeature, UpstreamFault, fault
from headgate.core.events import ChatAnswer
from headgate.core.usage import Media, Usage
from headgate.dialects import multipart, sse
from headgate.dialects import openai_error as _error
from headgate.dialects.jsonio import (
    FORBIDDEN,
    attach_field,
    check_text,
    decode,
    decode_upstream,
    encode,
    invalid,
    splice_string,
)

MOST_N = 128
MOST_TOKENS = 10**9
_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)
_OBJECT = re.compile(rb"\s*\{\s*[\"}]")
"""How a JSON object begins. Only what can be read to its end is one: sound without a header (PCM) may begin with any byte,
and a transcript with any words."""
_UNSAID = (b"", b"false", b"0", b"no", b"off")
"""A form's `stream` that asks for none, whoever reads it."""
_BOM = b"\xef\xbb\xbf"


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    max_tokens: int | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    headgate: dict[str, Any] | None = None


_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]
_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)


class Opaque:
    """core.dialect.Dialect, but for conversations. A subclass says which paths it has and what counts as usage.

    noun      what is asked for, for error messages
    paths     op → path below the provider's base URL
    model     what a body without a model means; None: that is an error
    streams   whether `"stream": true` can be served
    """

    name = ""
    noun = "these requests"
    paths: Mapping[str, str] = {}
    model: str | None = None
    streams = False
    heartbeat = sse.PING

    # -- requests ------------------------------------------------------------------------------------------------
    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        if multipart.looks_like(body):
            return self._peek_form(body)
        check_text(body)
        try:
            raw = _decoder.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise invalid(error) from error
        for name in FORBIDDEN:
            if getattr(raw, name) is not msgspec.UNSET:
                raise _forbidden(name)
        if raw.n is not None and not 1 <= raw.n <= MOST_N:
            raise InvalidRequest(f"n must be between 1 and {MOST_N}", param="n")
        if raw.max_tokens is not None and not 0 <= raw.max_tokens <= MOST_TOKENS:
            raise InvalidRequest(f"max_tokens must be between 0 and {MOST_TOKENS}", param="max_tokens")
        peek = Peek(
            model=self._named(model if model is not None else raw.model),
            stream=self._streamed(raw.stream if stream is None else stream),
            include_usage=b'"include_usage"' in body,
            n=raw.n or 1,
            max_tokens=raw.max_tokens,
            input_bound=input_bound(len(body), 1, 0),
            spliceable=raw.headgate is None and raw.model is not None,
            options=raw.headgate,
            wanted=self._wanted(None),
        )
        self._measure(peek, raw.input or None, memoryview(body))
        return peek

    def parse_request(
        self, body: bytes, *, model: str | None = None, stream: bool | None = None, peeked: bool = False
    ) -> ChatRequest:
        self._no_chat()

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        """Never None: where the bytes cannot tell, the body is decoded and only these two fields change."""
        if multipart.looks_like(body):
            return multipart.with_field(body, "model", model)
        if peek.spliceable and (out := splice_string(body, "model", peek.model, model)) is not None:
            return out
        fields = decode(body)
        fields.pop("headgate", None)
        return encode({**fields, "model": model})

    def render_request(self, request: ChatRequest, *, model: str, quirks: Quirks) -> Rendered:
        self._no_chat()

    def path(self, op: Op, *, model: str, stream: bool) -> str:
        return self.paths[op]

    # -- answers -------------------------------------------------------------------------------------------------
    def parse_answer(self, body: bytes, quirks: Quirks) -> ChatAnswer:
        self._no_chat()

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        """A JSON answer's usage and error. What is no JSON is an answer only where sound or text is `wanted`, and then not
        where it is empty or a web page. (A text may be white space alone: somebody said nothing.)"""
        text = body.removeprefix(_BOM)
        if not text or (wanted != "text" and text.isspace()):
            return Facts(error=_empty())
        if wanted != "json" and _OBJECT.match(text) is None:
            if _PAGE.match(text):
                return Facts(error=fault("invalid_answer", "the provider's answer is HTML", detail=repr(body[:200])))
            return _given()
        try:
            raw = decode_upstream(text)
        except UpstreamFault as error:
            return Facts(error=error) if wanted == "json" else _given()
        if not raw and not isinstance(raw, list):  # {}, null; a list of nothing is what was found
            return Facts(error=_empty())
        if not isinstance(raw, dict):
            return _given()
        if raw.get("error"):
            return Facts(error=_error.error_of(raw["error"], None, {}))
        names = (raw.get("id"), raw.get("model"))
        id, model = (name if isinstance(name, str) else None for name in names)
        return Facts(content=True, usage=self._usage(raw), finish="stop", terminal=True, id=id, model=model)

    def render_answer(self, answer: ChatAnswer, view: View) -> Rendered:
        self._no_chat()

    def splitter(self) -> sse.SseSplitter:
        return sse.SseSplitter()

    def event_parser(self, quirks: Quirks) -> EventParser:
        self._no_chat()

    def event_renderer(self, view: View) -> EventRenderer:
        self._no_chat()

    def inspect_frame(self, frame: bytes, quirks: Quirks) -> Facts | None:
        self._no_chat()

    # -- errors and details --------------------------------------------------------------------------------------
    def parse_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
        return _error.parse_error(status, headers, body)

    def render_error(self, error: HeadgateError, request_id: str) -> bytes:
        return encode(_error.render_error(error))

    def render_stream_error(self, error: HeadgateError, request_id: str) -> bytes:
        return sse.frame(encode(_error.render_error(error)))

    def attach(self, body: bytes, details: Mapping[str, Any]) -> bytes:
        return attach_field(body, "headgate", encode(details)) if _is_object(body) else body

    def attach_frame(self, frames: bytes, details: Mapping[str, Any]) -> bytes:
        self._no_chat()

    # -- inside --------------------------------------------------------------------------------------------------
    def _peek_form(self, body: bytes) -> Peek:
        fields, files, size = multipart.fields(body)
        for name in FORBIDDEN & fields.keys():
            raise _forbidden(name)
        streamed = self._streamed(fields.get("stream", b"").strip().lower() not in _UNSAID)
        model = fields.get("model", b"").decode("utf-8", "replace").strip()
        peek = Peek(
            model=self._named(model or None),
            stream=streamed,
            n=_choices(fields.get("n")),
            input_bound=input_bound(size, 1, len(files)),
            wanted=self._wanted(fields),
            media_type=multipart.content_type(body),
        )
        self._measure(peek, None, files[0] if len(files) == 1 else memoryview(body))
        return peek

    def _wanted(self, form: Mapping[str, bytes] | None) -> Wanted:
        """By the form's fields; None: the request is JSON."""
        return "json"

    def _measure(self, peek: Peek, said: msgspec.Raw | None, content: memoryview) -> None:
        """Sets what is paid for beside tokens, and how many tokens one answer has at most where the client cannot say.
        `said`: the JSON field `input`; `content`: the form's one file, else the whole body."""

    def _usage(self, raw: Mapping[str, Any]) -> Usage | None:
        """What a JSON answer tells of its usage."""
        return usage_of(raw)

    def _named(self, model: str | None) -> str:
        name = model or self.model
        if not name:
            raise InvalidRequest("you must provide a model", param="model")
        return name

    def _streamed(self, asked: bool | None) -> bool:
        if asked and not self.streams:
            raise InvalidRequest(f"{self.noun} cannot be streamed here", param="stream")
        return bool(asked)

    def _no_chat(self) -> NoReturn:
        raise UnsupportedFeature(
            f"this model's provider does not offer {self.noun}, and they cannot be turned into another format"
        )


def _given() -> Facts:
    """An answer that says nothing of itself."""
    return Facts(content=True, finish="stop", terminal=True)


def _empty() -> UpstreamFault:
    return fault("invalid_answer", "the provider's answer is empty")


def _is_object(body: bytes) -> bool:
    text = body.removeprefix(_BOM)
    if _OBJECT.match(text) is None:
        return False
    try:
        return isinstance(decode_upstream(text), dict)
    except UpstreamFault:
        return False


def usage_of(raw: Mapping[str, Any]) -> Usage | None:
    """By OpenAI's names, old and new (prompt_tokens, input_tokens), or Jina's and Voyage's total alone."""
    usage = raw.get("usage")
    if not isinstance(usage, dict):
        return None
    told = [
        _count(usage, *names) for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    ]
    if told == [None, None]:
        told = [_count(usage, "total_tokens"), 0]
    if told[0] is None and told[1] is None:
        return None
    taken, given = told[0] or 0, told[1] or 0
    inward = next((usage[name] for name in _INWARD if isinstance(usage.get(name), dict)), {})
    outward = usage.get("output_tokens_details")
    seen, drawn = _count(inward, "image_tokens"), _count(outward, "image_tokens") if isinstance(outward, dict) else None
    cached = min(_count(inward, "cached_tokens") or 0, taken)
    return Usage(
        input=taken,
        output=given,
        cached_input=cached,
        audio_input=min(_count(inward, "audio_tokens") or 0, taken - cached),
        media=Media(image_input=seen or 0, image_output=drawn or 0) if seen or drawn else None,
    )


_INWARD = ("input_tokens_details", "input_token_details", "prompt_tokens_details")
"""Of images, of transcriptions, of completions."""


def _choices(said: bytes | None) -> int:
    """A form's `n`."""
    if said is None or not said.strip():
        return 1
    text = said.strip()
    if not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MOST_N:
        raise InvalidRequest(f"n must be between 1 and {MOST_N}", param="n")
    return int(text)


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return max(value, 0)
    return None


def _forbidden(name: str) -> InvalidRequest:
    return InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")
