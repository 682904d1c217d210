"""A Responses request's JSON → core."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, Message, OutputFormat, ReasoningOptions, Text, Tool, ToolChoice
from headgate.core.errors import InvalidRequest
from headgate.dialects.openai_responses.items import NAME, parse_content, parse_item
from headgate.dialects.residue import extension, leftover

MOST_ITEMS = 20_000
_PLAIN = ("temperature", "top_p", "parallel_tool_calls", "metadata", "user", "top_logprobs")
_REQUEST = frozenset(
    {
        *_PLAIN,
        "model",
        "input",
        "instructions",
        "stream",
        "tools",
        "tool_choice",
        "text",
        "max_output_tokens",
        "headgate",
    }
)
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def parse_request(body: dict[str, Any], *, model: str | None, stream: bool | None) -> ChatRequest:
    """`body` is a decoded JSON object. Raises InvalidRequest with `param`."""
    rest = leftover(body, _REQUEST)
    text = body.get("text")
    output = _output(text) if isinstance(text, dict) else None
    request = ChatRequest(
        model=model if model is not None else str(body.get("model") or ""),
        messages=_instructions(body.get("instructions")) + _input(body.get("input")),
        stream=bool(body.get("stream")) if stream is None else stream,
        include_usage=True,
        tools=[_tool(tool) for tool in body.get("tools") or []],
        tool_choice=_tool_choice(body.get("tool_choice")),
        output=output,
        reasoning=_reasoning(body.get("reasoning")),
        max_tokens=body.get("max_output_tokens"),
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        parallel_tool_calls=body.get("parallel_tool_calls"),
        metadata=body.get("metadata"),
        user=body.get("user"),
        top_logprobs=body.get("top_logprobs"),
    )
    request.extensions = extension(
        NAME,
        rest,
        own=True,
        stream=True if "stream" in body else None,
        string=True if isinstance(body.get("input"), str) else None,
        inputless=None if "input" in body else True,
        text={k: v for k, v in text.items() if k != "format" or output is None} if isinstance(text, dict) else None,
    )
    return request


def _instructions(raw: Any) -> list[Message]:
    if raw is None:
        return []
    if not isinstance(raw, str):
        raise InvalidRequest("instructions must be a string", param="instructions")
    return [Message(role="system", content=[Text(text=raw)], extensions=extension(NAME, {}, instructions=True))]


def _input(raw: Any) -> list[Message]:
    if raw is None:
        return []
    if isinstance(raw, str):
        return [Message(role="user", content=[Text(text=raw)])]
    if not isinstance(raw, list):
        raise InvalidRequest("input must be a string or a list of items", param="input")
    if len(raw) > MOST_ITEMS:
        raise InvalidRequest(f"more than {MOST_ITEMS} items", param="input")
    messages: list[Message] = []
    for number, item in enumerate(raw):
        where = f"input[{number}]"
        if not isinstance(item, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        _add(messages, item, number, where)
    return messages


def _add(messages: list[Message], item: dict[str, Any], number: int, where: str) -> None:
    kind, role = item.get("type"), item.get("role")
    if kind in ("message", None) and role in ("user", "system", "developer"):
        messages.append(Message(role=role, content=parse_content(item, number, where)))
        return
    if kind is None and role != "assistant":
        raise InvalidRequest(f"{where} needs a type or a role", param=where)
    parts = parse_item(item, number, where)
    if kind in _RESULTS:
        messages.append(Message(role="tool", content=parts))
    elif messages and messages[-1].role == "assistant":
        messages[-1].content = messages[-1].content + parts
    else:
        messages.append(Message(role="assistant", content=parts))


def _tool(raw: Any) -> Tool:
    if not isinstance(raw, dict):
        raise InvalidRequest("a tool must be an object", param="tools")
    if raw.get("type") == "function" and isinstance(raw.get("name"), str):
        known = frozenset({"type", "name", "description", "parameters", "strict"})
        return Tool(
            name=raw["name"],
            description=raw.get("description"),
            schema=raw.get("parameters"),
            strict=raw.get("strict"),
            extensions=extension(NAME, leftover(raw, known), own=True),
        )
    if raw.get("type") == "custom":
        return Tool(name=str(raw.get("name") or ""), description=raw.get("description"), custom=True, vendor=raw)
    return Tool(name=str(raw.get("type") or "tool"), vendor=raw)


def _tool_choice(raw: Any) -> ToolChoice | None:
    if raw is None:
        return None
    if isinstance(raw, str):
        if raw not in ("auto", "none", "required"):
            raise InvalidRequest("tool_choice must be auto, none, required or a tool", param="tool_choice")
        return ToolChoice(mode=raw)  # type: ignore[arg-type]
    if not isinstance(raw, dict):
        raise InvalidRequest("tool_choice must be a string or an object", param="tool_choice")
    if raw.get("type") in ("function", "custom") and isinstance(raw.get("name"), str):
        return ToolChoice(mode="named", names=[raw["name"]], extensions=extension(NAME, {}, raw=raw))
    if raw.get("type") == "allowed_tools" and isinstance(raw.get("tools"), list):
        names = [str(tool.get("name")) for tool in raw["tools"] if isinstance(tool, dict) and tool.get("name")]
        mode = "named" if raw.get("mode") == "required" and names else "auto"
        return ToolChoice(mode=mode, names=names if mode == "named" else [], extensions=extension(NAME, {}, raw=raw))
    return ToolChoice(mode="auto", extensions=extension(NAME, {}, raw=raw, vendor=True))


def _output(text: dict[str, Any]) -> OutputFormat | None:
    raw = text.get("format")
    if not isinstance(raw, dict):
        return None
    if raw.get("type") == "json_schema":
        known = frozenset({"type", "name", "schema", "strict", "description"})
        return OutputFormat(
            kind="json_schema",
            name=raw.get("name"),
            schema=raw.get("schema"),
            strict=raw.get("strict"),
            description=raw.get("description"),
            extensions=extension(NAME, leftover(raw, known)),
        )
    if raw.get("type") in ("text", "json_object"):
        return OutputFormat(kind=raw["type"], extensions=extension(NAME, leftover(raw, frozenset({"type"}))))
    raise InvalidRequest("text.format.type must be text, json_object or json_schema", param="text.format")


def _reasoning(raw: Any) -> ReasoningOptions | None:
    """For other dialects; this one's own field stays in the rest as it came."""
    if not isinstance(raw, dict):
        return None
    return ReasoningOptions(
        effort=raw.get("effort"), summary=raw.get("summary"), extensions=extension(NAME, {}, own=True)
    )
