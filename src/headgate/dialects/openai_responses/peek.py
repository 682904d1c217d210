"""The skim of a Responses body."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.bounds import input_bound
from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, invalid
from headgate.dialects.openai_responses.items import MADE_HERE

MOST_TOKENS = 10**9
_MADE_HERE = f'"{MADE_HERE}'.encode()
_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]


class _Format(msgspec.Struct):
    type: str = "text"


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instructions: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    tools: list[msgspec.Raw] | None = None
    text: _Text | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    service_tier: Any = None
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
    _check(raw)
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    media = body.count(b'"input_image"') + body.count(b'"input_file"')
    bulk = _bulk(body)
    return Peek(
        model=name,
        stream=bool(raw.stream) if stream is None else stream,
        include_usage=True,
        max_tokens=raw.max_output_tokens,
        needs=_needs(raw, body),
        input_bound=input_bound(max(len(body) - bulk, 0), body.count(b'"role"') + 1, media),
        spliceable=raw.headgate is None and _MADE_HERE not in body,
        multi_turn=b'"assistant"' in body or b'"function_call"' in body,
        options=raw.headgate,
        dearer="service_tier" if raw.service_tier == "priority" else None,
        state=raw.previous_response_id,
        background=bool(raw.background),
    )


def _check(raw: Any) -> None:
    if raw.messages is not msgspec.UNSET:
        raise InvalidRequest("a Responses request has input, not messages", param="messages")
    if raw.input is msgspec.UNSET:
        if raw.previous_response_id is None and raw.conversation is None and raw.instructions is None:
            raise InvalidRequest("input is missing", param="input")
    elif bytes(memoryview(raw.input)[:1]) not in (b'"', b"["):
        raise InvalidRequest("input must be a string or a list of items", param="input")
    elif bytes(raw.input) == b"[]" and raw.previous_response_id is None:
        raise InvalidRequest("input must hold at least one item", param="input")
    if raw.max_output_tokens is not None and not 1 <= raw.max_output_tokens <= MOST_TOKENS:
        raise InvalidRequest(f"max_output_tokens must be between 1 and {MOST_TOKENS}", param="max_output_tokens")
    if raw.top_logprobs is not None and not 0 <= raw.top_logprobs <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")


def _explain(body: bytes, error: Exception) -> InvalidRequest:
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"the request body is not valid JSON: {error}")
    text = str(error)
    if text.startswith("Expected `object`, got") and "at `$" not in text:
        return InvalidRequest("the request body must be a JSON object")
    try:
        decode(body)
    except InvalidRequest as other:
        return other
    return invalid(error)


def _bulk(body: bytes) -> int:
    """Bytes of base64: they are not text and must not count as tokens."""
    bulk = 0
    at = body.find(b";base64,")
    while at >= 0:
        end = body.find(b'"', at)
        bulk += max(end - at, 0)
        at = body.find(b";base64,", end if end > at else at + 8)
    return bulk


def _needs(raw: Any, body: bytes) -> frozenset[str]:
    needs: set[str] = set()
    if raw.tools:
        needs.add("tools")
    if raw.text is not None and raw.text.format is not None and raw.text.format.type in ("json_schema", "json_object"):
        needs.add(raw.text.format.type)
    for mark, need in ((b'"input_image"', "vision"), (b'"input_file"', "documents"), (b'"input_audio"', "audio")):
        if mark in body:
            needs.add(need)
    return frozenset(needs)
