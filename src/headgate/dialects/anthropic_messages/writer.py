"""Core events → a Messages stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.dialect import View
from headgate.core.errors import HeadgateError, fault
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
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.anthropic_messages.answer import answer_id, render_block, render_usage, stop_reason
from headgate.dialects.anthropic_messages.errors import render_error
from headgate.dialects.anthropic_messages.parse import NAME
from headgate.dialects.jsonio import encode

_DELTA_FIELDS = ("stop_details", "container")
"""What the answer's end says inside `delta`; all else stands beside it."""


class EventRenderer:
    """core.dialect.EventRenderer: named events as Anthropic sends them.

    Blocks stand one after the other in this format. Where a provider mixes the pieces of several calls, the later ones
    wait until the open call's input is complete.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._own = False
        self._id, self._model = "", ""
        self._begun = False
        self._first: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._index = -1
        self._part: int | None = None
        self._kind = ""
        self._calls: dict[int, str] = {}
        self._custom = ""
        self._waiting: list[Any] = []
        self._finish: Finished | None = None
        self._usage = Usage()

    def feed(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            self._take(event, out)
        return b"".join(out)

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        out: list[bytes] = []
        waiting, self._waiting = self._waiting, []
        for part in dict.fromkeys(event.part for event in waiting):
            for event in waiting:
                if event.part == part:
                    self._write(event, out)
        self._begin(out)
        self._close(out)
        end = self._finish or Finished("tool_calls" if self._calls else "stop")
        notes = self._last or self._first
        delta = {"stop_reason": stop_reason(end, self._own), "stop_sequence": end.stop_sequence}
        rest = {key: value for key, value in notes.get("rest", {}).items() if value is not None}
        delta |= {key: rest.pop(key) for key in _DELTA_FIELDS if key in rest}
        known = self._first.get("rest", {}) if self._last else rest
        wire: dict[str, Any] = {"type": "message_delta", "delta": delta}
        wire["usage"] = render_usage(self._usage, notes.get("usage"))
        wire |= {key: value for key, value in rest.items() if known.get(key) != value}
        if details is not None:
            wire["headgate"] = details
        return b"".join([*out, _frame(wire), _frame({"type": "message_stop"})])

    def fail(self, error: HeadgateError) -> bytes:
        return render_stream_error(error, self._view.id)

    def _take(self, event: Event, out: list[bytes]) -> None:
        match event:
            case Started():
                self._own = NAME in event.extensions
                self._first = event.extensions.get(NAME, {})
                self._id, self._model = answer_id(event.id, self._view, self._own), event.model
            case Finished():
                self._finish = event if event.choice == 0 else self._finish
            case Used():
                self._usage, self._last = event.usage, event.extensions.get(NAME, {})
            case Failed():
                out.append(self.fail(event.error))
            case Resumed():
                pass  # only `message_start` names the model, and it is sent
            case _ if event.choice == 0:  # n > 1 was refused before
                self._in_turn(event, out)

    def _in_turn(self, event: Any, out: list[bytes]) -> None:
        if self._kind == "tool_use" and event.part != self._part and not self._is_complete():
            self._waiting.append(event)
            return
        self._write(event, out)
        if self._waiting and self._is_complete():
            waiting, self._waiting = self._waiting, []
            for later in waiting:
                self._in_turn(later, out)

    def _is_complete(self) -> bool:
        """Whether the open call's input is one JSON value: nothing but white space may follow."""
        text = self._calls.get(self._part if self._part is not None else -1, "")
        if self._kind != "tool_use" or not text.rstrip().endswith("}"):
            return self._kind != "tool_use"
        try:
            msgspec.json.decode(text)
        except msgspec.DecodeError:
            return False
        return True

    def _write(self, event: Any, out: list[bytes]) -> None:
        match event:
            case TextDelta() | RefusalDelta():
                if event.text:
                    self._open(event.part, "text", {"type": "text", "text": ""}, out)
                    self._piece({"type": "text_delta", "text": event.text}, out)
            case ReasoningDelta():
                self._think(event, out)
            case CitationAdded():
                if event.citation.get("kind") == NAME:
                    self._open(event.part, "text", {"type": "text", "text": ""}, out)
                    citation = {k: v for k, v in event.citation.items() if k != "kind"}
                    self._piece({"type": "citations_delta", "citation": citation}, out)
            case ToolCallStarted():
                self._calls[event.part] = ""
                rest = event.extensions.get(NAME, {}).get("rest", {})
                block = {**rest, "type": "tool_use", "id": event.id, "name": event.name, "input": {}}
                self._open(event.part, "custom" if event.custom else "tool_use", block, out)
            case ToolCallDelta():
                self._arguments(event, out)
            case PartAdded():
                block = render_block(event.value, [], own=self._own)
                if block is not None:
                    self._open(event.part, "whole", block, out)

    def _arguments(self, event: ToolCallDelta, out: list[bytes]) -> None:
        if event.part not in self._calls:
            raise fault("invalid_answer", "tool call arguments came before their call")
        if event.part != self._part:
            if not event.arguments.strip():
                return
            raise fault("invalid_answer", "tool call arguments went on after their end")
        if self._kind == "custom":
            self._custom += event.arguments  # free text: it becomes JSON once it is whole
            return
        self._calls[event.part] += event.arguments
        self._piece({"type": "input_json_delta", "partial_json": event.arguments}, out)

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        """Other providers' signatures are kept back: here they would prove nothing when they come back."""
        signature = event.signature if self._own else None
        if self._own and event.encrypted and not event.text:
            block = {"type": "redacted_thinking", "data": event.encrypted}
            self._open(event.part, "whole", block, out)
            return
        if not event.text and not signature:
            return
        self._open(event.part, "thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
        if event.text:
            self._piece({"type": "thinking_delta", "thinking": event.text}, out)
        if signature:
            self._piece({"type": "signature_delta", "signature": signature}, out)

    def _open(self, part: int, kind: str, block: dict[str, Any], out: list[bytes]) -> None:
        """Opens the part's block, unless it is the open one; a part that went on after another gets a block anew."""
        if self._part == part and self._kind == kind:
            return
        self._begin(out)
        self._close(out)
        self._index += 1
        self._part, self._kind = part, kind
        out.append(_frame({"type": "content_block_start", "index": self._index, "content_block": block}))

    def _piece(self, delta: dict[str, Any], out: list[bytes]) -> None:
        out.append(_frame({"type": "content_block_delta", "index": self._index, "delta": delta}))

    def _close(self, out: list[bytes]) -> None:
        if self._part is None:
            return
        if self._kind == "custom":
            text, self._custom = encode({"input": self._custom}).decode(), ""
            self._piece({"type": "input_json_delta", "partial_json": text}, out)
        out.append(_frame({"type": "content_block_stop", "index": self._index}))
        self._part, self._kind = None, ""

    def _begin(self, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message = {
            **self._first.get("rest", {}),
            "id": self._id or answer_id("", self._view, False),
            "type": "message",
            "role": "assistant",
            "model": self._model or self._view.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._first.get("usage") or render_usage(Usage()),
        }
        out.append(_frame({"type": "message_start", "message": message}))


def _frame(event: dict[str, Any]) -> bytes:
    return sse.frame(encode(event), event["type"])


def render_stream_error(error: HeadgateError, request_id: str) -> bytes:
    return _frame(render_error(error, request_id))
