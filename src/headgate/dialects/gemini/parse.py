"""A generateContent request's JSON → core."""

from __future__ import annotations

from collections import Counter
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
    Source,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Video,
)
from headgate.core.errors import InvalidRequest
from headgate.dialects.gemini.names import NAME, both, forms, get, spelled
from headgate.dialects.jsonio import encode
from headgate.dialects.residue import extension, leftover

MOST_CONTENTS = 20_000
_REQUEST = both("contents", "systemInstruction", "tools", "generationConfig") | {"headgate", "model"}
_PLAIN = {
    "maxOutputTokens": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "stopSequences": "stop",
    "seed": "seed",
    "candidateCount": "n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
_MODES = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}
_EFFORTS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
_SCHEMAS = ("parametersJsonSchema", "parameters")


def parse_request(body: dict[str, Any], *, model: str | None, stream: bool | None) -> ChatRequest:
    """`body` is a decoded JSON object; the model and whether to stream stand in the path."""
    contents = body.get("contents")
    if isinstance(contents, dict | str):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise InvalidRequest("contents must be a list with at least one content", param="contents")
    if len(contents) > MOST_CONTENTS:
        raise InvalidRequest(f"more than {MOST_CONTENTS} contents", param="contents")
    reader = _Contents()
    config = get(body, "generationConfig") or {}
    if not isinstance(config, dict):
        raise InvalidRequest("generationConfig must be an object", param="generationConfig")
    raw_tools = body.get("tools")
    values, notes, output = _config(config)
    rest = leftover(body, _REQUEST)
    choice = _tool_choice(body, rest)
    notes |= {
        "own": True,
        "single": True if isinstance(body.get("contents"), dict | str) else None,
        "tools_single": True if isinstance(raw_tools, dict) else None,
        "forms": forms(body, _REQUEST),
        "config": True if spelled(body, "generationConfig") else None,
    }
    request = ChatRequest(
        model=model if model is not None else str(body.get("model") or ""),
        messages=_system(body) + [reader.message(c, f"contents[{i}]") for i, c in enumerate(contents)],
        stream=bool(stream),
        include_usage=True,
        tools=[tool for i, raw in enumerate(_listed(raw_tools)) for tool in _tools(raw, i)],
        tool_choice=choice,
        output=output,
        reasoning=_reasoning(config),
        modalities=[str(m).lower() for m in get(config, "responseModalities") or []],
        **values,
    )
    request.extensions = extension(NAME, rest, **notes)
    return request


def _listed(raw: Any) -> list[Any]:
    if raw is None:
        return []
    return raw if isinstance(raw, list) else [raw]


def _system(body: dict[str, Any]) -> list[Message]:
    raw = get(body, "systemInstruction")
    if raw is None:
        return []
    if isinstance(raw, str):
        return [Message(role="system", content=[Text(text=raw)], extensions=extension(NAME, {}, bare=True))]
    if not isinstance(raw, dict):
        raise InvalidRequest("systemInstruction must be a content", param="systemInstruction")
    parts = raw.get("parts")
    single = isinstance(parts, dict)
    rest = leftover(raw, frozenset({"parts"}))
    return [
        Message(
            role="system",
            content=[_Contents().part(part, "systemInstruction") for part in _listed(parts)],
            extensions=extension(NAME, rest, single=single or None, form="system"),
        )
    ]


class _Contents:
    """Reads contents in order: calls without ids get one, and answers without ids find theirs by name and order."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._results: Counter[str] = Counter()

    def message(self, raw: Any, where: str) -> Message:
        if isinstance(raw, str):
            return Message(role="user", content=[Text(text=raw)], extensions=extension(NAME, {}, bare=True))
        if not isinstance(raw, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        role, parts = raw.get("role"), raw.get("parts")
        if role not in (None, "user", "model", "function", "system"):
            raise InvalidRequest(f"{where}.role must be user or model", param=f"{where}.role")
        if parts is not None and not isinstance(parts, list | dict):
            raise InvalidRequest(f"{where}.parts must be a list", param=f"{where}.parts")
        return Message(
            role="assistant" if role == "model" else "user",
            content=[self.part(part, f"{where}.parts[{i}]") for i, part in enumerate(_listed(parts))],
            extensions=extension(
                NAME,
                leftover(raw, frozenset({"role", "parts"})),
                role=role if role in ("function", "system") else None,
                roleless=None if "role" in raw else True,
                single=True if isinstance(parts, dict) else None,
                form="content",
            ),
        )

    def part(self, raw: Any, where: str) -> Part:
        if isinstance(raw, str):
            return Text(text=raw, extensions=extension(NAME, {}, bare=True))
        if not isinstance(raw, dict):
            raise InvalidRequest(f"{where} must be an object", param=where)
        signature = get(raw, "thoughtSignature")
        known = both(
            "thoughtSignature", "text", "thought", "inlineData", "fileData", "functionCall", "functionResponse"
        )
        rest, spelling = leftover(raw, known), forms(raw, known)
        if isinstance(raw.get("text"), str):
            extensions = extension(NAME, rest, forms=spelling, thought=raw.get("thought"))
            if raw.get("thought"):
                return Reasoning(text=raw["text"], signature=signature, extensions=extensions)
            return Text(text=raw["text"], signature=signature, extensions=extensions)
        if isinstance(call := get(raw, "functionCall"), dict):
            return self._call(call, rest, spelling, signature)
        if isinstance(response := get(raw, "functionResponse"), dict):
            return self._result(response, rest, spelling, signature)
        for field in ("inlineData", "fileData"):
            if isinstance(media := get(raw, field), dict):
                return _media(field, media, rest, spelling, signature)
        return Opaque(dialect=NAME, data=raw)

    def _call(self, call: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None) -> ToolCall:
        name = str(call.get("name") or "")
        self._calls[name] += 1
        return ToolCall(
            id=call.get("id") or invented(name, self._calls[name]),
            name=name,
            arguments=encode(call.get("args") or {}).decode(),
            signature=signature,
            extensions=extension(
                NAME,
                rest,
                forms=spelling,
                inner=leftover(call, frozenset({"id", "name", "args"})) or None,
                id=call.get("id"),
                argless=None if "args" in call else True,
                form="part",
            ),
        )

    def _result(self, raw: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None) -> ToolResult:
        name = str(raw.get("name") or "")
        self._results[name] += 1
        response = raw.get("response")
        return ToolResult(
            call_id=raw.get("id") or invented(name, self._results[name]),
            name=name,
            content=[Text(text=result_text(response))]
            + [self.part(p, "functionResponse") for p in raw.get("parts") or []],
            is_error=isinstance(response, dict) and set(response) == {"error"},
            extensions=extension(
                NAME, rest, forms=spelling, raw={k: v for k, v in raw.items()}, signature=signature, form="part"
            ),
        )


def invented(name: str, number: int) -> str:
    """The id of the number-th call of a function whose provider gives none."""
    return f"call_{name}_{number}"


def result_text(response: Any) -> str:
    """A function's response in words: the one string it wraps, or its JSON."""
    if isinstance(response, dict) and len(response) == 1:
        key, value = next(iter(response.items()))
        if key in ("output", "result", "error", "return_value", "content") and isinstance(value, str):
            return value
    return encode(response).decode()


def _media(field: str, raw: dict[str, Any], rest: dict[str, Any], spelling: Any, signature: str | None) -> Part:
    media_type = str(get(raw, "mimeType") or "")
    source = Source(media_type=media_type or None)
    if field == "inlineData":
        source.data = raw.get("data")
    else:
        source.url = get(raw, "fileUri")
    known = both("mimeType", "data", "fileUri")
    extensions = extension(
        NAME,
        rest,
        forms=spelling,
        field=field,
        inner=leftover(raw, known) or None,
        inner_forms=forms(raw, known),
        signature=signature,
    )
    kind = {"image": Image, "audio": Audio, "video": Video}.get(media_type.partition("/")[0], Document)
    return kind(source=source, extensions=extensions)


def _tools(raw: Any, group: int) -> list[Tool]:
    if not isinstance(raw, dict):
        raise InvalidRequest("a tool must be an object", param="tools")
    out: list[Tool] = []
    field = spelled(raw, "functionDeclarations")
    for function in (raw.get(field) or []) if field else []:
        key = next((s for name in _SCHEMAS if (s := spelled(function, name))), None)
        out.append(
            Tool(
                name=str(function.get("name") or ""),
                description=function.get("description"),
                schema=plain_schema(function[key]) if key else None,
                extensions=extension(
                    NAME,
                    leftover(function, frozenset({"name", "description", key or "parameters"})),
                    group=group,
                    field=field,
                    schema_key=key,
                    schema=function[key] if key else None,
                ),
            )
        )
    for name, value in raw.items():
        if name != field or not value:
            out.append(Tool(name=name, vendor={name: value}, extensions=extension(NAME, {}, group=group)))
    return out


def plain_schema(schema: Any) -> Any:
    """OpenAPI's upper-case types as JSON Schema has them; `nullable` as a type of its own."""
    if isinstance(schema, list):
        return [plain_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: plain_schema(value) for key, value in schema.items()}
    if isinstance(schema.get("type"), str) and schema["type"].isupper():
        out["type"] = schema["type"].lower()
        if out.pop("nullable", False):
            out["type"] = [out["type"], "null"]
    return out


def _tool_choice(body: dict[str, Any], rest: dict[str, Any]) -> ToolChoice | None:
    key = spelled(body, "toolConfig")
    raw = body.get(key) if key else None
    if key is None or not isinstance(raw, dict):
        return None
    calling = get(raw, "functionCallingConfig")
    if not isinstance(calling, dict):
        return None
    rest.pop(key, None)
    mode = _MODES.get(str(calling.get("mode") or "AUTO").upper())
    if mode is None:
        raise InvalidRequest("functionCallingConfig.mode must be AUTO, ANY, NONE or VALIDATED", param="toolConfig")
    names = get(calling, "allowedFunctionNames") or []
    mode = "named" if mode == "required" and names else mode
    return ToolChoice(mode=mode, names=names, extensions=extension(NAME, {}, raw=raw, key=key))  # type: ignore[arg-type]


def _config(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], OutputFormat | None]:
    """(core fields, notes, output format)."""
    values = {ours: get(config, theirs) for theirs, ours in _PLAIN.items()}
    values["stop"] = values["stop"] or []
    known = both(*_PLAIN)
    output = _output(config)
    if output is not None:
        known |= both("responseMimeType", "responseSchema", "responseJsonSchema")
    notes = {"config_rest": leftover(config, known) or None, "config_forms": forms(config, known)}
    return values, notes, output


def _output(config: dict[str, Any]) -> OutputFormat | None:
    mime = get(config, "responseMimeType")
    key = spelled(config, "responseJsonSchema") or spelled(config, "responseSchema")
    if mime != "application/json" and not (key and mime is None):
        return None
    schema = config.get(key) if key else None
    notes = extension(NAME, {}, key=key, schema=schema, mime=spelled(config, "responseMimeType"))
    if schema is None:
        return OutputFormat(kind="json_object", extensions=notes)
    return OutputFormat(kind="json_schema", schema=plain_schema(schema), extensions=notes)


def _reasoning(config: dict[str, Any]) -> ReasoningOptions | None:
    """For other dialects; this one's own field stays in the rest as it came."""
    raw = get(config, "thinkingConfig")
    if not isinstance(raw, dict):
        return None
    budget = get(raw, "thinkingBudget")
    level = get(raw, "thinkingLevel")
    return ReasoningOptions(
        effort=_EFFORTS.get(str(level).upper()) if level else None,
        budget=budget if isinstance(budget, int) and budget > 0 else None,
        enabled=None if budget is None else budget != 0,
        extensions=extension(NAME, {}, own=True),
    )
