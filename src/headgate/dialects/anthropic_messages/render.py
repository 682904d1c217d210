"""Core → a Messages request's JSON."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, OutputFormat, Tool
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.anthropic_messages.blocks import BlockRenderer
from headgate.dialects.anthropic_messages.parse import NAME
from headgate.dialects.anthropic_messages.schema import Open, closed
from headgate.dialects.anthropic_messages.thinking import think
from headgate.dialects.portable import asks_something, portable
from headgate.dialects.residue import foreign, notes_of, rest_of

DEFAULT_MAX_TOKENS = 4096
_LOST = ("seed", "presence_penalty", "frequency_penalty", "logit_bias")
_SAMPLING = ("temperature", "top_p", "top_k")
_MODES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said. `own`: it was parsed from this format."""

    def __init__(self, request: ChatRequest, model: str, quirks: Quirks) -> None:
        self._request = request
        self._model = model
        self._quirks = quirks
        self._own = bool(notes_of(request, NAME).get("own"))
        self.lossy: list[str] = []
        if not self._own:
            self._request, self.lossy = portable(request, custom=False)

    def render(self) -> dict[str, Any]:
        request, notes = self._request, notes_of(self._request, NAME)
        self._refuse_impossible()
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        out["model"] = self._model
        self._messages(out)
        if request.max_tokens is not None:
            out["max_tokens"] = request.max_tokens
        else:
            out["max_tokens"] = self._quirks.max_output or DEFAULT_MAX_TOKENS
        if request.stream or notes.get("stream"):
            out["stream"] = request.stream
        self._sampling(out)
        self._tools(out)
        self._metadata(out)
        self._output(out)
        think(request, out, self._model, self._quirks, self.lossy)
        for key in self._quirks.drop:
            if out.pop(key, None) is not None:
                self.lossy.append(key)
        return out

    def _refuse_impossible(self) -> None:
        request = self._request
        if request.n is not None and request.n > 1:
            raise UnsupportedFeature("this model gives one answer at a time", param="n")
        if request.logprobs or request.top_logprobs:
            raise UnsupportedFeature("this model gives no log probabilities", param="logprobs")
        if any(modality != "text" for modality in request.modalities):
            raise UnsupportedFeature("this model answers in text only", param="modalities")
        if not self._own and any(not stop.strip() for stop in request.stop):
            raise UnsupportedFeature("this model takes no stop sequence of white space alone", param="stop")

    def _messages(self, out: dict[str, Any]) -> None:
        blocks = BlockRenderer(self._quirks, own=self._own, lossy=self.lossy)
        turns, system = blocks.turns(self._request.messages)
        if not turns and system and (last := blocks.system([system.pop()])) is not None:
            # This format wants a question: the last instruction is the nearest to one.
            turns = [{"role": "user", "content": last}]
            self.lossy.append("system_position")
        if not self._own:
            asks_something(turns, self._request.messages)
        if (words := blocks.system(system)) is not None:
            out["system"] = words
        out["messages"] = turns

    # -- parameters --------------------------------------------------------------------------------------------------
    def _sampling(self, out: dict[str, Any]) -> None:
        """What the client said in this format goes on untouched; all else (`free`) as this model takes it."""
        request = self._request
        for key in _SAMPLING:
            if (value := getattr(request, key)) is not None:
                out[key] = value
        if request.stop:
            out["stop_sequences"] = request.stop
        self.lossy += [key for key in _LOST if getattr(request, key) not in (None, {})]
        free = {key for key in _SAMPLING if key in out and (key in request.added or not self._own)}
        if request.top_p == 1 and "top_p" in free:
            del out["top_p"]  # says nothing
        elif "top_p" in out and "temperature" in out and free:  # newer models refuse both at once
            key = "temperature" if "temperature" in request.added or "top_p" not in free else "top_p"
            del out[key]
            self.lossy.append(key)
        if "temperature" in free and out.get("temperature", 0) > 1:
            out["temperature"] = 1.0  # this format's range ends there
            self.lossy.append("temperature")
        if any(fragment in self._model for fragment in self._quirks.extra.get("no_sampling_models", ())):
            self.lossy += [key for key in _SAMPLING if key in free and out.pop(key, None) is not None]

    def _metadata(self, out: dict[str, Any]) -> None:
        request = self._request
        known: dict[str, Any] = dict(request.metadata or {})
        if not self._own and known:
            self.lossy.append("metadata")
            known = {}
        if request.user is not None:
            known["user_id"] = request.user
        if known or (self._own and request.metadata is not None):
            out["metadata"] = known

    # -- tools -------------------------------------------------------------------------------------------------------
    def _tools(self, out: dict[str, Any]) -> None:
        request = self._request
        tools, choice = request.tools, request.tool_choice
        if choice is not None and choice.names and not (choice.mode == "named" and len(choice.names) == 1):
            # A choice among several: only those are offered, which says the same.
            tools = [tool for tool in tools if tool.name in choice.names]
        if tools:
            out["tools"] = [self._tool(tool) for tool in tools]
        self._tool_choice(out, bool(tools))

    def _tool(self, tool: Tool) -> dict[str, Any]:
        if tool.vendor is not None or tool.custom:
            if tool.vendor is not None and NAME in tool.extensions:
                return tool.vendor
            what = "server-side" if tool.vendor is not None and not tool.custom else "free-text"
            raise UnsupportedFeature(f"the {what} tool {tool.name!r} does not exist at this provider", param="tools")
        notes, out = notes_of(tool, NAME), rest_of(tool, NAME)
        out["name"] = tool.name
        schema = tool.schema if tool.schema is not None else {"type": "object", "properties": {}}
        noted = NAME in tool.extensions
        if noted and tool.strict is not None:
            out["strict"] = tool.strict
        elif tool.strict:
            try:
                schema = closed(schema, set())
                out["strict"] = True
            except Open:
                self.lossy.append("strict")
        out["input_schema"] = schema if noted or "type" in schema else {"type": "object", **schema}
        if tool.description is not None:
            out["description"] = tool.description
        if notes.get("type"):
            out["type"] = notes["type"]
        if tool.cache is not None:
            out["cache_control"] = tool.cache
        return out

    def _tool_choice(self, out: dict[str, Any], tools: bool) -> None:
        choice, parallel = self._request.tool_choice, self._request.parallel_tool_calls
        own = choice is not None and NAME in choice.extensions
        if not tools and not own:
            if choice is not None and choice.mode in ("required", "named"):
                raise UnsupportedFeature("a tool can only be chosen among tools", param="tool_choice")
            return
        if choice is None and parallel is not False:
            return
        wire: dict[str, Any] = {"type": "auto"}
        if choice is not None:
            one = choice.mode == "named" and len(choice.names) == 1
            mode = "required" if choice.mode == "named" and not one else choice.mode
            wire = {**rest_of(choice, NAME), "type": _MODES[mode]}
            if one:
                wire["name"] = choice.names[0]
        if parallel is not None and (own or not parallel) and wire["type"] != "none":
            wire["disable_parallel_tool_use"] = not parallel
        out["tool_choice"] = wire

    # -- the form of the answer --------------------------------------------------------------------------------------
    def _output(self, out: dict[str, Any]) -> None:
        output = self._request.output
        if output is None or (output.kind == "text" and NAME not in output.extensions):
            return
        if output.kind == "json_object":
            self.lossy.append("json_object")
            return
        if not self._quirks.json_schema:
            raise UnsupportedFeature("this model cannot be held to a JSON schema", param="response_format")
        wire = {**rest_of(output, NAME), "type": output.kind}
        if output.schema is not None:
            wire["schema"] = output.schema if NAME in output.extensions else self._schema(output)
        if notes_of(output, NAME).get("where") == "output_format":
            out["output_format"] = wire
        else:
            out["output_config"] = {**out.get("output_config", {}), "format": wire}

    def _schema(self, output: OutputFormat) -> Any:
        lost: set[str] = set()
        try:
            schema = closed(output.schema, lost)
        except Open as error:
            raise UnsupportedFeature(
                "this model's JSON output cannot hold objects with free keys", param="response_format"
            ) from error
        self.lossy += [f"json_schema.{key}" for key in sorted(lost)]
        return schema
