"""Core → a chat request's JSON, for OpenAI and everyone who speaks like it."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, Tool, ToolChoice
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.openai_chat.parts import NAME
from headgate.dialects.openai_chat.turns import MessageRenderer
from headgate.dialects.portable import portable, without_sampling
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
        if not self._own:
            self._request, self.lossy = portable(request, custom=quirks.custom_tools)

    def render(self, model: str) -> dict[str, Any]:
        request, notes = self._request, notes_of(self._request, NAME)
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        out["model"] = model
        out["messages"] = MessageRenderer(self._quirks, own=self._own, lossy=self.lossy).render(request.messages)
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
            out[max_tokens_field(notes.get("max"), self._quirks)] = request.max_tokens
        if request.stop:
            out["stop"] = request.stop[0] if notes.get("stop") == "string" and len(request.stop) == 1 else request.stop
        if request.modalities:
            out["modalities"] = request.modalities
        self._tools(out)
        self._output(out)
        self._reasoning(out)
        patterns = self._quirks.extra.get("no_sampling", ())
        self.lossy += without_sampling(out, request, patterns, model, own=self._own)
        for key in self._quirks.drop:
            if out.pop(key, None) is not None:
                self.lossy.append(key)
        return out

    # -- groups of fields --------------------------------------------------------------------------------------------------
    def _stream_options(self, out: dict[str, Any], notes: dict[str, Any]) -> None:
        options = dict(notes.get("stream_options") or {})
        if self._request.stream and self._quirks.stream_usage == "ask":
            options["include_usage"] = True
        if options or "stream_options" in notes:
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
                return _custom(tool.vendor)
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
        if tool.cache is not None and (self._own or self._quirks.extra.get("cache_control")):
            out["cache_control"] = tool.cache
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


def max_tokens_field(said: str | None, quirks: Quirks) -> str:
    """The client's own word for the limit, unless the provider knows only the other one."""
    if said is None or quirks.extra.get("rename_max_tokens") or (said, quirks.max_tokens_field) == _NEWER_TO_OLDER:
        return quirks.max_tokens_field
    return said


_NEWER_TO_OLDER = ("max_completion_tokens", "max_tokens")


def _custom(wire: dict[str, Any]) -> dict[str, Any]:
    """A custom tool of the Responses format: flat there, nested here, and its grammar one level deeper."""
    inner = {key: value for key, value in wire.items() if key != "type"}
    form = inner.get("format")
    if isinstance(form, dict) and form.get("type") == "grammar" and "grammar" not in form:
        inner["format"] = {"type": "grammar", "grammar": {k: v for k, v in form.items() if k != "type"}}
    return {"type": "custom", "custom": inner}


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
    if choice.mode != "named" and not choice.names:
        return choice.mode
    name = choice.names[0] if choice.names else ""
    if notes.get("legacy"):
        return {"name": name}
    if len(choice.names) > 1 or choice.mode != "named":
        tools = [{"type": "function", "function": {"name": n}} for n in choice.names]
        mode = "auto" if choice.mode == "auto" else "required"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
    return {"type": "function", "function": {"name": name}}
