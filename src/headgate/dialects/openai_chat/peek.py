"""The skim of a chat body: what routing needs, and every check that does not need the words themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.dialect import Peek, Quirks
from headgate.core.errors import InvalidRequest
from headgate.dialects.bounds import input_bound
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, invalid, splice_string
from headgate.dialects.openai_chat.parse import MOST_MESSAGES, ROLES

MOST_N = 128
MOST_TOKENS = 10**9
_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: _Format | None = None
    modalities: list[str] | None = None
    headgate: dict[str, Any] | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# One struct with the forbidden names beside the known ones: their presence is seen in the same pass.
_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)


def peek(body: bytes, *, model: str | None, stream: bool | None) -> Peek:
    check_text(body)
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _explain(body, error) from error
    _check_forbidden(raw)
    if raw.input is not msgspec.UNSET:
        raise InvalidRequest("a chat request has messages or input, not both", param="input")
    _check_numbers(raw)
    _check_messages(raw.messages)
    maximum = raw.max_completion_tokens if raw.max_completion_tokens is not None else raw.max_tokens
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    media, bulk = _media(body)
    return Peek(
        model=name,
        stream=bool(raw.stream) if stream is None else stream,
        include_usage=bool(raw.stream_options and raw.stream_options.include_usage),
        max_tokens=maximum,
        n=raw.n or 1,
        needs=_needs(raw, body),
        input_bound=input_bound(max(len(body) - bulk, 0), len(raw.messages), media),
        spliceable=raw.headgate is None,
        multi_turn=any(message.role == "assistant" for message in raw.messages),
        options=raw.headgate,
    )


def splice(body: bytes, peeked: Peek, *, model: str, quirks: Quirks) -> bytes | None:
    if not peeked.spliceable:
        return None
    out = body
    if peeked.model != model:
        spliced = splice_string(body, "model", peeked.model, model)
        if spliced is None:
            return None
        out = spliced
    if peeked.stream and not peeked.include_usage and quirks.stream_usage == "ask":
        if b'"stream_options"' in body:
            return None
        at = out.find(b"{")
        out = b'%b"stream_options":{"include_usage":true},%b' % (out[: at + 1], out[at + 1 :])
    if quirks.max_tokens_field != "max_tokens" and b'"max_tokens"' in body and quirks.extra.get("rename_max_tokens"):
        return None
    return out


def _explain(body: bytes, error: Exception) -> InvalidRequest:
    """The skim's own words name types; a missing field or no object at all deserve clearer ones."""
    if isinstance(error, RecursionError):
        return InvalidRequest("the request body is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"the request body is not valid JSON: {error}")
    text = str(error)
    if "missing required field `messages`" in text and b'"input"' not in body:
        return InvalidRequest("messages is missing", param="messages")
    if text.startswith("Expected `object`, got") and "at `$" not in text:
        return InvalidRequest("the request body must be a JSON object")
    try:
        decode(body)
    except InvalidRequest as other:
        return other
    return invalid(error)


def _check_forbidden(raw: Any) -> None:
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")


def _check_numbers(raw: Any) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        value = getattr(raw, name)
        if value is not None and not 1 <= value <= MOST_TOKENS:
            raise InvalidRequest(f"{name} must be between 1 and {MOST_TOKENS}", param=name)
    if raw.n is not None and not 1 <= raw.n <= MOST_N:
        raise InvalidRequest(f"n must be between 1 and {MOST_N}", param="n")
    if raw.top_logprobs is not None and not 0 <= raw.top_logprobs <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")


def _check_messages(messages: list[_Message]) -> None:
    if not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            where = f"messages[{index}].role"
            raise InvalidRequest(f"{where} must be one of {', '.join(sorted(ROLES))}", param=where)
        first = bytes(message.content)[:1] if len(message.content) < 64 else memoryview(message.content)[:1]
        if first in (b"{", b"t", b"f") or bytes(first).isdigit():
            where = f"messages[{index}].content"
            raise InvalidRequest(f"{where} must be a string or a list", param=where)


def _media(body: bytes) -> tuple[int, int]:
    """(number of media, bytes of base64 in them): base64 is not text and must not count as tokens."""
    count = bulk = 0
    at = body.find(b";base64,")
    while at >= 0:
        end = body.find(b'"', at)
        bulk += max(end - at, 0)
        count += 1
        at = body.find(b";base64,", end if end > at else at + 8)
    count += body.count(b'"image_url"') + body.count(b'"input_audio"')
    return count, bulk


def _needs(raw: Any, body: bytes) -> frozenset[str]:
    needs: list[str] = []
    if raw.tools or raw.functions:
        needs.append("tools")
    if raw.response_format is not None and raw.response_format.type in ("json_schema", "json_object"):
        needs.append(raw.response_format.type)
    if raw.logprobs:
        needs.append("logprobs")
    if raw.n is not None and raw.n > 1:
        needs.append("n")
    if raw.modalities is not None and "audio" in raw.modalities:
        needs.append("audio_output")
    for mark, need in _MARKS:
        if mark in body and need not in needs:
            needs.append(need)
    return frozenset(needs) if needs else _NOTHING


_NOTHING: frozenset[str] = frozenset()
# As keys of a content part: inside text the quotes would be escaped.
_MARKS = (
    (b'"image_url"', "vision"),
    (b'"input_audio"', "audio"),
    (b'"file_data"', "documents"),
    (b'"video_url"', "video"),
)
