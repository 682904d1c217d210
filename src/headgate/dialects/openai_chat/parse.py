"""A chat request's JSON → core."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningOptions,
    Refusal,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Video,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.residue import extension, leftover

NAME = "openai_chat"
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MOST_MESSAGES = 20_000
_MESSAGE = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "function_call"})
_REASONING_FIELDS = ("reasoning_content", "reasoning")
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
    """`body` is a decoded JSON object. Raises InvalidRequest with `param`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    rest = leftover(body, _REQUEST)
    notes: dict[str, Any] = {}
    if isinstance(body.get("stop"), str):
        notes["stop"] = "string"
    if "max_completion_tokens" in body or "max_tokens" in body:
        notes["max"] = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    options = body.get("stream_options") or {}
    if options:
        notes["stream_options"] = options
    if "stream" in body:
        notes["stream"] = True
    request = ChatRequest(
        model=model if model is not None else _string(body.get("model"), "model"),
        messages=[parse_message(message, f"messages[{i}]") for i, message in enumerate(messages)],
        stream=bool(body.get("stream")) if stream is None else stream,
        include_usage=bool(options.get("include_usage")),
        tools=[_tool(tool) for tool in body.get("tools") or []]
        + [_legacy_function(function) for function in body.get("functions") or []],
        tool_choice=_tool_choice(body),
        output=_output(body.get("response_format")),
        reasoning=_reasoning(body),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=_stop(body.get("stop")),
        modalities=body.get("modalities") or [],
        **_plain(body),
    )
    request.extensions = extension(NAME, rest, **notes)
    return request


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    return {key: body.get(key) for key in _PLAIN}


def parse_message(raw: Any, where: str) -> Message:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    role = raw.get("role")
    if role not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(sorted(ROLES))}", param=f"{where}.role")
    if role in ("tool", "function"):
        return _tool_message(raw, where)
    content = raw.get("content")
    parts = _reasoning_parts(raw) + _content(content, where)
    if isinstance(raw.get("refusal"), str):
        parts.append(Refusal(text=raw["refusal"], extensions=extension(NAME, {}, form="field")))
    parts += [parse_call(call) for call in raw.get("tool_calls") or []]
    if isinstance(raw.get("function_call"), dict):
        call = raw["function_call"]
        parts.append(
            ToolCall(
                id=f"call_{call.get('name', '')}",
                name=str(call.get("name", "")),
                arguments=call.get("arguments") or "{}",
                extensions=extension(NAME, leftover(call, frozenset({"name", "arguments"})), form="legacy"),
            )
        )
    form = "string" if isinstance(content, str) else "list" if isinstance(content, list) else None
    return Message(
        role=role,
        content=parts,
        name=raw.get("name"),
        extensions=extension(NAME, leftover(raw, _MESSAGE), form=form, absent=None if "content" in raw else True),
    )


def _tool_message(raw: dict[str, Any], where: str) -> Message:
    content = raw.get("content")
    legacy = raw["role"] == "function"
    name = raw.get("name")
    call_id = str(name or "") if legacy else str(raw.get("tool_call_id") or "")
    form = "string" if isinstance(content, str) else "list" if isinstance(content, list) else None
    result = ToolResult(call_id=call_id, name=name, content=_content(content, where))
    known = _MESSAGE - ({"tool_call_id"} if raw.get("tool_call_id") == "" else set())
    return Message(
        role="tool",
        content=[result],
        extensions=extension(NAME, leftover(raw, known), form=form, legacy=legacy or None),
    )


def _reasoning_parts(raw: dict[str, Any]) -> list[Part]:
    """The text of thinking, for others; this dialect puts the fields back as they came (they stay in the rest)."""
    for field in _REASONING_FIELDS:
        if isinstance(raw.get(field), str) and raw[field]:
            return [Reasoning(text=raw[field], extensions=extension(NAME, {}, form="field"))]
    return []


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
    kind = raw.get("type")
    if kind == "text" and isinstance(raw.get("text"), str):
        cache = raw.get("cache_control")
        return Text(
            text=raw["text"],
            cache=cache,
            extensions=extension(NAME, leftover(raw, frozenset({"type", "text", "cache_control"}))),
        )
    if kind == "image_url" and (found := _url_of(raw.get("image_url"))):
        url, detail, inner, bare = found
        return Image(
            source=source_of(url),
            detail=detail,
            cache=raw.get("cache_control"),
            extensions=extension(
                NAME,
                leftover(raw, frozenset({"type", "image_url", "cache_control"})),
                inner=inner or None,
                bare=bare or None,
                url=url if url.startswith("data:") else None,
            ),
        )
    if kind == "input_audio" and isinstance(raw.get("input_audio"), dict):
        audio = raw["input_audio"]
        return Audio(
            source=Source(data=audio.get("data"), media_type=f"audio/{audio.get('format', 'wav')}"),
            format=audio.get("format"),
            extensions=extension(NAME, leftover(raw, frozenset({"type", "input_audio"}))),
        )
    if kind == "file" and isinstance(raw.get("file"), dict):
        return _file(raw)
    if kind == "video_url" and (found := _url_of(raw.get("video_url"))) and not found[2]:
        return Video(source=source_of(found[0]), extensions=extension(NAME, {}, url=found[0], bare=found[3] or None))
    if kind == "refusal" and isinstance(raw.get("refusal"), str):
        return Refusal(text=raw["refusal"])
    return Opaque(dialect=NAME, data=raw)


def _url_of(value: Any) -> tuple[str, str | None, dict[str, Any], bool] | None:
    """(url, detail, other fields, whether it was a bare string)."""
    if isinstance(value, str):
        return value, None, {}, True
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        return value["url"], value.get("detail"), leftover(value, frozenset({"url", "detail"})), False
    return None


def source_of(url: str) -> Source:
    """A data URL's parts, or the URL."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media_type, _, encoding = head.partition(";")
        if comma and encoding.endswith("base64"):
            return Source(media_type=media_type or None, data=data)
    return Source(url=url)


def _file(raw: dict[str, Any]) -> Part:
    file = raw["file"]
    data = file.get("file_data")
    source = source_of(data) if isinstance(data, str) else Source(file_id=file.get("file_id"))
    return Document(
        source=source,
        name=file.get("filename"),
        extensions=extension(
            NAME,
            leftover(raw, frozenset({"type", "file"})),
            inner=leftover(file, frozenset({"file_data", "filename", "file_id"})) or None,
            data=data,
        ),
    )


def parse_call(raw: Any) -> ToolCall:
    if not isinstance(raw, dict):
        raise InvalidRequest("a tool call must be an object", param="messages.tool_calls")
    if raw.get("type") == "custom":
        custom = raw.get("custom") or {}
        return ToolCall(
            id=str(raw.get("id") or ""),
            name=str(custom.get("name", "")),
            arguments=custom.get("input") or "",
            custom=True,
            extensions=extension(NAME, leftover(raw, frozenset({"id", "type", "custom"}))),
        )
    function = raw.get("function") or {}
    arguments = function.get("arguments")
    extra = (raw.get("extra_content") or {}).get("google") or {}
    return ToolCall(
        id=str(raw.get("id") or ""),
        name=str(function.get("name", "")),
        arguments=arguments if isinstance(arguments, str) and arguments else _text(arguments),
        signature=extra.get("thought_signature"),
        cache=raw.get("cache_control"),
        extensions=extension(
            NAME,
            leftover(raw, frozenset({"id", "type", "function", "cache_control"})),
            inner=leftover(function, frozenset({"name", "arguments"})) or None,
            untyped=None if "type" in raw else True,
            raw=arguments if arguments is not None and not (isinstance(arguments, str) and arguments) else None,
        ),
    )


def _text(arguments: Any) -> str:
    """Some servers send arguments as an object, or nothing at all."""
    from headgate.dialects.jsonio import encode

    return encode(arguments).decode() if isinstance(arguments, dict) else "{}"


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
    function = raw.get("function")
    if isinstance(function, dict) and isinstance(function.get("name"), str):
        untyped = None if "type" in raw else True
        return ToolChoice(mode="named", names=[function["name"]], extensions=extension(NAME, {}, untyped=untyped))
    return ToolChoice(mode="auto", extensions=extension(NAME, {}, raw=raw))


def _output(raw: Any) -> OutputFormat | None:
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
    raise InvalidRequest("response_format.type must be text, json_object or json_schema", param="response_format.type")


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
