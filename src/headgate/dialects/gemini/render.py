"""Core → a generateContent request's JSON."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, Message, Text, Tool, ToolCall, ToolResult
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.gemini.config import CORE_NAMES, write_config
from headgate.dialects.gemini.names import NAME, camel, get, respell, snake
from headgate.dialects.gemini.parse import choice_of
from headgate.dialects.gemini.schema import plain_schema
from headgate.dialects.gemini.writer import FOREIGN_SIGNATURE, PartWriter
from headgate.dialects.portable import asks_something, portable
from headgate.dialects.residue import foreign, notes_of, rest_of

_LOST = ("user", "metadata", "logit_bias", "parallel_tool_calls")
_EMPTY = frozenset({"type", "properties", "additionalProperties", "required", "$schema", "title", "description"})


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said."""

    def __init__(self, request: ChatRequest, quirks: Quirks) -> None:
        self._request = request
        self._quirks = quirks
        self._notes = notes_of(request, NAME)
        self._own = bool(self._notes.get("own"))
        lossy: list[str] = []
        if not self._own:
            request, lossy = portable(request, custom=False, signed=True)
            self._request = request
        calls = [part for m in request.messages for part in m.content if isinstance(part, ToolCall)]
        self._order = {call.id: number for number, call in enumerate(calls)}
        names = {call.id: call.name for call in calls}
        self._writer = PartWriter(answer=False, names=names, urls=quirks.image_url)
        self.lossy = self._writer.lossy
        self.lossy += lossy

    def render(self) -> dict[str, Any]:
        request = self._request
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        self._contents(out)
        self._tools(out)
        self._choice(out)
        config = write_config(request, self._quirks, self.lossy)
        if config or self._notes.get("config"):
            out["generationConfig"] = config
        self.lossy += [key for key in _LOST if getattr(request, key) not in (None, True)]
        self._drop(out, config)
        respell(out, self._notes.get("forms"))
        if wrapper := self._notes.get("wrapper"):
            if self._notes.get("wrapped_model") is not None:
                out["model"] = self._notes["wrapped_model"]
            return {wrapper: out}
        return out

    def _drop(self, out: dict[str, Any], config: dict[str, Any]) -> None:
        """What this provider rejects, under either spelling, at the top or in the configuration."""
        for key in self._quirks.drop:
            names = {key, camel(key), snake(key), CORE_NAMES.get(key, key)}
            for place in (out, config):
                for name in names & place.keys():
                    del place[name]
                    self.lossy.append(key)
        if "generationConfig" in out and not config and not self._notes.get("config"):
            del out["generationConfig"]

    # -- contents ----------------------------------------------------------------------------------------------------
    def _contents(self, out: dict[str, Any]) -> None:
        system: list[Message] = []
        turns: list[Any] = []
        for message in self._turns(system):
            if message.name is not None:
                self.lossy.append("name")
            content = self._content(message)
            if self._own or content["parts"]:
                turns.append(content)
        if not turns and system and not self._own:
            turns.append({"role": "user", "parts": self._parts(system.pop())})  # the format insists on a turn
            self.lossy.append("system_position")
        if not self._own:
            asks_something(turns, self._request.messages)
        out["contents"] = turns[0] if self._notes.get("single") and len(turns) == 1 else turns
        if system:
            out["systemInstruction"] = self._system(system)

    def _turns(self, system: list[Message]) -> list[Message]:
        """The conversation with its system messages put into `system`, and with all the results of one turn's calls
        in one message: the format wants as many results as there were calls."""
        turns: list[Message] = []
        open_results = False
        for message in self._request.messages:
            if message.role in ("system", "developer"):
                if turns:
                    self.lossy.append("system_position")
                system.append(message)
            elif open_results and message.role in ("user", "tool") and not message.extensions.get(NAME):
                turns[-1] = Message(role="user", content=[*turns[-1].content, *message.content], name=message.name)
            else:
                turns.append(message)
                open_results = message.role == "tool"
        return turns

    def _system(self, messages: list[Message]) -> Any:
        first = messages[0]
        notes = notes_of(first, NAME)
        if notes.get("bare") and len(messages) == 1:
            return first.content[0].text if first.content and isinstance(first.content[0], Text) else ""
        parts = [wire for message in messages for wire in self._parts(message)]
        if notes.get("partless") and not parts:
            return rest_of(first, NAME)
        return {**rest_of(first, NAME), "parts": parts[0] if notes.get("single") and len(parts) == 1 else parts}

    def _content(self, message: Message) -> Any:
        notes = notes_of(message, NAME)
        if notes.get("bare"):
            return message.content[0].text if message.content and isinstance(message.content[0], Text) else ""
        parts = self._parts(message)
        out = rest_of(message, NAME)
        if not notes.get("roleless"):
            given = notes.get("role")
            out["role"] = given if given is not None else "model" if message.role == "assistant" else "user"
        if parts or not notes.get("partless"):
            out["parts"] = parts[0] if notes.get("single") and len(parts) == 1 else parts
        return out

    def _parts(self, message: Message) -> list[Any]:
        parts = message.content
        if not self._own:
            parts = [p for p in parts if not (isinstance(p, Text) and not p.text and not p.signature)]
        if not message.extensions.get(NAME) and any(isinstance(p, ToolResult) for p in parts):
            # Results first, in the order of their calls: where ids are missing only that tells them apart.
            parts = sorted(
                parts, key=lambda p: self._order.get(p.call_id, -1) if isinstance(p, ToolResult) else len(self._order)
            )
        out = [wire for part in parts if (wire := self._writer.part(part)) is not None]
        if message.role == "assistant" and not self._own:
            _sign(out)
        return out

    # -- tools -------------------------------------------------------------------------------------------------------
    def _tools(self, out: dict[str, Any]) -> None:
        groups: dict[int, dict[str, Any]] = {}
        for tool in self._request.tools:
            notes = notes_of(tool, NAME)
            group = groups.setdefault(notes.get("group", -1), {})
            if tool.vendor is not None:
                if NAME not in tool.extensions:
                    kind = "free-text" if tool.custom else "server-side"
                    message = f"the {kind} tool {tool.name!r} does not exist at this provider"
                    raise UnsupportedFeature(message, param="tools")
                group.update(tool.vendor)
            elif notes.get("single"):
                group[notes["field"]] = self._function(tool, notes)
            else:
                group.setdefault(notes.get("field") or "functionDeclarations", []).append(self._function(tool, notes))
        for index, raw in (self._notes.get("tools_empty") or {}).items():
            groups[int(index)] = raw
        if groups:
            tools = [group for _, group in sorted(groups.items())]
            out["tools"] = tools[0] if self._notes.get("tools_single") and len(tools) == 1 else tools

    def _function(self, tool: Tool, notes: dict[str, Any]) -> dict[str, Any]:
        out = rest_of(tool, NAME)
        out["name"] = tool.name
        if tool.description is not None:
            out["description"] = tool.description
        key = notes.get("schema_key")
        if key and plain_schema(notes.get("schema")) == tool.schema:
            out[key] = notes.get("schema")
        elif tool.schema is not None and not _takes_nothing(tool.schema):
            out["parametersJsonSchema"] = tool.schema
        if tool.strict:
            self.lossy.append("strict")
        return out

    def _choice(self, out: dict[str, Any]) -> None:
        choice = self._request.tool_choice
        if choice is None:
            return
        notes = notes_of(choice, NAME)
        raw: dict[str, Any] = notes.get("raw") or {}
        if raw and choice_of(get(raw, "functionCallingConfig") or {}) == (choice.mode, choice.names):
            out[notes["key"]] = raw
            return
        if not self._own and not any(tool.vendor is None for tool in self._request.tools):
            return  # nothing to choose from: the format rejects a choice then
        calling: dict[str, Any] = {"mode": {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")}
        if choice.names:
            calling["allowedFunctionNames"] = choice.names
            if choice.mode == "auto":
                calling["mode"] = "VALIDATED"  # the one mode that takes names and still lets the model speak
        kept = {key: value for key, value in raw.items() if snake(key) != "function_calling_config"}
        out[notes.get("key") or "toolConfig"] = {**kept, "functionCallingConfig": calling}


def _takes_nothing(schema: dict[str, Any]) -> bool:
    """An object without properties: the format wants no schema at all then."""
    return schema.get("properties") == {} and schema.keys() <= _EMPTY


def _sign(parts: list[Any]) -> None:
    """The first call of a turn must be signed at newer models; calls that others made say so."""
    first = next((part for part in parts if isinstance(part, dict) and "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", FOREIGN_SIGNATURE)
