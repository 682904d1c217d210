"""Core → a chat request's JSON, for OpenAI and everyone who speaks like it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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
    ToolChoice,
    ToolResult,
    Video,
    text_of,
)
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.openai_chat.parse import NAME
from headgate.dialects.residue import foreign, notes_of, rest_of

_PLAIN = (
    "temperature",
    "top_p",
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


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said."""

    def __init__(self, request: ChatRequest, quirks: Quirks) -> None:
        self._request = request
        self._quirks = quirks
        self._own = NAME in request.extensions or any(NAME in m.extensions for m in request.messages)
        self.lossy: list[str] = []

    def render(self, model: str) -> dict[str, Any]:
        request, notes = self._request, notes_of(self._request, NAME)
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        out["model"] = model
        out["messages"] = [rendered for message in request.messages for rendered in self.messages(message)]
        if request.stream or notes.get("stream"):
            out["stream"] = request.stream
        self._stream_options(out, notes)
        for key in _PLAIN:
            if (value := getattr(request, key)) is not None:
                out[key] = value
        if request.top_k is not None:
            if self._own or "top_k" in self._quirks.extra.get("accepts", ()):
                out["top_k"] = request.top_k
            else:
                self.lossy.append("top_k")
        if request.max_tokens is not None:
            out[notes.get("max") or self._quirks.max_tokens_field] = request.max_tokens
        if request.stop:
            out["stop"] = request.stop[0] if notes.get("stop") == "string" and len(request.stop) == 1 else request.stop
        if request.modalities:
            out["modalities"] = request.modalities
        self._tools(out)
        self._output(out)
        self._reasoning(out)
        for key in self._quirks.drop:
            if out.pop(key, None) is not None:
                self.lossy.append(key)
        return out

    # -- messages ----------------------------------------------------------------------------------------------------
    def messages(self, message: Message) -> Iterable[dict[str, Any]]:
        """One message as one or several: tool results stand alone in this format."""
        notes = notes_of(message, NAME)
        results = [part for part in message.content if isinstance(part, ToolResult)]
        for result in results:
            yield self._tool_message(result, message if len(results) == 1 and message.role == "tool" else None)
        parts = [part for part in message.content if not isinstance(part, ToolResult)]
        if results and not parts:
            return
        out = rest_of(message, NAME)
        role = "user" if message.role == "tool" else message.role
        out["role"] = "system" if role == "developer" and not self._quirks.developer_role else role
        if message.name is not None:
            out["name"] = message.name
        if role == "assistant":
            self._assistant(out, parts, notes)
        else:
            out["content"] = self._content(parts, notes.get("form"))
        if "content" not in out and notes.get("form") is not None:
            out["content"] = [] if notes["form"] == "list" else ""
        yield out

    def _tool_message(self, result: ToolResult, message: Message | None) -> dict[str, Any]:
        out = rest_of(message, NAME) if message is not None else {}
        notes = notes_of(message, NAME) if message is not None else {}
        if notes.get("legacy"):
            out |= {"role": "function", "name": result.name}
        else:
            out["role"] = "tool"
            if result.call_id or "tool_call_id" not in out:
                out["tool_call_id"] = result.call_id
            if (result.name is not None and NAME in (message.extensions if message else {})) or (
                result.name is not None and message is not None and "form" in notes
            ):
                out["name"] = result.name
        form = notes.get("form")
        if form is None and not all(isinstance(part, Text) for part in result.content):
            texts = [part for part in result.content if isinstance(part, Text)]
            if len(texts) != len(result.content):
                self.lossy.append("tool_result_media")
            out["content"] = text_of(list(texts))
        elif form is None and message is not None and "content" in out:
            pass  # it was null
        else:
            out["content"] = self._content(result.content, form or "string")
        return out

    def _assistant(self, out: dict[str, Any], parts: Sequence[Part], notes: dict[str, Any]) -> None:
        spoken = [p for p in parts if not isinstance(p, ToolCall | Reasoning) and not _is_field(p)]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        thoughts = [part for part in parts if isinstance(part, Reasoning) and not _is_field(part)]
        refusal = next((part for part in parts if isinstance(part, Refusal) and _is_field(part)), None)
        if spoken or notes.get("form"):
            out["content"] = self._content(spoken, notes.get("form"))
        elif "content" not in out and not notes.get("absent"):
            out["content"] = None
        if refusal is not None:
            out["refusal"] = refusal.text
        if thoughts:
            if (field := self._quirks.reasoning_field) and any(t.text for t in thoughts):
                out.setdefault(field, "".join(t.text for t in thoughts))
            else:
                self.lossy.append("reasoning")
        legacy = [call for call in calls if notes_of(call, NAME).get("form") == "legacy"]
        if legacy:
            out["function_call"] = {
                **rest_of(legacy[0], NAME),
                "name": legacy[0].name,
                "arguments": legacy[0].arguments,
            }
        elif calls:
            out["tool_calls"] = [render_call(call, cache=self._own) for call in calls]

    def _content(self, parts: Sequence[Part], form: str | None) -> Any:
        if form != "list" and all(isinstance(part, Text) and not part.cache for part in parts):
            return text_of(parts)
        if form == "string" and all(isinstance(part, Text) for part in parts):
            return text_of(parts)
        return [rendered for part in parts if (rendered := self.part(part)) is not None]

    def part(self, part: Part) -> Any:
        notes = notes_of(part, NAME)
        out = rest_of(part, NAME)
        match part:
            case Text():
                if notes.get("form") == "bare":
                    return part.text
                out |= {"type": "text", "text": part.text}
                if part.citations:
                    self.lossy.append("citations")
                self._cache(out, part.cache)
            case Image():
                url = notes.get("url") or self._url(part.source, "image")
                if notes.get("bare"):
                    return {**out, "type": "image_url", "image_url": url}
                image: dict[str, Any] = {**notes.get("inner", {}), "url": url}
                if part.detail is not None:
                    image["detail"] = part.detail
                out |= {"type": "image_url", "image_url": image}
                self._cache(out, part.cache)
            case Audio():
                if part.source.data is None:
                    raise UnsupportedFeature("audio by reference cannot be sent to this model", param="messages")
                form = part.format or (part.source.media_type or "audio/wav").rpartition("/")[2]
                audio = {"data": part.source.data}
                if part.format is not None or not notes:
                    audio["format"] = form
                out |= {"type": "input_audio", "input_audio": audio}
            case Document():
                return self._document(part, out, notes)
            case Video():
                url = notes.get("url") or self._url(part.source, "video")
                return {"type": "video_url", "video_url": url if notes.get("bare") else {"url": url}}
            case Refusal():
                out |= {"type": "refusal", "refusal": part.text}
            case Opaque():
                if part.dialect == NAME:
                    return part.data
                self.lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
                return None
            case _:
                self.lossy.append(type(part).__name__.lower())
                return None
        return out

    def _document(self, part: Document, out: dict[str, Any], notes: dict[str, Any]) -> dict[str, Any]:
        source = part.source
        file: dict[str, Any] = dict(notes.get("inner", {}))
        if notes.get("data") is not None:
            file["file_data"] = notes["data"]
        elif source.text is not None:
            return {"type": "text", "text": source.text}
        elif source.data is not None:
            file["file_data"] = f"data:{source.media_type or 'application/pdf'};base64,{source.data}"
        elif (source.file_id is not None and NAME in part.extensions) or (not source.url and source.file_id):
            file["file_id"] = source.file_id
        elif source.url is not None:
            raise UnsupportedFeature("documents by URL cannot be sent to this model", param="messages")
        if part.name is not None:
            file["filename"] = part.name
        elif "file_data" in file and not notes:
            file["filename"] = "document"
        return {**out, "type": "file", "file": file}

    def _url(self, source: Source, what: str) -> str:
        if source.url is not None:
            if not self._quirks.image_url:
                raise UnsupportedFeature(f"this model takes {what}s only as data, not by URL", param="messages")
            return source.url
        if source.data is not None:
            return f"data:{source.media_type or 'application/octet-stream'};base64,{source.data}"
        raise UnsupportedFeature(
            f"{what}s by file id of another provider cannot be sent to this model", param="messages"
        )

    def _cache(self, out: dict[str, Any], cache: dict[str, Any] | None) -> None:
        if cache is not None and (self._own or self._quirks.extra.get("cache_control")):
            out["cache_control"] = cache

    # -- the rest ----------------------------------------------------------------------------------------------------
    def _stream_options(self, out: dict[str, Any], notes: dict[str, Any]) -> None:
        options = dict(notes.get("stream_options") or {})
        if self._request.stream and self._quirks.stream_usage == "ask":
            options["include_usage"] = True
        elif self._quirks.stream_usage != "ask" and "include_usage" in options and not self._own:
            options.pop("include_usage")
        if options:
            out["stream_options"] = options

    def _tools(self, out: dict[str, Any]) -> None:
        tools: list[dict[str, Any]] = []
        functions: list[dict[str, Any]] = []
        for tool in self._request.tools:
            if notes_of(tool, NAME).get("legacy"):
                functions.append({**rest_of(tool, NAME), **_function(tool)})
            else:
                tools.append(self._tool(tool))
        if tools:
            out["tools"] = tools
        if functions:
            out["functions"] = functions
        choice = self._request.tool_choice
        if choice is not None:
            legacy = notes_of(choice, NAME).get("legacy")
            out["function_call" if legacy else "tool_choice"] = _choice(choice)

    def _tool(self, tool: Tool) -> dict[str, Any]:
        if tool.vendor is not None:
            if tool.custom and "custom" not in tool.vendor:
                return {"type": "custom", "custom": {k: v for k, v in tool.vendor.items() if k != "type"}}
            if self._own or tool.custom:
                return tool.vendor
            raise UnsupportedFeature(
                f"the server-side tool {tool.name!r} does not exist at this provider", param="tools"
            )
        notes = notes_of(tool, NAME)
        out = rest_of(tool, NAME)
        if not notes.get("untyped"):
            out["type"] = "function"
        out["function"] = {**notes.get("inner", {}), **_function(tool)}
        self._cache(out, tool.cache)
        return out

    def _output(self, out: dict[str, Any]) -> None:
        output = self._request.output
        if output is None:
            return
        wire = {**rest_of(output, NAME), "type": output.kind}
        if output.kind == "json_schema":
            if not self._quirks.json_schema:
                raise UnsupportedFeature("this model cannot be held to a JSON schema", param="response_format")
            inner: dict[str, Any] = dict(notes_of(output, NAME).get("inner", {}))
            inner["name"] = output.name or "answer"
            for key in ("schema", "strict", "description"):
                if (value := getattr(output, key)) is not None:
                    inner[key] = value
            wire["json_schema"] = inner
        out["response_format"] = wire

    def _reasoning(self, out: dict[str, Any]) -> None:
        options = self._request.reasoning
        if options is None or notes_of(options, NAME).get("form") == "object":
            return
        effort = options.effort
        if effort is None and options.budget is not None:
            effort = "low" if options.budget <= 4096 else "medium" if options.budget <= 16384 else "high"
        if effort is None and options.enabled is False:
            effort = "none"
        if effort is not None:
            out["reasoning_effort"] = effort
        elif options.enabled and not self._own:
            self.lossy.append("reasoning")


def render_call(call: ToolCall, *, cache: bool = False) -> dict[str, Any]:
    notes, out = notes_of(call, NAME), rest_of(call, NAME)
    out["id"] = call.id
    if call.custom:
        return {**out, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    if not notes.get("untyped"):
        out["type"] = "function"
    arguments = notes.get("raw", call.arguments)
    out["function"] = {**notes.get("inner", {}), "name": call.name, "arguments": arguments}
    if call.cache is not None and cache:
        out["cache_control"] = call.cache
    return out


def _is_field(part: Part) -> bool:
    return notes_of(part, NAME).get("form") == "field"


def _function(tool: Tool) -> dict[str, Any]:
    out: dict[str, Any] = {"name": tool.name}
    for key, value in (("description", tool.description), ("parameters", tool.schema), ("strict", tool.strict)):
        if value is not None:
            out[key] = value
    return out


def _choice(choice: ToolChoice) -> Any:
    notes = notes_of(choice, NAME)
    if "raw" in notes:
        return notes["raw"]
    if choice.mode != "named":
        return choice.mode
    name = choice.names[0] if choice.names else ""
    if notes.get("legacy"):
        return {"name": name}
    if len(choice.names) > 1:
        tools = [{"type": "function", "function": {"name": n}} for n in choice.names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    out: dict[str, Any] = {"function": {"name": name}}
    return out if notes.get("untyped") else {"type": "function", **out}
