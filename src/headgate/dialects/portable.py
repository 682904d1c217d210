"""What only its own format or some models know, for a provider of another one: parameters, and tools with their calls on
the way back.

    free text (`custom`)   a function of one string named `input`; its calls come back as free text
    namespaces             their functions, under `namespace__name`; calls come back under the namespace
    server-side tools      left out and named in `x-headgate-lossy`; an error where the choice rests on them, or where
                           nothing else is offered

Coding agents offer dozens of tools of which a model needs a few: that a web search of another vendor is missing is said,
not fatal (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec.structs import replace

from headgate.core.asked import SYSTEM
from headgate.core.chat import ChatRequest, Message, Part, Text, Tool, ToolCall
from headgate.core.errors import UnsupportedFeature
from headgate.core.events import ChatAnswer, Event, Finished, ToolCallDelta, ToolCallStarted
from headgate.dialects.jsonio import encode

INPUT = "input"
LONGEST_NAME = 64
"""What OpenAI, Anthropic and Gemini take for a function's name."""
_NAMESPACE = "namespace"


def asks_something(turns: Sequence[dict[str, Any]], messages: Sequence[Message]) -> None:
    """Raises UnsupportedFeature where of `messages`, or of the last one, nothing is left to say: these formats have no
    empty turns, and the answer before it would be gone on with."""
    if not turns:
        raise UnsupportedFeature("this model must be asked something: every message is empty", param="messages")
    last = next((message.role for message in reversed(messages) if message.role not in SYSTEM), None)
    if last == "user" and turns[-1]["role"] != "user":
        raise UnsupportedFeature("nothing of the last message can be said to this model", param="messages")


def without_sampling(
    out: dict[str, Any], request: ChatRequest, patterns: Sequence[str], model: str, *, own: bool
) -> list[str]:
    """Takes temperature and top_p out of what goes to a model that refuses them (`patterns` of names), and says which: what
    others than the client in this very format said. What that said goes on, and the provider answers for it."""
    if not any(fnmatchcase(model, pattern) for pattern in patterns):
        return []
    free = [key for key in ("temperature", "top_p") if key in request.added or not own]
    return [key for key in free if out.pop(key, None) not in (None, 1)]


def portable(request: ChatRequest, *, custom: bool, signed: bool = False) -> tuple[ChatRequest, list[str]]:
    """(request, what was left out) for a format other than the request's own. `custom`: the target has free-text tools;
    `signed`: it takes signatures on words and calls (Gemini's). Raises UnsupportedFeature."""
    lossy: list[str] = [] if signed or not _is_signed(request) else ["reasoning_signature"]
    if not any(tool.vendor is not None or tool.custom for tool in request.tools):
        return (request if custom else _plain_calls(request)), lossy
    tools: list[Tool] = []
    for tool in request.tools:
        if tool.custom:
            tools.append(tool if custom else _function_of(tool))
        elif tool.vendor is None:
            tools.append(tool)
        elif tool.vendor.get("type") == _NAMESPACE and isinstance(tool.vendor.get("tools"), list):
            tools += _unfolded(tool.vendor)
        else:
            lossy.append(f"tools.{tool.name}")
    choice = request.tool_choice
    left_out = {name.removeprefix("tools.") for name in lossy if name.startswith("tools.")}
    if choice is not None and (left_out & set(choice.names) or _chooses_vendor(request)):
        raise UnsupportedFeature("the tool that must be called does not exist at this provider", param="tool_choice")
    if not tools and left_out:
        names = ", ".join(sorted(left_out))
        raise UnsupportedFeature(f"the server-side tool {names} does not exist at this provider", param="tools")
    request = replace(request, tools=tools)
    return (request if custom else _plain_calls(request)), lossy


def _is_signed(request: ChatRequest) -> bool:
    parts = (part for message in request.messages if message.role == "assistant" for part in message.content)
    return any(isinstance(part, Text | ToolCall) and part.signature for part in parts)


class Restorer:
    """Events of an answer whose calls must come back in the form of the request's own tools. Free text is held until its
    JSON is complete."""

    def __init__(self, request: ChatRequest) -> None:
        self._free = {tool.name for tool in request.tools if tool.custom}
        self._folded = _folded_names(request)
        self._held: dict[tuple[int, int], list[str]] = {}

    @staticmethod
    def needed(request: ChatRequest) -> bool:
        return any(t.custom or (t.vendor or {}).get("type") == _NAMESPACE for t in request.tools)

    def feed(self, events: Sequence[Event]) -> list[Event]:
        out: list[Event] = []
        for event in events:
            place = (getattr(event, "choice", 0), getattr(event, "part", 0))
            if isinstance(event, ToolCallStarted):
                out += self._released()
                out.append(self._started(event, place))
            elif isinstance(event, ToolCallDelta) and place in self._held:
                self._held[place].append(event.arguments)
            else:
                if isinstance(event, Finished):
                    out += self._released()
                out.append(event)
        return out

    def close(self) -> list[Event]:
        return self._released()

    def _started(self, event: ToolCallStarted, place: tuple[int, int]) -> ToolCallStarted:
        if event.name in self._free and not event.custom:
            self._held[place] = []
            return replace(event, custom=True)
        if (origin := self._folded.get(event.name)) is not None:
            return replace(event, name=origin[1], extensions=_head(event.extensions, origin))
        return event

    def _released(self) -> list[Event]:
        held, self._held = self._held, {}
        return [ToolCallDelta(free_text("".join(text)), part, choice) for (choice, part), text in held.items()]


def restored(answer: ChatAnswer, request: ChatRequest) -> ChatAnswer:
    """The same for a whole answer."""
    free = {tool.name for tool in request.tools if tool.custom}
    folded = _folded_names(request)

    def back(part: Part) -> Part:
        if not isinstance(part, ToolCall) or part.custom:
            return part
        if part.name in free:
            return replace(part, custom=True, arguments=free_text(part.arguments))
        if (origin := folded.get(part.name)) is not None:
            return replace(part, name=origin[1], extensions=_head(part.extensions, origin))
        return part

    choices = [replace(choice, parts=[back(part) for part in choice.parts]) for choice in answer.choices]
    return replace(answer, choices=choices)


def free_text(arguments: str) -> str:
    """`{"input": "…"}` → the text; whatever else a model wrote stays as it is."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return arguments
    if isinstance(value, dict) and isinstance(value.get(INPUT), str):
        return value[INPUT]
    return value if isinstance(value, str) else arguments


def _function_of(tool: Tool) -> Tool:
    vendor = tool.vendor or {}
    inner: dict[str, Any] = vendor.get("custom") if isinstance(vendor.get("custom"), dict) else vendor  # type: ignore[assignment]
    form = inner.get("format") or {}
    grammar = form.get("definition") or (form.get("grammar") or {}).get("definition")
    hint = "The whole input, as plain text." + (f" It must follow this grammar:\n{grammar}" if grammar else "")
    return Tool(
        name=tool.name,
        description=tool.description or inner.get("description"),
        schema={
            "type": "object",
            "properties": {INPUT: {"type": "string", "description": hint}},
            "required": [INPUT],
            "additionalProperties": False,
        },
    )


def _unfolded(vendor: dict[str, Any]) -> list[Tool]:
    return [
        Tool(name=_joined(vendor, tool), description=tool.get("description"), schema=tool.get("parameters"))
        for tool in vendor["tools"]
        if isinstance(tool, dict) and isinstance(tool.get("name"), str)
    ]


def _joined(vendor: dict[str, Any], tool: dict[str, Any]) -> str:
    return f"{vendor.get('name')}__{tool['name']}"[-LONGEST_NAME:]


def _folded_names(request: ChatRequest) -> dict[str, tuple[str, str]]:
    """function name → (namespace, name within it)."""
    out: dict[str, tuple[str, str]] = {}
    for tool in request.tools:
        vendor = tool.vendor or {}
        if vendor.get("type") == _NAMESPACE and isinstance(vendor.get("tools"), list):
            for inner in vendor["tools"]:
                if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                    out[_joined(vendor, inner)] = (str(vendor.get("name")), inner["name"])
    return out


def _head(extensions: dict[str, dict[str, Any]], origin: tuple[str, str]) -> dict[str, dict[str, Any]]:
    return {**extensions, "openai_responses": {"head": {"namespace": origin[0]}}}


def _plain_calls(request: ChatRequest) -> ChatRequest:
    """Earlier free-text calls as calls of the function that stands for them; those into a namespace by joined name."""

    def plain(part: Part) -> Part:
        if not isinstance(part, ToolCall):
            return part
        if part.custom:
            return ToolCall(id=part.id, name=part.name, arguments=encode({INPUT: part.arguments}).decode())
        space = part.extensions.get("openai_responses", {}).get("head", {}).get(_NAMESPACE)
        return replace(part, name=f"{space}__{part.name}"[-LONGEST_NAME:]) if isinstance(space, str) else part

    if not any(isinstance(part, ToolCall) for message in request.messages for part in message.content):
        return request
    messages: list[Message] = []
    for message in request.messages:
        content = [plain(part) for part in message.content]
        changed = any(new is not old for new, old in zip(content, message.content, strict=True))
        messages.append(replace(message, content=content) if changed else message)
    return replace(request, messages=messages)


def _chooses_vendor(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return choice is not None and any(notes.get("vendor") for notes in choice.extensions.values())
