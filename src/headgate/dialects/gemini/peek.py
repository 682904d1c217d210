"""The skim of a generateContent body."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.bounds import input_bound
from headgate.dialects.gemini.names import get
from headgate.dialects.gemini.parse import MOST_CONTENTS
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, invalid

MOST_TOKENS = 10**9
_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]


class _Content(msgspec.Struct):
    role: str | None = None
    parts: msgspec.Raw = msgspec.Raw(b"[]")


class _Fields(msgspec.Struct, kw_only=True):
    contents: list[_Content] | _Content | str
    tools: msgspec.Raw = msgspec.Raw(b"null")
    generationConfig: dict[str, Any] | None = None  # noqa: N815  the wire's name
    generation_config: dict[str, Any] | None = None
    headgate: dict[str, Any] | None = None


_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)
_COUNTS = {"maxOutputTokens": (1, MOST_TOKENS), "candidateCount": (1, 128)}
_NUMBERS = ("temperature", "topP", "presencePenalty", "frequencyPenalty")


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
    if not model:
        raise InvalidRequest("the model is missing in the path", param="model")
    contents = raw.contents if isinstance(raw.contents, list) else [raw.contents]
    if not contents:
        raise InvalidRequest("contents must be a list with at least one content", param="contents")
    if len(contents) > MOST_CONTENTS:
        raise InvalidRequest(f"more than {MOST_CONTENTS} contents", param="contents")
    config = raw.generationConfig or raw.generation_config or {}
    _check_config(config)
    media, bulk = _media(body)
    return Peek(
        model=model,
        stream=bool(stream),
        include_usage=True,
        max_tokens=get(config, "maxOutputTokens"),
        n=get(config, "candidateCount") or 1,
        needs=_needs(raw, config, body),
        input_bound=input_bound(max(len(body) - bulk, 0), len(contents), media),
        spliceable=raw.headgate is None,
        multi_turn=any(isinstance(c, _Content) and c.role == "model" for c in contents),
        options=raw.headgate,
    )


def _check_config(config: dict[str, Any]) -> None:
    for name, (least, most) in _COUNTS.items():
        value = get(config, name)
        if value is not None and (not isinstance(value, int) or not least <= value <= most):
            raise InvalidRequest(f"{name} must be between {least} and {most}", param=f"generationConfig.{name}")
    for name in _NUMBERS:
        value = get(config, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidRequest(f"{name} must be a number", param=f"generationConfig.{name}")


def _explain(body: bytes, error: Exception) -> InvalidRequest:
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequest(f"the request body is not valid JSON: {error}")
    text = str(error)
    if "missing required field `contents`" in text:
        return InvalidRequest("contents is missing", param="contents")
    if text.startswith("Expected `object`, got") and "at `$" not in text:
        return InvalidRequest("the request body must be a JSON object")
    try:
        decode(body)
    except InvalidRequest as other:
        return other
    return invalid(error)


def _media(body: bytes) -> tuple[int, int]:
    """(number of media, bytes of base64 in them)."""
    count = bulk = 0
    for mark in (b'"inlineData"', b'"inline_data"'):
        at = body.find(mark)
        while at >= 0:
            start = body.find(b'"data"', at)
            start = body.find(b'"', start + 6) if start >= 0 else -1
            end = body.find(b'"', start + 1) if start >= 0 else -1
            bulk += max(end - start, 0)
            count += 1
            at = body.find(mark, max(end, at + 8))
    return count + body.count(b'"fileData"') + body.count(b'"file_data"'), bulk


def _needs(raw: Any, config: dict[str, Any], body: bytes) -> frozenset[str]:
    needs: set[str] = set()
    if (
        len(raw.tools) > 4
        and b"unction" in body
        and (b'"functionDeclarations"' in body or b'"function_declarations"' in body)
    ):
        needs.add("tools")
    if get(config, "responseSchema") or get(config, "responseJsonSchema"):
        needs.add("json_schema")
    elif get(config, "responseMimeType") == "application/json":
        needs.add("json_object")
    if get(config, "responseLogprobs"):
        needs.add("logprobs")
    if (get(config, "candidateCount") or 1) > 1:
        needs.add("n")
    if b'"inlineData"' in body or b'"inline_data"' in body or b'"fileData"' in body or b'"file_data"' in body:
        for mark, need in (
            (b"image/", "vision"),
            (b"audio/", "audio"),
            (b"video/", "video"),
            (b"application/pdf", "documents"),
        ):
            if mark in body:
                needs.add(need)
    return frozenset(needs)
