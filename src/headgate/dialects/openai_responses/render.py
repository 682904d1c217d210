"""Core → a Responses request's JSON."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import ChatRequest, Message, Text, Tool
from headgate.core.dialect import Quirks
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.openai_responses.items import NAME, render_items
from headgate.dialects.openai_responses.parse import _PLAIN
from headgate.dialects.portable import portable, without_sampling
from headgate.dialects.residue import foreign, notes_of, rest_of

_LOST = ("seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_k")


class RequestRenderer:
    """Renders one request; `lossy` collects what could not be said."""

    def __init__(self, request: ChatRequest, quirks: Quirks) -> None:
        self._request = request
        self._quirks = quirks
        self._notes = notes_of(request, NAME)
        self._own = bool(self._notes.get("own"))
        self.lossy: list[str] = []
        if not self._own:
            self._request, self.lossy = portable(request, custom=quirks.custom_tools)

    def render(self, model: str) -> dict[str, Any]:
        request = self._request
        self._refuse_impossible()
        out = rest_of(request, NAME)
        self.lossy += foreign(request, NAME)
        out["model"] = model
        self._input(out)
        if request.stream or self._notes.get("stream"):
            out["stream"] = request.stream
        for key in _PLAIN:
            if (value := getattr(request, key)) is not None:
                out[key] = value
        if request.max_tokens is not None:
            out["max_output_tokens"] = request.max_tokens
        if request.tools:
            out["tools"] = [self._tool(tool) for tool in request.tools]
        self._tool_choice(out)
        self._text(out)
        self._reasoning(out)
        if not self._own:
            out.setdefault("store", False)  # stateless unless the client asked for state
        self.lossy += [key for key in _LOST if getattr(request, key) is not None]
        patterns = self._quirks.extra.get("no_sampling", ())
        self.lossy += without_sampling(out, request, patterns, model, own=self._own)
        for key in self._quirks.drop:
            if out.pop(key, None) is not None:
                self.lossy.append(key)
        return out

    def _refuse_impossible(self) -> None:
        request = self._request
        if request.n is not None and request.n > 1:
            raise UnsupportedFeature("this model gives one answer at a time", param="n")
        if request.stop:
            raise UnsupportedFeature("this model takes no stop sequences", param="stop")
        if not self._own and (request.logprobs or request.top_logprobs):
            raise UnsupportedFeature("this model gives no log probabilities", param="logprobs")
        if any(modality != "text" for modality in request.modalities):
            raise UnsupportedFeature("this model answers in text only", param="modalities")

    def _input(self, out: dict[str, Any]) -> None:
        items: list[dict[str, Any]] = []
        messages = self._request.messages
        if messages and notes_of(messages[0], NAME).get("instructions"):
            out["instructions"] = "".join(p.text for p in messages[0].content if isinstance(p, Text))
            messages = messages[1:]
        for message in messages:
            items += self._items(message)
        if self._notes.get("string") and len(messages) == 1 and isinstance(messages[0].content[0], Text):
            out["input"] = messages[0].content[0].text
        elif items or not self._notes.get("inputless"):
            out["input"] = items

    def _items(self, message: Message) -> list[dict[str, Any]]:
        if message.name is not None:
            self.lossy.append("name")
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self._quirks.developer_role:
            role = "system"
        plain = all(isinstance(part, Text) and not notes_of(part, NAME) for part in message.content)
        if plain and role != "assistant" and len(message.content) <= 1:
            return [{"role": role, "content": "".join(p.text for p in message.content if isinstance(p, Text))}]
        return render_items(message.content, role, self.lossy, own=self._own)

    def _tool(self, tool: Tool) -> dict[str, Any]:
        if tool.vendor is not None:
            if self._own:
                return tool.vendor
            if tool.custom and isinstance(tool.vendor.get("custom"), dict):
                return {"type": "custom", **tool.vendor["custom"]}
            raise UnsupportedFeature(
                f"the server-side tool {tool.name!r} does not exist at this provider", param="tools"
            )
        notes = notes_of(tool, NAME)
        out: dict[str, Any] = {**rest_of(tool, NAME), "type": "function", "name": tool.name}
        if tool.description is not None:
            out["description"] = tool.description
        if tool.schema is not None or not notes:
            out["parameters"] = tool.schema if tool.schema is not None else {"type": "object", "properties": {}}
        if tool.strict is not None or not notes:
            out["strict"] = bool(tool.strict)  # left out it would mean True here, and False in chat
        return out

    def _tool_choice(self, out: dict[str, Any]) -> None:
        choice = self._request.tool_choice
        if choice is None:
            return
        notes = notes_of(choice, NAME)
        if "raw" in notes:
            out["tool_choice"] = notes["raw"]
        elif choice.mode != "named":
            out["tool_choice"] = choice.mode
        elif len(choice.names) == 1:
            out["tool_choice"] = {"type": "function", "name": choice.names[0]}
        else:
            tools = [{"type": "function", "name": name} for name in choice.names]
            out["tool_choice"] = {"type": "allowed_tools", "mode": "required", "tools": tools}

    def _text(self, out: dict[str, Any]) -> None:
        output = self._request.output
        if output is None:
            if "text" in self._notes:
                out["text"] = self._notes["text"]
            return
        wire: dict[str, Any] = {**rest_of(output, NAME), "type": output.kind}
        if output.kind == "json_schema":
            wire["name"] = output.name or "answer"
            for key in ("schema", "strict", "description"):
                if (value := getattr(output, key)) is not None:
                    wire[key] = value
        out["text"] = {**self._notes.get("text", {}), "format": wire}

    def _reasoning(self, out: dict[str, Any]) -> None:
        options = self._request.reasoning
        if options is None or notes_of(options, NAME).get("own"):
            return
        effort = options.effort
        if effort is None and options.budget is not None:
            effort = "low" if options.budget <= 4096 else "medium" if options.budget <= 16384 else "high"
        if options.enabled is False:
            effort = "none"
        if effort is not None:
            out["reasoning"] = {"effort": effort}
