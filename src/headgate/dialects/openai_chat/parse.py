"""A chat request's JSON → core."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import (
    ChatRequest,
    Message,
    OutputFormat,
    ReasoningOptions,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.openai_chat.parts import NAME, parse_message
from headgate.dialects.residue import extension, leftover

MOST_MESSAGES = 20_000
_PLAIN = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "user",
    "metadata",
    "parallel_tool_calls",
)
_REQUEST = frozenset(
    {
        *_PLAIN,
        "model",
        "messages",
        "stream",
        "stream_options",
        "tools",
        "functions",
        "tool_choice",
        "function_call",
        "response_format",
        "reasoning_effort",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "modalities",
        "headgate",
    }
)


def parse_request(body: dict[str, Any], *, model: str | None, stream: bool | None) -> ChatRequest:
    """`body` is a decoded JSON object that peek let through. Raises InvalidRequest with `param`."""
    rest = leftover(body, _REQUEST)
    output = _output(body.get("response_format"))
    if output is None and body.get("response_format") is not None:
        rest["response_format"] = body["response_format"]
    if body.get("tool_choice") is not None and body.get("function_call") is not None:
        rest["function_call"] = body["function_call"]
    options = body.get("stream_options")
    field = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    maximum = body.get(field)
    if field == "max_completion_tokens" and body.get("max_tokens") is not None:
        rest["max_tokens"] = body["max_tokens"]
    request = ChatRequest(
        model=model if model is not None else _string(body.get("model"), "model"),
        messages=_pair_legacy([parse_message(raw, f"messages[{i}]") for i, raw in enumerate(body["messages"])]),
        stream=bool(body.get("stream")) if stream is None else stream,
        include_usage=bool(options and options.get("include_usage")),
        tools=[_tool(tool) for tool in body.get("tools") or []]
        + [_legacy_function(function) for function in body.get("functions") or []],
        tool_choice=_tool_choice(body),
        output=output,
        reasoning=_reasoning(body),
        max_tokens=None if maximum is None else int(maximum),
        stop=_stop(body.get("stop")),
        modalities=body.get("modalities") or [],
        **_plain(body),
    )
    request.extensions = extension(
        NAME,
        rest,
        stop="string" if isinstance(body.get("stop"), str) else None,
        max=None if maximum is None else field,
        stream_options=options,
        stream=None if body.get("stream") is None else True,
    )
    return request


def _pair_legacy(messages: list[Message]) -> list[Message]:
    """Legacy calls have no ids; the format's rule is that a function's result follows its call. Repeated calls of one
    function are numbered, so that other formats, which insist on ids, can tell them apart."""
    counts: dict[str, int] = {}
    for message in messages:
        for part in message.content:
            if isinstance(part, ToolCall) and part.extensions.get(NAME, {}).get("form") == "legacy":
                counts[part.name] = counts.get(part.name, 0) + 1
                part.id = _legacy_id(part.name, counts)
            elif isinstance(part, ToolResult) and message.extensions.get(NAME, {}).get("legacy"):
                part.call_id = _legacy_id(part.name or "", counts)
    return messages


def _legacy_id(name: str, counts: dict[str, int]) -> str:
    number = counts.get(name, 0)
    return f"call_{name}_{number}" if number > 1 else f"call_{name}"


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in _PLAIN if key in body}


def _tool(raw: Any) -> Tool:
    if not isinstance(raw, dict):
        raise InvalidRequest("a tool must be an object", param="tools")
    function = raw.get("function")
    if isinstance(function, dict) and raw.get("type", "function") == "function":
        return Tool(
            name=_string(function.get("name"), "tools.function.name"),
            description=function.get("description"),
            schema=function.get("parameters"),
            strict=function.get("strict"),
            cache=raw.get("cache_control"),
            extensions=extension(
                NAME,
                leftover(raw, frozenset({"type", "function", "cache_control"})),
                inner=leftover(function, frozenset({"name", "description", "parameters", "strict"})) or None,
                untyped=None if "type" in raw else True,
            ),
        )
    if raw.get("type") == "custom" and isinstance(raw.get("custom"), dict):
        custom = raw["custom"]
        return Tool(
            name=_string(custom.get("name"), "tools.custom.name"),
            description=custom.get("description"),
            custom=True,
            vendor=raw,
        )
    return Tool(name=str(raw.get("type") or raw.get("name") or "tool"), vendor=raw)


def _legacy_function(raw: Any) -> Tool:
    if not isinstance(raw, dict):
        raise InvalidRequest("a function must be an object", param="functions")
    return Tool(
        name=_string(raw.get("name"), "functions.name"),
        description=raw.get("description"),
        schema=raw.get("parameters"),
        extensions=extension(NAME, leftover(raw, frozenset({"name", "description", "parameters"})), legacy=True),
    )


def _tool_choice(body: dict[str, Any]) -> ToolChoice | None:
    raw, legacy = body.get("tool_choice"), False
    if raw is None and body.get("function_call") is not None:
        raw, legacy = body["function_call"], True
    if raw is None:
        return None
    if isinstance(raw, str):
        if raw not in ("auto", "none", "required", "any", "validated"):
            raise InvalidRequest("tool_choice must be auto, none, required or a tool", param="tool_choice")
        mode = "required" if raw == "any" else "auto" if raw == "validated" else raw
        note = raw if raw in ("any", "validated") else None
        return ToolChoice(mode=mode, extensions=extension(NAME, {}, raw=note, legacy=legacy or None))  # type: ignore[arg-type]
    if not isinstance(raw, dict):
        raise InvalidRequest("tool_choice must be a string or an object", param="tool_choice")
    if legacy:
        return ToolChoice(mode="named", names=[str(raw.get("name", ""))], extensions=extension(NAME, {}, legacy=True))
    for kind in ("function", "custom"):
        inner = raw.get(kind)
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            plain = kind == "function" and "type" in raw
            return ToolChoice(
                mode="named", names=[inner["name"]], extensions=extension(NAME, {}, raw=None if plain else raw)
            )
    allowed = raw.get("allowed_tools")
    if isinstance(allowed, dict) and isinstance(allowed.get("tools"), list):
        names = [_allowed(tool) for tool in allowed["tools"]]
        mode = "named" if allowed.get("mode") == "required" else "auto"
        return ToolChoice(mode=mode, names=names, extensions=extension(NAME, {}, raw=raw))
    # A server-side tool: only this format can force it.
    return ToolChoice(mode="named", names=[str(raw.get("type", ""))], extensions=extension(NAME, {}, raw=raw))


def _allowed(tool: Any) -> str:
    inner = tool.get(tool.get("type", "function"), tool) if isinstance(tool, dict) else {}
    return str(inner.get("name", "")) if isinstance(inner, dict) else ""


def _output(raw: Any) -> OutputFormat | None:
    """None also for the kinds that only some servers of this format know."""
    if raw is None:
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
        raise InvalidRequest("response_format must be an object with a type", param="response_format")
    if raw["type"] == "json_schema" and isinstance(raw.get("json_schema"), dict):
        inner = raw["json_schema"]
        return OutputFormat(
            kind="json_schema",
            name=inner.get("name"),
            schema=inner.get("schema"),
            strict=inner.get("strict"),
            description=inner.get("description"),
            extensions=extension(
                NAME,
                leftover(raw, frozenset({"type", "json_schema"})),
                inner=leftover(inner, frozenset({"name", "schema", "strict", "description"})) or None,
            ),
        )
    if raw["type"] in ("text", "json_object"):
        return OutputFormat(kind=raw["type"], extensions=extension(NAME, leftover(raw, frozenset({"type"}))))
    return None  # a server's own kind (grammar, structural_tag): it stays in the rest


def _reasoning(body: dict[str, Any]) -> ReasoningOptions | None:
    if isinstance(body.get("reasoning_effort"), str):
        return ReasoningOptions(effort=body["reasoning_effort"])
    raw = body.get("reasoning")  # OpenRouter's object; it stays in the rest
    if isinstance(raw, dict):
        return ReasoningOptions(
            effort=raw.get("effort"),
            budget=raw.get("max_tokens"),
            enabled=raw.get("enabled"),
            extensions=extension(NAME, {}, form="object"),
        )
    raw = body.get("thinking")  # DeepSeek's and Z.ai's switch; it stays in the rest
    if isinstance(raw, dict):
        return ReasoningOptions(enabled=raw.get("type") != "disabled", extensions=extension(NAME, {}, form="object"))
    return None


def _stop(raw: Any) -> list[str]:
    if raw is None:
        return []
    if isinstance(raw, str):
        return [raw]
    if isinstance(raw, list) and all(isinstance(word, str) for word in raw):
        return raw
    raise InvalidRequest("stop must be a string or a list of strings", param="stop")


def _string(value: Any, param: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{param} must be a string", param=param)
    return value
