"""Core → a Messages request's JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import (
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
)
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.anthropic_messages.parse import NAME
from headgate.dialects.residue import foreign, notes_of, rest_of

DEFAULT_MAX_TOKENS = 4096
# Effort in OpenAI's words -> thinking budget in tokens; Anthropic's least is 1,024.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768}
_LOST = ("seed", "presence_penalty", "frequency_penalty", "logit_bias")
_MODES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said."""

    def __init__(self, request: ChatRequest, quirks: Quirks) -> None:
        self._request = request
        self._quirks = quirks
        self._own = bool(notes_of(request, NAME).get("own"))
        self.lossy: list[str] = []

    def render(self, model: str) -> dict[str, Any]:
        request, notes = self._request, notes_of(self._request, NAME)
        self._refuse_impossible()
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        out["model"] = model
        self._messages(out)
        if request.max_tokens is not None:
            out["max_tokens"] = request.max_tokens
        elif not self._own:
            out["max_tokens"] = self._quirks.max_output or DEFAULT_MAX_TOKENS
        if request.stream or notes.get("stream"):
            out["stream"] = request.stream
        self._sampling(out)
        if request.stop:
            out["stop_sequences"] = request.stop
        if request.tools:
            out["tools"] = [self._tool(tool) for tool in request.tools]
        self._tool_choice(out)
        self._metadata(out)
        self._output(out)
        self._reasoning(out)
        for key in self._quirks.drop:
            if out.pop(key, None) is not None:
                self.lossy.append(key)
        return out

    def _refuse_impossible(self) -> None:
        request = self._request
        if request.n is not None and request.n > 1:
            raise UnsupportedFeature("this model gives one answer at a time", param="n")
        if request.logprobs:
            raise UnsupportedFeature("this model gives no log probabilities", param="logprobs")
        if any(modality != "text" for modality in request.modalities):
            raise UnsupportedFeature("this model answers in text only", param="modalities")
        if request.output is not None and request.output.kind == "json_object":
            self.lossy.append("json_object")

    def _sampling(self, out: dict[str, Any]) -> None:
        request = self._request
        if request.temperature is not None:
            out["temperature"] = request.temperature
            if not self._own and request.temperature > 1.0:
                out["temperature"] = 1.0  # this format's range ends there
                self.lossy.append("temperature")
        for key in ("top_p", "top_k"):
            if (value := getattr(request, key)) is not None:
                out[key] = value
        self.lossy += [key for key in _LOST if getattr(request, key) is not None]

    # -- messages ----------------------------------------------------------------------------------------------------
    def _messages(self, out: dict[str, Any]) -> None:
        system: list[Message] = []
        turns: list[dict[str, Any]] = []
        open_results = False
        for message in self._request.messages:
            inline = notes_of(message, NAME).get("inline")
            if message.role in ("system", "developer") and not inline:
                if turns:
                    self.lossy.append("system_position")
                system.append(message)
                continue
            blocks = self._blocks(message)
            role = message.role if message.role == "assistant" or inline else "user"
            mergeable = open_results and role == "user" and not message.extensions.get(NAME)
            if mergeable and isinstance(turns[-1]["content"], list) and isinstance(blocks, list):
                turns[-1]["content"] += blocks
            elif blocks or self._own:
                turns.append({**rest_of(message, NAME), "role": role, "content": blocks})
            open_results = message.role == "tool" or (open_results and mergeable)
            if message.name is not None:
                self.lossy.append("name")
        out["messages"] = turns
        self._system(out, system)

    def _system(self, out: dict[str, Any], messages: list[Message]) -> None:
        if not messages:
            return
        parts = [part for message in messages for part in message.content]
        if len(messages) == 1 and notes_of(messages[0], NAME).get("form") == "string" and len(parts) == 1:
            out["system"] = parts[0].text if isinstance(parts[0], Text) else ""
            return
        if notes_of(messages[0], NAME).get("form") is None and all(isinstance(p, Text) and not p.cache for p in parts):
            out["system"] = "\n\n".join(part.text for part in parts if isinstance(part, Text))
            return
        out["system"] = [block for part in parts if (block := self._block(part)) is not None]

    def _blocks(self, message: Message) -> Any:
        form = notes_of(message, NAME).get("form")
        parts = message.content
        if form == "string" and len(parts) == 1 and isinstance(parts[0], Text):
            return parts[0].text
        if form is None and len(parts) == 1 and isinstance(parts[0], Text) and message.role != "tool":
            return parts[0].text
        if form is None:
            parts = [part for part in parts if not (isinstance(part, Text) and not part.text)]
        return [block for part in parts if (block := self._block(part)) is not None]

    def _block(self, part: Part) -> dict[str, Any] | None:
        notes, out = notes_of(part, NAME), rest_of(part, NAME)
        match part:
            case Text():
                out |= {"type": "text", "text": part.text}
                if part.citations:
                    own = [{k: v for k, v in c.items() if k != "kind"} for c in part.citations if c.get("kind") == NAME]
                    if own:
                        out["citations"] = own
                    if len(own) < len(part.citations):
                        self.lossy.append("citations")
            case Image():
                out |= {"type": "image", "source": notes.get("source") or self._source(part.source, "image")}
            case Document():
                out |= {"type": "document", "source": notes.get("source") or self._source(part.source, "document")}
                if part.name is not None:
                    out["title"] = part.name
                if part.context is not None:
                    out["context"] = part.context
            case ToolCall():
                out |= {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part)}
            case ToolResult():
                return self._tool_result(part)
            case Reasoning():
                return self._thinking(part)
            case Refusal():
                out |= {"type": "text", "text": part.text}
            case Opaque():
                if part.dialect == NAME:
                    return part.data
                self.lossy.append(f"opaque:{part.data.get('type', part.dialect)}")
                return None
            case _:
                kind = type(part).__name__.lower()
                raise UnsupportedFeature(f"this model takes no {kind} input", param="messages")
        if isinstance(part, Text | Image | Document | ToolCall) and part.cache is not None:
            out["cache_control"] = part.cache
        return out

    def _thinking(self, part: Reasoning) -> dict[str, Any] | None:
        notes = notes_of(part, NAME)
        if notes.get("redacted"):
            return {"type": "redacted_thinking", "data": part.encrypted or ""}
        if NAME in part.extensions or self._own:
            out = {**rest_of(part, NAME), "type": "thinking", "thinking": part.text}
            if part.signature is not None:
                out["signature"] = part.signature
            return out
        self.lossy.append("reasoning")
        return None

    def _tool_result(self, part: ToolResult) -> dict[str, Any]:
        notes = notes_of(part, NAME)
        out = {**rest_of(part, NAME), "type": "tool_result", "tool_use_id": part.call_id}
        if notes.get("form") == "string" or (not notes and all(isinstance(p, Text) for p in part.content)):
            out["content"] = "".join(p.text for p in part.content if isinstance(p, Text))
        elif notes.get("form") == "list" or part.content:
            out["content"] = [block for p in part.content if (block := self._block(p)) is not None]
        if part.is_error or notes.get("is_error") is not None:
            out["is_error"] = part.is_error
        if part.cache is not None:
            out["cache_control"] = part.cache
        return out

    def _source(self, source: Source, what: str) -> dict[str, Any]:
        if source.data is not None:
            default = "application/pdf" if what == "document" else "image/png"
            return {"type": "base64", "media_type": source.media_type or default, "data": source.data}
        if source.url is not None:
            return {"type": "url", "url": source.url}
        if source.text is not None:
            return {"type": "text", "media_type": "text/plain", "data": source.text}
        raise UnsupportedFeature(f"a {what} by file id of another provider cannot be sent", param="messages")

    # -- the rest ----------------------------------------------------------------------------------------------------
    def _tool(self, tool: Tool) -> dict[str, Any]:
        if tool.vendor is not None:
            if self._own:
                return tool.vendor
            raise UnsupportedFeature(
                f"the server-side tool {tool.name!r} does not exist at this provider", param="tools"
            )
        notes, out = notes_of(tool, NAME), rest_of(tool, NAME)
        out["name"] = tool.name
        out["input_schema"] = tool.schema if tool.schema is not None else {"type": "object", "properties": {}}
        if tool.description is not None:
            out["description"] = tool.description
        if tool.strict is not None and (self._own or tool.strict):
            out["strict"] = tool.strict
        if notes.get("type"):
            out["type"] = notes["type"]
        if tool.cache is not None:
            out["cache_control"] = tool.cache
        return out

    def _tool_choice(self, out: dict[str, Any]) -> None:
        choice, parallel = self._request.tool_choice, self._request.parallel_tool_calls
        if choice is None and (parallel is None or parallel or not self._request.tools):
            return
        wire: dict[str, Any] = {"type": "auto"}
        if choice is not None:
            wire = {**rest_of(choice, NAME), "type": _MODES[choice.mode]}
            if len(choice.names) > 1:
                raise UnsupportedFeature(
                    "this model's choice of tools cannot be narrowed to several", param="tool_choice"
                )
            if choice.names:
                wire["name"] = choice.names[0]
        if parallel is not None and (self._own or not parallel) and wire["type"] != "none":
            wire["disable_parallel_tool_use"] = not parallel
        out["tool_choice"] = wire

    def _metadata(self, out: dict[str, Any]) -> None:
        request = self._request
        if self._own and request.metadata is not None:
            out["metadata"] = request.metadata
        elif request.user is not None:
            out["metadata"] = {"user_id": request.user}
        if not self._own and request.metadata:
            self.lossy.append("metadata")

    def _output(self, out: dict[str, Any]) -> None:
        output = self._request.output
        if output is None or output.kind == "json_object" or (output.kind == "text" and NAME not in output.extensions):
            return
        if not self._quirks.json_schema:
            raise UnsupportedFeature("this model cannot be held to a JSON schema", param="response_format")
        wire = {**rest_of(output, NAME), "type": output.kind}
        if output.schema is not None:
            wire["schema"] = output.schema
        if notes_of(output, NAME).get("where") == "output_format":
            out["output_format"] = wire
        else:
            out["output_config"] = {**out.get("output_config", {}), "format": wire}

    def _reasoning(self, out: dict[str, Any]) -> None:
        options = self._request.reasoning
        if options is None or notes_of(options, NAME).get("own"):
            return
        if options.enabled is False or options.effort in ("none", "minimal"):
            return  # silence is this format's default
        if options.effort is None and options.budget is None and not options.enabled:
            return
        if self._quirks.extra.get("adaptive_thinking"):
            out["thinking"] = {"type": "adaptive"}
            if options.effort:
                out["output_config"] = {**out.get("output_config", {}), "effort": options.effort}
            return
        budget = max(options.budget or BUDGETS.get(options.effort or "medium", 8192), 1024)
        out["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if out["max_tokens"] <= budget:
            out["max_tokens"] += budget  # the budget is part of the maximum here, but not in other formats
        if out.pop("temperature", None) is not None:
            self.lossy.append("temperature")  # thinking allows only the default


def _input(call: ToolCall) -> Any:
    if call.custom:
        return {"input": call.arguments}
    try:
        value = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the arguments of the tool call {call.name!r} are not JSON", param="messages") from error
    return value if isinstance(value, dict) else {"input": value}
