"""Core → a generateContent request's JSON."""

from __future__ import annotations

import mimetypes
from typing import Any

import msgspec

from headgate.core.chat import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Video,
)
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.gemini.names import NAME
from headgate.dialects.gemini.parse import _PLAIN
from headgate.dialects.residue import foreign, notes_of, rest_of

# Effort in OpenAI's words -> thinkingBudget in tokens.
BUDGETS = {"none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768}
_LOST = ("user", "metadata", "logit_bias", "parallel_tool_calls")


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said."""

    def __init__(self, request: ChatRequest, quirks: Quirks) -> None:
        self._request = request
        self._quirks = quirks
        self._notes = notes_of(request, NAME)
        self._own = bool(self._notes.get("own"))
        self._names = {part.id: part.name for m in request.messages for part in m.content if isinstance(part, ToolCall)}
        self.lossy: list[str] = []

    def render(self) -> dict[str, Any]:
        request = self._request
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        self._contents(out)
        self._tools(out)
        config = self._config()
        if config or self._notes.get("config"):
            out["generationConfig"] = config
        self.lossy += [key for key in _LOST if getattr(request, key) not in (None, True)]
        for camel, form in (self._notes.get("forms") or {}).items():
            if camel in out:
                out[form] = out.pop(camel)
        return out

    # -- contents ----------------------------------------------------------------------------------------------------
    def _contents(self, out: dict[str, Any]) -> None:
        system: list[Message] = []
        contents: list[Any] = []
        open_results = False
        for message in self._request.messages:
            if message.role in ("system", "developer"):
                if contents:
                    self.lossy.append("system_position")
                system.append(message)
                continue
            if message.name is not None:
                self.lossy.append("name")
            content = self._content(message)
            merge = open_results and not message.extensions.get(NAME) and message.role in ("user", "tool")
            if merge:
                contents[-1]["parts"] += content["parts"]
            elif self._own or content["parts"]:
                contents.append(content)
            open_results = message.role == "tool"
        out["contents"] = contents[0] if self._notes.get("single") else contents
        if system:
            out["systemInstruction"] = self._system(system)

    def _system(self, messages: list[Message]) -> Any:
        parts = [wire for m in messages for part in m.content if (wire := self._part(part)) is not None]
        notes = notes_of(messages[0], NAME)
        if notes.get("bare") and len(messages) == 1:
            return messages[0].content[0].text if isinstance(messages[0].content[0], Text) else ""
        if notes.get("single") and len(parts) == 1:
            return {**rest_of(messages[0], NAME), "parts": parts[0]}
        return {**rest_of(messages[0], NAME), "parts": parts}

    def _content(self, message: Message) -> Any:
        notes = notes_of(message, NAME)
        if notes.get("bare"):
            return message.content[0].text if isinstance(message.content[0], Text) else ""
        parts = [wire for part in message.content if (wire := self._part(part)) is not None]
        out = rest_of(message, NAME)
        if not notes.get("roleless"):
            out["role"] = notes.get("role") or ("model" if message.role == "assistant" else "user")
        if "parts" not in out or parts:
            out["parts"] = parts[0] if notes.get("single") and len(parts) == 1 else parts
        return out

    def _part(self, part: Part) -> Any:
        notes, out = notes_of(part, NAME), rest_of(part, NAME)
        match part:
            case Text():
                if notes.get("bare"):
                    return part.text
                if not part.text and not part.signature and not notes and not self._own:
                    return None
                out["text"] = part.text
                if notes.get("thought") is not None:
                    out["thought"] = notes["thought"]
                if part.citations:
                    self.lossy.append("citations")
                signature = part.signature
            case Refusal():
                out["text"], signature = part.text, None
            case Reasoning():
                if not self._own and NAME not in part.extensions:
                    self.lossy.append("reasoning")
                    return None
                out |= {"text": part.text, "thought": True}
                signature = part.signature
            case ToolCall():
                out["functionCall"], signature = self._call(part, notes), part.signature
            case ToolResult():
                out["functionResponse"], signature = self._result(part, notes), notes.get("signature")
            case Image() | Audio() | Video() | Document():
                if isinstance(part, Document) and part.source.text is not None:
                    return {"text": part.source.text}
                field, media = self._media(part.source, notes)
                out[field], signature = media, notes.get("signature")
            case Opaque():
                if part.dialect == NAME:
                    return part.data
                self.lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
                return None
        if signature:
            out["thoughtSignature"] = signature
        for camel, form in (notes.get("forms") or {}).items():
            if camel in out:
                out[form] = out.pop(camel)
        return out

    def _call(self, part: ToolCall, notes: dict[str, Any]) -> dict[str, Any]:
        out = dict(notes.get("inner", {}))
        out["name"] = part.name
        if not notes.get("argless"):
            try:
                arguments = msgspec.json.decode(part.arguments or "{}")
            except msgspec.DecodeError:
                arguments = {"input": part.arguments}
            out["args"] = arguments if isinstance(arguments, dict) else {"input": arguments}
        if notes.get("id") is not None:
            out["id"] = notes["id"]
        return out

    def _result(self, part: ToolResult, notes: dict[str, Any]) -> dict[str, Any]:
        if "raw" in notes:
            return dict(notes["raw"])
        text = "".join(p.text for p in part.content if isinstance(p, Text))
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            value = text
        response = value if isinstance(value, dict) else {"error" if part.is_error else "output": value}
        out: dict[str, Any] = {"name": part.name or self._names.get(part.call_id) or part.call_id, "response": response}
        media = [self._part(p) for p in part.content if not isinstance(p, Text)]
        if media:
            out["parts"] = media
        return out

    def _media(self, source: Source, notes: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        media = dict(notes.get("inner", {}))
        if source.data is not None or notes.get("field") == "inlineData":
            field = "inlineData"
            media["data"] = source.data
        elif source.url is not None:
            field = "fileData"
            media["fileUri"] = source.url
        else:
            raise UnsupportedFeature("a file by id of another provider cannot be sent to this model", param="messages")
        media_type = source.media_type or (mimetypes.guess_type(source.url)[0] if source.url else None)
        if media_type is not None:
            media["mimeType"] = media_type
        for camel, form in (notes.get("inner_forms") or {}).items():
            if camel in media:
                media[form] = media.pop(camel)
        return field, media

    # -- tools -------------------------------------------------------------------------------------------------------
    def _tools(self, out: dict[str, Any]) -> None:
        groups: dict[int, dict[str, Any]] = {}
        for tool in self._request.tools:
            notes = notes_of(tool, NAME)
            group = groups.setdefault(notes.get("group", -1), {})
            if tool.vendor is not None:
                if not self._own:
                    message = f"the server-side tool {tool.name!r} does not exist at this provider"
                    raise UnsupportedFeature(message, param="tools")
                group.update(tool.vendor)
            else:
                group.setdefault(notes.get("field") or "functionDeclarations", []).append(self._function(tool, notes))
        if groups:
            tools = list(groups.values())
            out["tools"] = tools[0] if self._notes.get("tools_single") else tools
        choice = self._request.tool_choice
        if choice is None:
            return
        own = notes_of(choice, NAME)
        if "raw" in own:
            out[own["key"]] = own["raw"]
            return
        calling: dict[str, Any] = {"mode": {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")}
        if choice.names:
            calling["allowedFunctionNames"] = choice.names
        out["toolConfig"] = {"functionCallingConfig": calling}

    def _function(self, tool: Tool, notes: dict[str, Any]) -> dict[str, Any]:
        out = rest_of(tool, NAME)
        out["name"] = tool.name
        if tool.description is not None:
            out["description"] = tool.description
        if notes.get("schema_key"):
            out[notes["schema_key"]] = notes["schema"]
        elif tool.schema is not None and tool.schema.get("properties") != {}:
            out["parametersJsonSchema"] = tool.schema
        return out

    # -- generationConfig --------------------------------------------------------------------------------------------
    def _config(self) -> dict[str, Any]:
        request = self._request
        out: dict[str, Any] = dict(self._notes.get("config_rest") or {})
        for theirs, ours in _PLAIN.items():
            if (value := getattr(request, ours)) not in (None, []):
                out[theirs] = value
        self._output(out)
        if request.modalities and not self._own and request.modalities != ["text"]:
            out["responseModalities"] = [modality.upper() for modality in request.modalities]
        self._reasoning(out)
        for camel, form in (self._notes.get("config_forms") or {}).items():
            if camel in out:
                out[form] = out.pop(camel)
        return out

    def _output(self, out: dict[str, Any]) -> None:
        output = self._request.output
        if output is None or output.kind == "text":
            return
        notes = notes_of(output, NAME)
        if notes:
            if notes.get("mime"):
                out[notes["mime"]] = "application/json"
            if notes.get("key"):
                out[notes["key"]] = notes.get("schema")
            return
        out["responseMimeType"] = "application/json"
        if output.schema is not None:
            out["responseJsonSchema"] = output.schema

    def _reasoning(self, out: dict[str, Any]) -> None:
        options = self._request.reasoning
        if options is None or notes_of(options, NAME).get("own"):
            return
        budget = options.budget if options.budget is not None else BUDGETS.get(options.effort or "")
        if options.enabled is False:
            budget = 0
        if budget is not None:
            out["thinkingConfig"] = {"thinkingBudget": budget, **({"includeThoughts": True} if budget else {})}
