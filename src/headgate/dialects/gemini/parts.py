"""Parts of contents, of requests and answers alike: wire → core."""

from __future__ import annotations

import hashlib
from typing import Any

from headgate.core.chat import (
    Audio,
    Document,
    Image,
    Opaque,
    Part,
    Reasoning,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Video,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.gemini.names import NAME, both, forms, get
from headgate.dialects.jsonio import encode
from headgate.dialects.residue import extension, leftover

_KNOWN = both("thoughtSignature", "text", "inlineData", "fileData", "functionCall", "functionResponse")
_MEDIA = both("mimeType", "data", "fileUri")
_WRAPPERS = ("output", "result", "error", "return_value", "content")


class PartReader:
    """Reads the parts of one request or answer in order. Calls that bring no id get one, unique among those of one
    `seed`; results that bring none get that of the first open call of their function.

    Raises InvalidRequest where a known field does not hold what it must.
    """

    def __init__(self, seed: str = "") -> None:
        self._prefix = f"call_{hashlib.blake2s(seed.encode(), digest_size=6).hexdigest()}_" if seed else "call_"
        self._number = 0
        self._open: dict[str, list[str]] = {}

    def part(self, raw: Any, where: str) -> Part:
        if isinstance(raw, str):
            return Text(text=raw, extensions=extension(NAME, {}, bare=True))
        if not isinstance(raw, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        signature = _word(get(raw, "thoughtSignature"), f"{where}.thoughtSignature")
        rest, spelling = leftover(raw, _KNOWN), forms(raw, _KNOWN)
        if raw.get("text") is not None:
            return _text(raw, rest, spelling, signature, where)
        if (call := _object(raw, "functionCall", where)) is not None:
            return self._call(call, rest, spelling, signature, f"{where}.functionCall")
        if (response := _object(raw, "functionResponse", where)) is not None:
            return self._result(response, rest, spelling, signature, f"{where}.functionResponse")
        for field in ("inlineData", "fileData"):
            if (media := _object(raw, field, where)) is not None and not raw.get("thought"):
                return _media(field, media, rest, spelling, signature, f"{where}.{field}")
        return Opaque(dialect=NAME, data=raw)

    def call_id(self, name: str, given: str | None) -> str:
        """The id of the next call of the function `name`: the given one or a new one."""
        self._number += 1
        call_id = given or f"{self._prefix}{self._number}"
        self._open.setdefault(name, []).append(call_id)
        return call_id

    def _call(
        self, call: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None, where: str
    ) -> ToolCall:
        name = _word(call.get("name"), f"{where}.name") or ""
        given = _word(call.get("id"), f"{where}.id")
        arguments = call.get("args")
        if arguments is not None and not isinstance(arguments, dict):
            raise InvalidRequest(f"{where}.args must be an object", param=f"{where}.args")
        return ToolCall(
            id=self.call_id(name, given),
            name=name,
            arguments=encode(arguments or {}).decode(),
            signature=signature,
            extensions=extension(
                NAME,
                rest,
                forms=spelling,
                inner=leftover(call, frozenset({"id", "name", "args"})) or None,
                id=given,
                argless=True if arguments is None else None,
                form="part",
            ),
        )

    def _result(
        self, raw: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None, where: str
    ) -> ToolResult:
        name = _word(raw.get("name"), f"{where}.name") or ""
        call_id = _word(raw.get("id"), f"{where}.id")
        waiting = self._open.get(name, [])
        if call_id in waiting:
            waiting.remove(call_id)
        elif call_id is None:
            call_id = waiting.pop(0) if waiting else f"{self._prefix}{name}"
        response, media = raw.get("response"), raw.get("parts")
        if media is not None and not isinstance(media, list):
            raise InvalidRequest(f"{where}.parts must be a list", param=f"{where}.parts")
        return ToolResult(
            call_id=call_id,
            name=name,
            content=[
                Text(text=result_text(response)),
                *(self.part(part, f"{where}.parts[{i}]") for i, part in enumerate(media or [])),
            ],
            is_error=isinstance(response, dict) and set(response) == {"error"},
            extensions=extension(NAME, rest, forms=spelling, raw=dict(raw), signature=signature, form="part"),
        )


def listed(raw: Any) -> list[Any]:
    """A repeated field: one value alone is taken for a list of it."""
    if raw is None:
        return []
    return raw if isinstance(raw, list) else [raw]


def result_text(response: Any) -> str:
    """A function's response in words: the one string it wraps, or its JSON."""
    if isinstance(response, dict) and len(response) == 1:
        key, value = next(iter(response.items()))
        if key in _WRAPPERS and isinstance(value, str):
            return value
    return encode(response).decode()


def _word(value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{where} must be a string", param=where)
    return value


def _object(raw: dict[str, Any], field: str, where: str) -> dict[str, Any] | None:
    value = get(raw, field)
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"{where}.{field} must be an object", param=f"{where}.{field}")
    return value


def _text(raw: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None, where: str) -> Part:
    text = _word(raw["text"], f"{where}.text") or ""
    if not raw.get("thought"):
        return Text(text=text, signature=signature, extensions=extension(NAME, rest, forms=spelling))
    rest = {key: value for key, value in rest.items() if key != "thought"}
    extensions = extension(NAME, rest, forms=spelling, thought=raw["thought"])
    return Reasoning(text=text, signature=signature, extensions=extensions)


def _media(
    field: str, raw: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None, where: str
) -> Part:
    media_type = _word(get(raw, "mimeType"), f"{where}.mimeType") or ""
    source = Source(media_type=media_type or None)
    if field == "inlineData":
        source.data = _word(raw.get("data"), f"{where}.data") or ""
    else:
        source.url = _word(get(raw, "fileUri"), f"{where}.fileUri") or ""
    extensions = extension(
        NAME,
        rest,
        forms=spelling,
        field=field,
        inner=leftover(raw, _MEDIA) or None,
        inner_forms=forms(raw, _MEDIA),
        signature=signature,
    )
    kind = {"image": Image, "audio": Audio, "video": Video}.get(media_type.partition("/")[0], Document)
    return kind(source=source, extensions=extensions)
