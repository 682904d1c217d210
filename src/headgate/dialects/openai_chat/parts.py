"""Messages, content parts and tool calls: JSON → core, alike in requests and in answers.

What the vocabulary does not keep travels in `extensions["openai_chat"]`: `rest` (fields as they came) and notes on the
form: form (string | list | legacy | field | images), absent, inner (the rest of a nested object), raw, url, bare, wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Video,
    text_of,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import encode
from headgate.dialects.residue import extension, leftover

NAME = "openai_chat"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where servers put thinking: DeepSeek and its followers; OpenRouter, Groq, Ollama, vLLM of late."""
_MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "function_call"})
_TEXT = frozenset({"type", "text", "cache_control"})
_IMAGE = frozenset({"type", "image_url", "cache_control"})
_CALL = frozenset({"id", "type", "function", "cache_control"})


def parse_message(raw: Any, where: str) -> Message:
    """Raises InvalidRequest with `param`."""
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    role = raw.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(sorted(ROLES))}", param=f"{where}.role")
    if role in ("tool", "function"):
        return _tool_message(raw, where)
    content = raw.get("content")
    parts = reasoning_parts(raw) + _content(content, where)
    if isinstance(raw.get("refusal"), str):
        parts.append(Refusal(text=raw["refusal"], extensions=extension(NAME, {}, form="field")))
    parts += calls_of(raw, f"{where}.tool_calls")
    return Message(
        role=role,
        content=parts,
        name=raw.get("name"),
        extensions=extension(
            NAME, leftover(raw, _MESSAGE), form=form_of(content), absent=None if "content" in raw else True
        ),
    )


def form_of(content: Any) -> str | None:
    return "string" if isinstance(content, str) else "list" if isinstance(content, list) else None


def _tool_message(raw: dict[str, Any], where: str) -> Message:
    content = raw.get("content")
    legacy = raw["role"] == "function"
    name = raw.get("name")
    call_id = f"call_{name or ''}" if legacy else str(raw.get("tool_call_id") or "")
    result = ToolResult(call_id=call_id, name=name, content=_content(content, where))
    known = _MESSAGE - ({"tool_call_id"} if raw.get("tool_call_id") == "" else set())
    return Message(
        role="tool",
        content=[result],
        extensions=extension(
            NAME,
            leftover(raw, known),
            form=form_of(content),
            legacy=legacy or None,
            absent=None if "content" in raw else True,
        ),
    )


def reasoning_parts(raw: Mapping[str, Any]) -> list[Part]:
    """Thinking that stands beside the content. The fields themselves stay in the message's rest; the part remembers what
    it takes to say them again where there is no such rest (an answer that became a turn of a new request)."""
    details = raw.get("reasoning_details")
    details = details if isinstance(details, list) and details else None
    for field in REASONING_FIELDS:
        if isinstance(raw.get(field), str) and raw[field]:
            return [reasoning_field(raw[field], field, details)]
    if details is not None and (text := text_of_details(details)):
        return [reasoning_field(text, None, details)]
    return []


def reasoning_field(text: str, field: str | None, details: list[Any] | None) -> Reasoning:
    return Reasoning(text=text, extensions=extension(NAME, {}, form="field", field=field, details=details))


def text_of_details(details: Any) -> str:
    """The words in `reasoning_details` (OpenRouter's list, which Snowflake and others give alone)."""
    if not isinstance(details, list):
        return ""
    found = [item.get("text") or item.get("summary") for item in details if isinstance(item, dict)]
    return "".join(text for text in found if isinstance(text, str))


def _content(content: Any, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(text=content)]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content must be a string or a list", param=f"{where}.content")
    return [parse_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]


def parse_part(raw: Any, where: str) -> Part:
    if isinstance(raw, str):
        return Text(text=raw, extensions=extension(NAME, {}, form="bare"))
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    match raw.get("type"):
        case "text" if isinstance(raw.get("text"), str):
            rest = leftover(raw, _TEXT)
            return Text(text=raw["text"], cache=raw.get("cache_control"), extensions=extension(NAME, rest))
        case "image_url" if (found := _url_of(raw.get("image_url"))) is not None:
            return _image(raw, *found)
        case "input_audio" if isinstance(raw.get("input_audio"), dict):
            return _audio(raw)
        case "file" if isinstance(raw.get("file"), dict):
            return _file(raw)
        case "video_url" if (found := _url_of(raw.get("video_url"))) is not None and not found[2]:
            source, url = _source(found[0])
            return Video(source=source, extensions=extension(NAME, {}, url=url, bare=found[3] or None))
        case "refusal" if isinstance(raw.get("refusal"), str):
            return Refusal(
                text=raw["refusal"], extensions=extension(NAME, leftover(raw, frozenset({"type", "refusal"})))
            )
        case "thinking" if isinstance(raw.get("thinking"), str | list):
            return Reasoning(text=_thinking(raw["thinking"]), extensions=extension(NAME, {}, wire=raw))
    return Opaque(dialect=NAME, data=raw)


def _thinking(pieces: Any) -> str:
    """Mistral: a list of text parts, or the text."""
    if isinstance(pieces, str):
        return pieces
    return text_of([part for piece in pieces for part in [parse_part(piece, "thinking")]])


def _image(raw: dict[str, Any], url: str, detail: str | None, inner: dict[str, Any], bare: bool) -> Image:
    source, wire = _source(url)
    return Image(
        source=source,
        detail=detail,
        cache=raw.get("cache_control"),
        extensions=extension(NAME, leftover(raw, _IMAGE), inner=inner or None, bare=bare or None, url=wire),
    )


def _audio(raw: dict[str, Any]) -> Part:
    audio = raw["input_audio"]
    form = audio.get("format")
    if not isinstance(audio.get("data"), str) or audio.keys() - {"data", "format"}:
        return Opaque(dialect=NAME, data=raw)
    return Audio(
        source=Source(data=audio["data"], media_type=f"audio/{form or 'wav'}"),
        format=form,
        extensions=extension(NAME, leftover(raw, frozenset({"type", "input_audio"})), unsaid=None if form else True),
    )


def _url_of(value: Any) -> tuple[str, str | None, dict[str, Any], bool] | None:
    """(url, detail, other fields, whether it was a bare string)."""
    if isinstance(value, str):
        return value, None, {}, True
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        return value["url"], value.get("detail"), leftover(value, frozenset({"url", "detail"})), False
    return None


def data_url(source: Source, otherwise: str = "application/octet-stream") -> str:
    return f"data:{source.media_type or otherwise};base64,{source.data}"


def _source(url: str) -> tuple[Source, str | None]:
    """(a data URL's parts, or the URL; the URL itself where the parts would not spell it the same way)."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media_type, _, encoding = head.partition(";")
        if comma and encoding.endswith("base64"):
            source = Source(media_type=media_type or None, data=data)
            return source, None if data_url(source) == url else url
    return Source(url=url), None


def _file(raw: dict[str, Any]) -> Part:
    file = raw["file"]
    data = file.get("file_data")
    source, wire = _source(data) if isinstance(data, str) else (Source(file_id=file.get("file_id")), None)
    if source.url is not None and not source.url.startswith(("http://", "https://")):
        # Base64 without the words of a data URL.
        source, wire = Source(media_type="application/pdf", data=source.url), source.url
    return Document(
        source=source,
        name=file.get("filename"),
        extensions=extension(
            NAME,
            leftover(raw, frozenset({"type", "file"})),
            inner=leftover(file, frozenset({"file_data", "filename"} if data else {"filename", "file_id"})) or None,
            url=wire,
            file=True,
        ),
    )


# -- calls -----------------------------------------------------------------------------------------------------------


def calls_of(message: Mapping[str, Any], where: str) -> list[Part]:
    """Its tool calls; the legacy function_call only where it stands alone and names a function."""
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise InvalidRequest(f"{where} must be a list", param=where)
    if calls:
        return [parse_call(call, where) for call in calls]
    legacy = message.get("function_call")
    if isinstance(legacy, dict) and legacy.get("name"):
        name, arguments = str(legacy["name"]), legacy.get("arguments")
        rest = leftover(legacy, frozenset({"name", "arguments"}))
        raw = None if isinstance(arguments, str) and arguments else arguments
        extensions = extension(NAME, rest, form="legacy", raw=raw)
        return [ToolCall(id=f"call_{name}", name=name, arguments=_arguments(arguments), extensions=extensions)]
    return []


def parse_call(raw: Any, where: str = "tool_calls") -> ToolCall:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where}: a tool call must be an object", param=where)
    if raw.get("type") == "custom" and isinstance(raw.get("custom"), dict):
        custom = raw["custom"]
        return ToolCall(
            id=str(raw.get("id") or ""),
            name=str(custom.get("name") or ""),
            arguments=custom.get("input") or "",
            custom=True,
            extensions=extension(NAME, leftover(raw, frozenset({"id", "type", "custom"}))),
        )
    function = raw.get("function") if isinstance(raw.get("function"), dict) else {}
    assert isinstance(function, dict)
    arguments = function.get("arguments")
    plain = isinstance(arguments, str) and bool(arguments)
    return ToolCall(
        id=str(raw.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=_arguments(arguments),
        signature=signature_of(raw),
        cache=raw.get("cache_control"),
        extensions=extension(
            NAME,
            leftover(raw, _CALL),
            inner=leftover(function, frozenset({"name", "arguments"})) or None,
            untyped=None if "type" in raw else True,
            unsaid=None if "arguments" in function else True,
            raw=None if plain else arguments,
        ),
    )


def signature_of(call: Mapping[str, Any]) -> str | None:
    """Gemini's, as its own endpoint of this format shows it."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) else None


def _arguments(arguments: Any) -> str:
    """Some servers send arguments as an object, or nothing at all."""
    if isinstance(arguments, str) and arguments:
        return arguments
    return encode(arguments).decode() if isinstance(arguments, dict) else "{}"


__all__ = [
    "NAME",
    "REASONING_FIELDS",
    "ROLES",
    "calls_of",
    "data_url",
    "form_of",
    "parse_call",
    "parse_message",
    "parse_part",
    "reasoning_field",
    "reasoning_parts",
    "signature_of",
    "text_of_details",
]
