"""The skim of a Messages body."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.anthropic_messages.parse import MOST_MESSAGES
from headgate.dialects.bounds import input_bound
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, invalid

MOST_TOKENS = 10**9
_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]
_ROLES = frozenset({"user", "assistant", "system"})


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Thinking(msgspec.Struct):
    type: str = ""


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: list[_Message]
    stream: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[msgspec.Raw] | None = None
    thinking: _Thinking | None = None
    headgate: dict[str, Any] | None = None


_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)


def peek(body: bytes, *, model: str | None, stream: bool | None) -> Peek:
    check_text(body)
    try:
        raw = _decoder.decode(body)
    except RecursionError as error:
        raise InvalidRequest("the request body is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise _explain(body, error) from error
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    if raw.max_tokens is not None and not 1 <= raw.max_tokens <= MOST_TOKENS:
        raise InvalidRequest(f"max_tokens must be between 1 and {MOST_TOKENS}", param="max_tokens")
    _check_messages(raw.messages)
    media, bulk = _media(body)
    return Peek(
        model=name,
        stream=bool(raw.stream) if stream is None else stream,
        include_usage=True,
        max_tokens=raw.max_tokens,
        needs=_needs(raw, body),
        input_bound=input_bound(max(len(body) - bulk, 0), len(raw.messages), media),
        spliceable=raw.headgate is None,
        multi_turn=any(message.role == "assistant" for message in raw.messages),
        options=raw.headgate,
    )


def _explain(body: bytes, error: Exception) -> InvalidRequest:
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"the request body is not valid JSON: {error}")
    text = str(error)
    if "missing required field `messages`" in text and "at `$" not in text:
        return InvalidRequest("messages is missing", param="messages")
    if text.startswith("Expected `object`, got") and "at `$" not in text:
        return InvalidRequest("the request body must be a JSON object")
    try:
        decode(body)
    except InvalidRequest as other:
        return other
    return invalid(error)


def _check_messages(messages: list[_Message]) -> None:
    if not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            where = f"messages.{index}.role"
            raise InvalidRequest(f"{where} must be user or assistant", param=where)
        if bytes(memoryview(message.content)[:1]) not in (b'"', b"["):
            where = f"messages.{index}.content"
            raise InvalidRequest(f"{where} must be a string or a list of blocks", param=where)


def _media(body: bytes) -> tuple[int, int]:
    """(number of media, bytes of base64 in them)."""
    count = bulk = 0
    at = body.find(b'"base64"')
    while at >= 0:
        data = body.find(b'"data"', max(at - 200, 0))
        start = body.find(b'"', data + 7) if data >= 0 else -1
        end = body.find(b'"', start + 1) if start >= 0 else -1
        if end > 0:
            bulk += end - start
        count += 1
        at = body.find(b'"base64"', max(end, at + 8))
    return count + body.count(b'"type":"url"') + body.count(b'"type": "url"'), bulk


def _needs(raw: Any, body: bytes) -> frozenset[str]:
    needs: list[str] = []
    if raw.tools:
        needs.append("tools")
    if raw.thinking is not None and raw.thinking.type in ("enabled", "adaptive"):
        needs.append("reasoning")
    for marks, need in _MARKS:
        if any(mark in body for mark in marks):
            needs.append(need)
    return frozenset(needs) if needs else _NOTHING


_NOTHING: frozenset[str] = frozenset()
_MARKS = (
    ((b'"type":"image"', b'"type": "image"'), "vision"),
    ((b'"type":"document"', b'"type": "document"'), "documents"),
    ((b'"type":"json_schema"', b'"type": "json_schema"'), "json_schema"),
)
