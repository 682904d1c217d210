"""The skim of a generateContent or countTokens body."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headgate.core.bounds import input_bound
from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.gemini.config import values_of
from headgate.dialects.gemini.names import get
from headgate.dialects.gemini.parse import MOST_CONTENTS, ROLES, WRAPPER
from headgate.dialects.jsonio import FORBIDDEN, check_text, decode, invalid

_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]
_ROLES = frozenset(ROLES)
_NOTHING: frozenset[str] = frozenset()
_MEDIUM = re.compile(rb'"(?:inlineData|inline_data|fileData|file_data)"')
_TYPE = re.compile(rb'"(?:mimeType|mime_type)"\s*:\s*"((?:image|audio|video|application)/[^"]{0,60})"')
_BLANK = b"[]{} \t\r\n"
_DATA = re.compile(rb'"data"\s*:\s*"')
_KINDS = {b"image": "vision", b"audio": "audio", b"video": "video"}


class _Content(msgspec.Struct, gc=False):
    role: str | None = None
    parts: msgspec.Raw = msgspec.Raw(b"null")


class _Tool(msgspec.Struct, gc=False):
    functionDeclarations: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815  the wire's name
    function_declarations: msgspec.Raw = msgspec.Raw(b"[]")


class _Fields(msgspec.Struct, kw_only=True):
    contents: list[_Content | str] | _Content | str
    tools: list[_Tool] | _Tool | None = None
    generationConfig: dict[str, Any] | None = None  # noqa: N815
    generation_config: dict[str, Any] | None = None
    headgate: dict[str, Any] | None = None
    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Wrapper(msgspec.Struct):
    """countTokens also takes a whole generateContent request."""

    generateContentRequest: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815
    generate_content_request: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    headgate: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)
_wrappers = msgspec.json.Decoder(_Wrapper)


def peek(body: bytes, *, model: str | None, stream: bool | None) -> Peek:
    check_text(body)
    raw, wrapped = _skim(body)
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")
    if not model:
        raise InvalidRequest("the model is missing in the path", param="model")
    contents = raw.contents if isinstance(raw.contents, list) else [raw.contents]
    multi_turn = _check_contents(contents)
    if raw.generationConfig is not None and raw.generation_config is not None:
        raise InvalidRequest("generationConfig and generation_config are the same field", param="generationConfig")
    config = raw.generationConfig or raw.generation_config or {}
    values = values_of(config) if config else {}
    media = len(_MEDIUM.findall(body)) if b"Data" in body or b"_data" in body else 0
    bulk = _bulk(body) if media else 0
    return Peek(
        model=model,
        stream=bool(stream),
        include_usage=True,
        max_tokens=values.get("max_tokens"),
        n=values.get("n") or 1,
        needs=_needs(raw.tools, config, values, body if media else b""),
        input_bound=input_bound(max(len(body) - bulk, 0), len(contents), media),
        spliceable=raw.headgate is None and raw.model is msgspec.UNSET and not wrapped,
        multi_turn=multi_turn,
        options=raw.headgate,
    )


def _skim(body: bytes) -> tuple[Any, bool]:
    """(the typed skim, whether it is that of a wrapped request)."""
    try:
        return _decoder.decode(body), False
    except RecursionError as error:
        raise InvalidRequest("the request body is nested too deeply") from error
    except msgspec.DecodeError as error:
        if "missing required field `contents`" in str(error) and WRAPPER.encode() in body.replace(b"_c", b"C"):
            return _wrapped(body, error), True
        raise _explain(body, error) from error


def _wrapped(body: bytes, reason: msgspec.DecodeError) -> Any:
    decode(body)
    found = _wrappers.decode(body)
    inner = found.generateContentRequest or found.generate_content_request
    if inner is msgspec.UNSET:
        raise _explain(body, reason)
    try:
        return _decoder.decode(inner)
    except msgspec.DecodeError as error:
        raise _explain(bytes(inner), error) from error


def _check_contents(contents: list[_Content | str]) -> bool:
    """Whether an assistant's turn is among them."""
    if not contents:
        raise InvalidRequest("contents must be a list with at least one content", param="contents")
    if len(contents) > MOST_CONTENTS:
        raise InvalidRequest(f"more than {MOST_CONTENTS} contents", param="contents")
    multi_turn = said = False
    for index, content in enumerate(contents):
        if isinstance(content, str):
            said = True
            continue
        if content.role not in _ROLES:
            where = f"contents[{index}].role"
            raise InvalidRequest(f"{where} must be user or model", param=where)
        if memoryview(content.parts)[:1] not in (b"[", b"{", b"n"):
            where = f"contents[{index}].parts"
            raise InvalidRequest(f"{where} must be a list", param=where)
        said = said or bytes(memoryview(content.parts)[:64]).strip(_BLANK) not in (b"", b"null")
        multi_turn = multi_turn or content.role == "model"
    if not said:
        raise InvalidRequest("contents must hold at least one part", param="contents")
    return multi_turn


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


def _bulk(body: bytes) -> int:
    """Bytes of base64: not text, and not to be counted as tokens."""
    bulk = 0
    at = 0
    while (found := _DATA.search(body, at)) is not None:
        start = found.end()
        end = body.find(b'"', start)
        at = end + 1 if end >= 0 else len(body)
        bulk += max(end - start, 0)
    return bulk


def _needs(tools: Any, config: dict[str, Any], values: dict[str, Any], body: bytes) -> frozenset[str]:
    if tools is None and not config and not body:
        return _NOTHING
    needs: set[str] = set()
    for tool in tools if isinstance(tools, list) else [tools] if tools is not None else []:
        if len(memoryview(tool.functionDeclarations)) > 4 or len(memoryview(tool.function_declarations)) > 4:
            needs.add("tools")
    mime = get(config, "responseMimeType")
    schema = get(config, "responseSchema") or get(config, "responseJsonSchema")
    if mime == "application/json" or (schema and mime is None):
        needs.add("json_schema" if schema else "json_object")
    if values.get("logprobs"):
        needs.add("logprobs")
    if values.get("n", 1) > 1:
        needs.add("n")
    if thinks(get(config, "thinkingConfig")):
        needs.add("reasoning")
    for kind in set(_TYPE.findall(body)) if body else ():
        needs.add(_KINDS.get(kind.partition(b"/")[0], "documents"))
    return frozenset(needs)


def thinks(raw: Any) -> bool:
    """The request wants thinking, rather than saying how little."""
    if not isinstance(raw, dict):
        return False
    budget = get(raw, "thinkingBudget")
    return bool(get(raw, "thinkingLevel")) or bool(get(raw, "includeThoughts")) if budget is None else budget != 0
