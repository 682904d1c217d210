"""A generateContent or countTokens request's JSON → core."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, Message, Text, Tool, ToolChoice
from headgate.core.errors import InvalidRequest
from headgate.dialects.gemini.config import read_config
from headgate.dialects.gemini.names import NAME, both, forms, get, spelled
from headgate.dialects.gemini.parts import PartReader, listed
from headgate.dialects.gemini.schema import plain_schema
from headgate.dialects.residue import extension, leftover

MOST_CONTENTS = 20_000
ROLES = (None, "", "user", "model", "function", "system")
WRAPPER = "generateContentRequest"
_REQUEST = both("contents", "systemInstruction", "tools", "generationConfig") | {"headgate", "model"}
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_SCHEMAS = ("parametersJsonSchema", "parameters")
_FUNCTIONS = "functionDeclarations"


def parse_request(body: dict[str, Any], *, model: str | None, stream: bool | None) -> ChatRequest:
    """`body` is a decoded JSON object; the model and whether to stream stand in the path."""
    wrapper = None if "contents" in body else spelled(body, WRAPPER)
    if wrapper is not None and isinstance(body[wrapper], dict):
        body = body[wrapper]
    contents = _contents(body)
    reader = PartReader()
    config = get(body, "generationConfig") or {}
    if not isinstance(config, dict):
        raise InvalidRequest("generationConfig must be an object", param="generationConfig")
    values, notes = read_config(config)
    raw_tools = listed(body.get("tools"))
    rest = leftover(body, _REQUEST)
    choice = read_choice(body, rest)
    request = ChatRequest(
        model=model if model is not None else str(body.get("model") or ""),
        messages=_system(body) + [read_message(reader, c, f"contents[{i}]") for i, c in enumerate(contents)],
        stream=bool(stream),
        include_usage=True,
        tools=[tool for i, raw in enumerate(raw_tools) for tool in _tools(raw, i)],
        tool_choice=choice,
        **values,
    )
    request.extensions = extension(
        NAME,
        rest,
        own=True,
        wrapper=wrapper,
        wrapped_model=body.get("model") if wrapper is not None else None,
        single=None if isinstance(body["contents"], list) else True,
        tools_single=True if isinstance(body.get("tools"), dict) else None,
        tools_empty={i: raw for i, raw in enumerate(raw_tools) if not any(raw.values())} or None,
        forms=forms(body, _REQUEST),
        config=True if spelled(body, "generationConfig") else None,
        **notes,
    )
    return request


def _contents(body: dict[str, Any]) -> list[Any]:
    contents = body.get("contents")
    if isinstance(contents, dict | str):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise InvalidRequest("contents must be a list with at least one content", param="contents")
    if len(contents) > MOST_CONTENTS:
        raise InvalidRequest(f"more than {MOST_CONTENTS} contents", param="contents")
    return contents


def _system(body: dict[str, Any]) -> list[Message]:
    raw = get(body, "systemInstruction")
    if raw is None:
        return []
    if isinstance(raw, str):
        return [Message(role="system", content=[Text(text=raw)], extensions=extension(NAME, {}, bare=True))]
    if not isinstance(raw, dict):
        raise InvalidRequest("systemInstruction must be a content", param="systemInstruction")
    parts = raw.get("parts")
    reader = PartReader()
    return [
        Message(
            role="system",
            content=[reader.part(part, f"systemInstruction.parts[{i}]") for i, part in enumerate(listed(parts))],
            extensions=extension(
                NAME,
                leftover(raw, frozenset({"parts"})),
                single=True if isinstance(parts, dict) else None,
                partless=True if "parts" not in raw else None,
                form="system",
            ),
        )
    ]


def read_message(reader: PartReader, raw: Any, where: str) -> Message:
    if isinstance(raw, str):
        return Message(role="user", content=[Text(text=raw)], extensions=extension(NAME, {}, bare=True))
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    role, parts = raw.get("role"), raw.get("parts")
    if role not in ROLES:
        raise InvalidRequest(f"{where}.role must be user or model", param=f"{where}.role")
    if parts is not None and not isinstance(parts, list | dict):
        raise InvalidRequest(f"{where}.parts must be a list", param=f"{where}.parts")
    return Message(
        role="assistant" if role == "model" else "user",
        content=[reader.part(part, f"{where}.parts[{i}]") for i, part in enumerate(listed(parts))],
        extensions=extension(
            NAME,
            leftover(raw, frozenset({"role", "parts"})),
            role=role if role in ("", "function", "system") else None,
            roleless=True if role is None else None,
            single=True if isinstance(parts, dict) else None,
            partless=True if parts is None else None,
            form="content",
        ),
    )


def _tools(raw: Any, group: int) -> list[Tool]:
    """The tools of one object: its functions, and each of its other fields as a vendor tool."""
    if not isinstance(raw, dict):
        raise InvalidRequest("a tool must be an object", param="tools")
    out: list[Tool] = []
    field = spelled(raw, _FUNCTIONS)
    functions = listed(raw[field]) if field else []
    single = isinstance(raw[field], dict) if field else False
    for index, function in enumerate(functions):
        out.append(_function(function, f"tools[{group}].{_FUNCTIONS}[{index}]", group, field, single))
    for name, value in raw.items():
        if name != field and value is not None:
            out.append(Tool(name=name, vendor={name: value}, extensions=extension(NAME, {}, group=group)))
    return out


def _function(raw: Any, where: str, group: int, field: str | None, single: bool) -> Tool:
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    name, description = raw.get("name"), raw.get("description")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where}.name is missing", param=f"{where}.name")
    if description is not None and not isinstance(description, str):
        raise InvalidRequest(f"{where}.description must be a string", param=f"{where}.description")
    key = next((s for wire in _SCHEMAS if (s := spelled(raw, wire))), None)
    schema = raw[key] if key else None
    if schema is not None and not isinstance(schema, dict):
        raise InvalidRequest(f"{where}.{key} must be an object", param=f"{where}.{key}")
    return Tool(
        name=name,
        description=description,
        schema=plain_schema(schema),
        extensions=extension(
            NAME,
            leftover(raw, frozenset({"name", "description", key or "parameters"})),
            group=group,
            field=field,
            single=single or None,
            schema_key=key,
            schema=schema,
            form="function",
        ),
    )


def read_choice(body: dict[str, Any], rest: dict[str, Any]) -> ToolChoice | None:
    """Takes toolConfig out of `rest` where it says which functions may be called."""
    key = spelled(body, "toolConfig")
    raw = body.get(key) if key else None
    if key is None or not isinstance(raw, dict):
        return None
    calling = get(raw, "functionCallingConfig")
    if calling is None:
        return None
    if not isinstance(calling, dict):
        raise InvalidRequest("functionCallingConfig must be an object", param="toolConfig")
    rest.pop(key, None)
    mode, names = choice_of(calling)
    return ToolChoice(mode=mode, names=names, extensions=extension(NAME, {}, raw=raw, key=key))


def choice_of(calling: dict[str, Any]) -> tuple[Any, list[str]]:
    """(mode, names) of a functionCallingConfig."""
    given = calling.get("mode")
    number = {0: "AUTO", 1: "AUTO", 2: "ANY", 3: "NONE"}.get(given) if isinstance(given, int) else None
    word = number or str(given or "AUTO").upper()
    mode = _MODES.get("AUTO" if word == "MODE_UNSPECIFIED" else word)
    if mode is None:
        raise InvalidRequest("functionCallingConfig.mode must be AUTO, ANY, NONE or VALIDATED", param="toolConfig")
    names = get(calling, "allowedFunctionNames") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("allowedFunctionNames must be a list of strings", param="toolConfig")
    return ("named" if mode == "required" and names else mode), names
