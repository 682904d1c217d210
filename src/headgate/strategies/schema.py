"""Does an answer fit the JSON that was asked for?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.core.chat import ChatRequest, ToolCall, text_of
from headgate.core.events import ChatAnswer, Choice, Collector, Event
from headgate.core.fits import misfit
from headgate.core.request import Request


def breaks_schema(request: ChatRequest, answer: ChatAnswer) -> str | None:
    """What is wrong with the first choice that does not fit, None where all do or nothing was asked. Tool calls are no
    breach."""
    output = request.output
    if output is None or output.kind == "text":
        return None
    return next((problem for choice in answer.choices if (problem := _breach(request, choice)) is not None), None)


def _breach(request: ChatRequest, choice: Choice) -> str | None:
    if any(isinstance(part, ToolCall) for part in choice.parts) or choice.finish in ("refusal", "content_filter"):
        return None
    return misfit_of(request, text_of(choice.parts))


def misfit_of_events(request: ChatRequest, said: list[Event]) -> str | None:
    """As `breaks_schema`, of all that a stream has said."""
    collector = Collector()
    for event in said:
        collector.feed(event)
    return breaks_schema(request, collector.answer())


def asks_for_json(request: Request) -> bool:
    return bool(request.peek.needs & {"json_schema", "json_object"})


def misfit_of(request: ChatRequest, text: str) -> str | None:
    """What is wrong with `text` as the whole of an answer, None where it fits or nothing was asked."""
    output = request.output
    if output is None or output.kind == "text":
        return None
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return "not JSON"
    if output.kind == "json_object":
        return None if isinstance(value, dict) else "not a JSON object"
    if output.schema is None:
        return None
    return misfit(output.schema, value)


def breaks_tools(request: ChatRequest, calls: Sequence[ToolCall]) -> str | None:
    """Why the first call that cannot be made cannot: no such tool, or arguments that do not fit. None where all can."""
    tools = {tool.name: tool for tool in request.tools}
    for call in calls:
        tool = tools.get(call.name)
        if tool is None:
            return f"there is no tool {call.name[:60]!r}"
        if tool.schema is None or call.custom:
            continue
        try:
            value = msgspec.json.decode(call.arguments.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return f"arguments of {call.name} are not JSON"
        if (problem := misfit(tool.schema, value)) is not None:
            return f"arguments of {call.name}: {problem}"
    return None
