"""A Messages request's JSON → core, block by block."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import (
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningOptions,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import encode
from headgate.dialects.residue import extension, leftover

NAME = "anthropic_messages"
MOST_MESSAGES = 20_000
MOST_TOKENS = 10**9
_REQUEST = frozenset(
    {
        "model",
        "messages",
        "system",
        "max_tokens",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "tools",
        "tool_choice",
        "metadata",
        "headgate",
    }
)
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "a string"),
    "stream": ((bool,), "true or false"),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
    "top_k": ((int,), "a whole number"),
    "stop_sequences": ((list,), "a list of strings"),
    "tools": ((list,), "a list"),
    "metadata": ((dict,), "an object"),
    "thinking": ((dict,), "an object"),
    "headgate": ((dict,), "an object"),
}
_MODES = {"auto": "auto", "any": "required", "none": "none", "tool": "named"}


def parse_request(body: dict[str, Any], *, model: str | None, stream: bool | None) -> ChatRequest:
    """`body` is a decoded JSON object. Raises InvalidRequest with `param`."""
    _check(body)
    raw = body.get("messages")
    if not isinstance(raw, list) or not raw:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(raw) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    rest = leftover(body, _REQUEST)
    output, rest = _output(rest)
    choice, parallel = _tool_choice(body.get("tool_choice"))
    metadata: dict[str, Any] | None = body.get("metadata")
    user = metadata.get("user_id") if metadata else None
    if metadata is not None and isinstance(user, str):
        metadata = {key: value for key, value in metadata.items() if key != "user_id"} or None
    request = ChatRequest(
        model=model if model is not None else str(body.get("model") or ""),
        messages=_system(body.get("system")) + [parse_message(m, f"messages.{i}") for i, m in enumerate(raw)],
        stream=bool(body.get("stream")) if stream is None else stream,
        include_usage=True,
        tools=[_tool(tool) for tool in body.get("tools") or []],
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output=output,
        reasoning=_reasoning(body),
        max_tokens=body.get("max_tokens"),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        stop=body.get("stop_sequences") or [],
        metadata=metadata,
        user=user if isinstance(user, str) else None,
    )
    request.extensions = extension(NAME, rest, stream=True if body.get("stream") is not None else None, own=True)
    return request


def _check(body: dict[str, Any]) -> None:
    for name, (types, what) in _TYPES.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise InvalidRequest(f"{name} must be {what}", param=name)
    limit = body.get("max_tokens")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MOST_TOKENS):
        raise InvalidRequest(f"max_tokens must be a whole number up to {MOST_TOKENS}", param="max_tokens")
    if not all(isinstance(stop, str) for stop in body.get("stop_sequences") or ()):
        raise InvalidRequest("stop_sequences must be a list of strings", param="stop_sequences")


def _system(raw: Any) -> list[Message]:
    if raw is None:
        return []
    if isinstance(raw, str):
        return [Message(role="system", content=[Text(text=raw)], extensions=extension(NAME, {}, form="string"))]
    if not isinstance(raw, list):
        raise InvalidRequest("system must be a string or a list of blocks", param="system")
    parts = [parse_block(block, "system") for block in raw]
    return [Message(role="system", content=parts, extensions=extension(NAME, {}, form="list"))]


def parse_message(raw: Any, where: str) -> Message:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    role = raw.get("role")
    if role not in ("user", "assistant", "system"):
        raise InvalidRequest(f"{where}.role must be user or assistant", param=f"{where}.role")
    rest = leftover(raw, frozenset({"role", "content"}))
    content = raw.get("content")
    if isinstance(content, str):
        inline = True if role == "system" else None
        extensions = extension(NAME, rest, form="string", inline=inline)
        return Message(role=role, content=[Text(text=content)], extensions=extensions)
    if not isinstance(content, list):
        raise InvalidRequest(f"{where}.content must be a string or a list of blocks", param=f"{where}.content")
    rest.pop("content", None)
    parts = [parse_block(block, f"{where}.content.{i}") for i, block in enumerate(content)]
    inline = True if role == "system" else None
    return Message(role=role, content=parts, extensions=extension(NAME, rest, form="list", inline=inline))


def parse_block(raw: Any, where: str) -> Part:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    cache = raw.get("cache_control")
    match raw.get("type"):
        case "text" if isinstance(raw.get("text"), str):
            citations = [{"kind": NAME, **c} for c in raw.get("citations") or [] if isinstance(c, dict)]
            rest = leftover(raw, frozenset({"type", "text", "citations", "cache_control"}))
            return Text(text=raw["text"], citations=citations, cache=cache, extensions=extension(NAME, rest))
        case "image" if isinstance(raw.get("source"), dict):
            rest = leftover(raw, frozenset({"type", "source", "cache_control"}))
            source = _source(raw["source"])
            if source is not None:
                return Image(source=source, cache=cache, extensions=extension(NAME, rest, source=raw["source"]))
        case "document" if isinstance(raw.get("source"), dict):
            rest = leftover(raw, frozenset({"type", "source", "title", "context", "cache_control"}))
            source = _source(raw["source"])
            if source is not None:
                return Document(
                    source=source,
                    name=raw.get("title"),
                    context=raw.get("context"),
                    cache=cache,
                    extensions=extension(NAME, rest, source=raw["source"]),
                )
        case "tool_use":
            rest = leftover(raw, frozenset({"type", "id", "name", "input", "cache_control"}))
            return ToolCall(
                id=str(raw.get("id") or ""),
                name=str(raw.get("name") or ""),
                arguments=encode(raw.get("input") or {}).decode(),
                cache=cache,
                extensions=extension(NAME, rest),
            )
        case "tool_result":
            return _tool_result(raw, where)
        case "thinking" if isinstance(raw.get("thinking"), str):
            rest = leftover(raw, frozenset({"type", "thinking", "signature"}))
            signature = raw.get("signature") if isinstance(raw.get("signature"), str) else None
            return Reasoning(text=raw["thinking"], signature=signature, extensions=extension(NAME, rest, own=True))
        case "redacted_thinking":
            return Reasoning(encrypted=raw.get("data") or "", extensions=extension(NAME, {}, redacted=True))
    return Opaque(dialect=NAME, data=raw)


def _tool_result(raw: dict[str, Any], where: str) -> ToolResult:
    content = raw.get("content")
    parts: list[Part] = []
    if isinstance(content, str):
        parts = [Text(text=content)]
    elif isinstance(content, list):
        parts = [parse_block(block, f"{where}.content.{i}") for i, block in enumerate(content)]
    form = "string" if isinstance(content, str) else "list" if isinstance(content, list) else None
    rest = leftover(raw, frozenset({"type", "tool_use_id", "content", "is_error", "cache_control"}))
    if isinstance(content, list):
        rest.pop("content", None)
    return ToolResult(
        call_id=str(raw.get("tool_use_id") or ""),
        content=parts,
        is_error=bool(raw.get("is_error")),
        cache=raw.get("cache_control"),
        extensions=extension(NAME, rest, own=True, form=form, is_error=raw.get("is_error")),
    )


def _source(raw: dict[str, Any]) -> Source | None:
    match raw.get("type"):
        case "base64":
            return Source(media_type=raw.get("media_type"), data=raw.get("data"))
        case "url":
            return Source(url=raw.get("url"))
        case "file":
            return Source(file_id=raw.get("file_id"))
        case "text":
            return Source(media_type=raw.get("media_type"), text=raw.get("data"))
    return None  # `content`: blocks of their own, only this dialect has them


def _tool(raw: Any) -> Tool:
    if not isinstance(raw, dict) or not isinstance(raw.get("name") or raw.get("type"), str):
        raise InvalidRequest("a tool must be an object with a name", param="tools")
    kind = raw.get("type")
    if "input_schema" in raw and kind in (None, "custom"):
        known = frozenset({"name", "description", "input_schema", "strict", "cache_control", "type"})
        return Tool(
            name=raw.get("name") or "",
            description=raw.get("description"),
            schema=raw["input_schema"],
            strict=raw.get("strict"),
            cache=raw.get("cache_control"),
            extensions=extension(NAME, leftover(raw, known), own=True, type=kind),
        )
    extensions = extension(NAME, {}, own=True)
    return Tool(name=str(raw.get("name") or kind), vendor=raw, cache=raw.get("cache_control"), extensions=extensions)


def _tool_choice(raw: Any) -> tuple[ToolChoice | None, bool | None]:
    if raw is None:
        return None, None
    if not isinstance(raw, dict) or raw.get("type") not in _MODES:
        raise InvalidRequest("tool_choice.type must be auto, any, tool or none", param="tool_choice")
    parallel = raw.get("disable_parallel_tool_use")
    choice = ToolChoice(
        mode=_MODES[raw["type"]],  # type: ignore[arg-type]
        names=[str(raw["name"])] if raw.get("name") else [],
        extensions=extension(NAME, leftover(raw, frozenset({"type", "name", "disable_parallel_tool_use"})), own=True),
    )
    return choice, None if parallel is None else not parallel


def _output(rest: dict[str, Any]) -> tuple[OutputFormat | None, dict[str, Any]]:
    """JSON output, from `output_config.format` or the older `output_format`; the rest without it."""
    config = rest.get("output_config")
    if isinstance(config, dict) and isinstance(config.get("format"), dict):
        rest = {**rest, "output_config": {k: v for k, v in config.items() if k != "format"}}
        return _format(config["format"], "output_config"), rest
    if isinstance(rest.get("output_format"), dict):
        rest = dict(rest)
        return _format(rest.pop("output_format"), "output_format"), rest
    return None, rest


def _format(raw: dict[str, Any], where: str) -> OutputFormat:
    known = frozenset({"type", "schema"})
    kind = "json_schema" if raw.get("type") == "json_schema" else "text"
    extensions = extension(NAME, leftover(raw, known), where=where)
    return OutputFormat(kind=kind, schema=raw.get("schema"), extensions=extensions)


def _reasoning(body: dict[str, Any]) -> ReasoningOptions | None:
    """For other dialects; this one's own fields stay in the rest as they came."""
    thinking, config = body.get("thinking"), body.get("output_config")
    effort = config.get("effort") if isinstance(config, dict) else None
    if not isinstance(thinking, dict):
        return None if effort is None else ReasoningOptions(effort=effort, extensions=extension(NAME, {}, own=True))
    return ReasoningOptions(
        effort=effort,
        budget=thinking.get("budget_tokens"),
        enabled=thinking.get("type") != "disabled",
        extensions=extension(NAME, {}, own=True),
    )
