"""Events → the chunks of a generateContent stream, as SSE or as one JSON array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.chat import Text, ToolCall
from headgate.core.dialect import View
from headgate.core.errors import HeadgateError
from headgate.core.events import (
    CitationAdded,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Resumed,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
)
from headgate.dialects.gemini.errors import render_error
from headgate.dialects.gemini.finish import native_of
from headgate.dialects.gemini.names import NAME
from headgate.dialects.gemini.usage import parse_usage, render_logprobs, render_usage
from headgate.dialects.gemini.writer import PartWriter
from headgate.dialects.jsonio import encode

ARRAY_ENDS = b"\r\n]"
_Parts = dict[int, list[dict[str, Any]]]


class EventRenderer:
    """core.dialect.EventRenderer. Function calls come whole in this format: their arguments are held until something
    else follows them. One `feed` makes at most one chunk."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._id = view.id
        self._model = view.model
        self._own = False
        self._rest: dict[str, Any] = {}
        self._writer = PartWriter(answer=True)
        self._calls: dict[tuple[int, int], ToolCall] = {}
        self._logprobs: dict[int, list[Any]] = {}
        self._ends: list[Finished] = []
        self._used: Used | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        parts: _Parts = {}
        for event in events:
            self._take(event, parts)
        return self._frame(self._wire(parts)) if parts else b""

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        parts: _Parts = {}
        self._flush(parts)
        last = self._wire(parts)
        by_index = {candidate["index"]: candidate for candidate in last["candidates"]}
        for end in self._ends or [Finished("stop")]:
            notes = end.extensions.get(NAME, {})
            if notes.get("blocked") and "promptFeedback" in self._rest and not by_index:
                del last["candidates"]
                last["promptFeedback"] = self._rest["promptFeedback"]
                break
            empty = {"content": {"parts": [], "role": "model"}, "index": end.choice}
            candidate = by_index.setdefault(end.choice, empty)
            candidate["finishReason"] = native_of(end.reason, end.native)
            candidate |= notes.get("rest") or {}
            self._add_logprobs(candidate, end, notes)
        else:
            last["candidates"] = list(by_index.values())
        if (usage := self._usage()) is not None:
            last["usageMetadata"] = usage
        if details is not None:
            last["headgate"] = details
        return self._frame(last, ends=True)

    def fail(self, error: HeadgateError) -> bytes:
        return self._frame(render_error(error, self._view.id), ends=True)

    def _take(self, event: Event, parts: _Parts) -> None:
        if self._calls and not isinstance(event, ToolCallStarted | ToolCallDelta):
            self._flush(parts)
        match event:
            case Started():
                self._start(event)
            case TextDelta():
                if event.logprobs is not None:
                    self._logprobs.setdefault(event.choice, []).append(event.logprobs)
                if event.text or event.signature:
                    _say(parts, event.choice, {"text": event.text}, event.signature)
            case RefusalDelta() if event.text:
                _say(parts, event.choice, {"text": event.text}, None)
            case ReasoningDelta():
                signature = event.signature if self._own else None
                if event.text or signature:
                    _say(parts, event.choice, {"text": event.text, "thought": True}, signature)
            case ToolCallStarted():
                self._calls[event.choice, event.part] = ToolCall(
                    id=event.id,
                    name=event.name,
                    arguments="",
                    custom=event.custom,
                    signature=event.signature,
                    extensions=event.extensions,
                )
            case ToolCallDelta():
                if (call := self._calls.get((event.choice, event.part))) is not None:
                    call.arguments += event.arguments
            case PartAdded():
                if not (isinstance(event.value, Text) and not event.value.text):
                    wire = self._writer.part(event.value)
                    parts.setdefault(event.choice, []).extend([wire] if wire is not None else [])
            case Finished():
                self._ends.append(event)
            case Used():
                self._used = event
            case Resumed():
                self._model = event.model or self._model
            case CitationAdded() | Failed():
                pass  # citations have no incremental form here; failures are told by `fail`

    def _start(self, event: Started) -> None:
        self._id, self._model = event.id or self._id, event.model or self._model
        notes = event.extensions.get(NAME, {})
        self._own = bool(notes.get("own") or notes.get("form"))
        self._rest = dict(notes.get("rest") or {})

    def _flush(self, parts: _Parts) -> None:
        for (choice, _), call in sorted(self._calls.items()):
            parts.setdefault(choice, []).append(self._writer.part(call))
        self._calls.clear()

    def _add_logprobs(self, candidate: dict[str, Any], end: Finished, notes: dict[str, Any]) -> None:
        given = end.logprobs if end.logprobs is not None else self._logprobs.get(end.choice)
        if (found := notes.get("logprobs") or render_logprobs(given)) is not None:
            candidate["logprobsResult"] = found

    def _usage(self) -> dict[str, Any] | None:
        if self._used is None:
            return None
        own = self._used.extensions.get(NAME, {}).get("usage")
        return own if own is not None and parse_usage(own) == self._used.usage else render_usage(self._used.usage)

    def _wire(self, parts: _Parts) -> dict[str, Any]:
        candidates = [
            {"content": {"parts": found, "role": "model"}, "index": choice} for choice, found in sorted(parts.items())
        ]
        rest = {key: value for key, value in self._rest.items() if key != "promptFeedback"}
        return {"candidates": candidates, **rest, "modelVersion": self._model, "responseId": self._id}

    def _frame(self, wire: dict[str, Any], *, ends: bool = False) -> bytes:
        """In an array all chunks but the last end with a comma: whatever comes next, an error too, may follow."""
        if not self._view.array:
            return sse_frame(wire)
        return encode(wire) + (ARRAY_ENDS if ends else b",\r\n")


def sse_frame(wire: dict[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % encode(wire)


def _say(parts: _Parts, choice: int, wire: dict[str, Any], signature: str | None) -> None:
    """Joins text to what was said just before in the same chunk; a signature belongs to the part that it came with."""
    said = parts.setdefault(choice, [])
    if said and "text" in said[-1] and said[-1].keys() == wire.keys() and not signature:
        said[-1]["text"] += wire["text"]
        return
    if signature:
        wire["thoughtSignature"] = signature
    said.append(wire)
