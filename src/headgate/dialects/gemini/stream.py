"""generateContent streams: chunks ↔ events, as SSE or as one JSON array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.chat import Reasoning, Text, ToolCall
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import HeadgateError
from headgate.core.events import (
    CitationAdded,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
)
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.gemini.answer import (
    FINISH,
    NATIVE,
    call_part,
    error_of,
    parse_usage,
    render_error,
    render_part,
    render_usage,
    skim,
)
from headgate.dialects.gemini.names import NAME
from headgate.dialects.gemini.parse import _Contents
from headgate.dialects.jsonio import decode_upstream, encode


class EventParser:
    """core.dialect.EventParser. usageMetadata repeats in every chunk: the last one counts."""

    def __init__(self) -> None:
        self._started = self._ended = False
        self._readers: dict[int, _Contents] = {}
        self._part: dict[int, int] = {}
        self._kind: dict[int, str] = {}
        self._called: set[int] = set()
        self._usage: Usage | None = None

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or self._ended or not data.strip():
            return []
        raw = decode_upstream(data)
        if not isinstance(raw, dict):
            return []
        if raw.get("error"):
            self._ended = True
            return [Failed(error_of(raw["error"], None, {}))]
        out: list[Event] = []
        if not self._started:
            self._started = True
            out.append(Started(raw.get("responseId") or "", raw.get("modelVersion") or ""))
        for candidate in raw.get("candidates") or []:
            self._candidate(candidate, out)
        if not raw.get("candidates") and (blocked := (raw.get("promptFeedback") or {}).get("blockReason")):
            out.append(Finished("content_filter", blocked))
        self._usage = parse_usage(raw.get("usageMetadata")) or self._usage
        return out

    def close(self) -> list[Event]:
        return [Used(self._usage)] if self._usage is not None else []

    def _candidate(self, raw: dict[str, Any], out: list[Event]) -> None:
        choice = raw.get("index") if isinstance(raw.get("index"), int) else 0
        assert isinstance(choice, int)
        reader = self._readers.setdefault(choice, _Contents())
        for wire in (raw.get("content") or {}).get("parts") or []:
            self._one(reader.part(wire, "content"), choice, out)
        native = raw.get("finishReason")
        if native is not None:
            reason = FINISH.get(str(native), "other")
            if reason in ("stop", "other") and choice in self._called:
                reason = "tool_calls"
            out.append(Finished(reason, str(native), choice=choice, logprobs=raw.get("logprobsResult")))

    def _one(self, part: Any, choice: int, out: list[Event]) -> None:
        match part:
            case Text():
                if part.text or part.signature:
                    out.append(TextDelta(part.text, self._number(choice, "text"), choice, part.signature))
            case Reasoning():
                number = self._number(choice, "thought")
                out.append(ReasoningDelta(part.text, number, choice, signature=part.signature))
            case ToolCall():
                self._called.add(choice)
                number = self._number(choice, "call", fresh=True)
                out.append(ToolCallStarted(part.id, part.name, number, choice, False, part.signature, part.extensions))
                out.append(ToolCallDelta(part.arguments, number, choice))
            case _:
                out.append(PartAdded(part, self._number(choice, "whole", fresh=True), choice))

    def _number(self, choice: int, kind: str, *, fresh: bool = False) -> int:
        if choice not in self._part:
            self._part[choice] = 0
        elif fresh or self._kind[choice] != kind:
            self._part[choice] += 1
        self._kind[choice] = kind
        return self._part[choice]


class EventRenderer:
    """core.dialect.EventRenderer. Function calls come whole in this format: their arguments are held until complete."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._id = view.id
        self._model = view.model
        self._call: ToolCallStarted | None = None
        self._arguments = ""
        self._finished: list[Finished] = []
        self._usage: Usage | None = None
        self._opened = False

    def feed(self, events: Sequence[Event]) -> bytes:
        parts: dict[int, list[Any]] = {}
        for event in events:
            self._render(event, parts)
        return b"".join(self._chunk(self._candidates(parts)) for _ in (1,) if parts)

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        parts: dict[int, list[Any]] = {}
        self._flush(parts)
        chunk = self._candidates(parts)
        by_choice = {candidate["index"]: candidate for candidate in chunk}
        for end in self._finished or [Finished("stop")]:
            candidate = by_choice.setdefault(
                end.choice, {"content": {"parts": [], "role": "model"}, "index": end.choice}
            )
            native = end.native if end.native in FINISH else NATIVE[end.reason]
            candidate["finishReason"] = native
        last = self._wire(list(by_choice.values()))
        last["usageMetadata"] = render_usage(self._usage or Usage())
        if details is not None:
            last["headgate"] = details
        tail = b"\n]" if self._view.array else b""
        return self._frame(last) + tail

    def fail(self, error: HeadgateError) -> bytes:
        frame = self._frame(render_error(error, self._view.id))
        return frame + (b"\n]" if self._view.array else b"")

    def _render(self, event: Event, parts: dict[int, list[Any]]) -> None:
        choice = getattr(event, "choice", 0)
        if self._call is not None and not isinstance(event, ToolCallDelta):
            self._flush(parts)
        match event:
            case Started():
                self._id, self._model = event.id or self._id, event.model or self._model
            case TextDelta():
                part: dict[str, Any] = {"text": event.text}
                if event.signature:
                    part["thoughtSignature"] = event.signature
                if event.text or event.signature:
                    parts.setdefault(choice, []).append(part)
            case RefusalDelta():
                parts.setdefault(choice, []).append({"text": event.text})
            case ReasoningDelta():
                if event.text:
                    parts.setdefault(choice, []).append({"text": event.text, "thought": True})
            case ToolCallStarted():
                self._call, self._arguments = event, ""
            case ToolCallDelta():
                self._arguments += event.arguments
            case PartAdded():
                wire = render_part(event.value, [])
                if wire is not None:
                    parts.setdefault(choice, []).append(wire)
            case Finished():
                self._finished.append(event)
            case Used():
                self._usage = event.usage
            case CitationAdded() | Failed():
                pass  # told elsewhere: citations have no incremental form here, failures go through `fail`

    def _flush(self, parts: dict[int, list[Any]]) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            own = call.extensions.get(NAME, {})
            call_id = own.get("id") if own else call.id
            parts.setdefault(call.choice, []).append(call_part(call_id, call.name, self._arguments, call.signature))

    def _candidates(self, parts: dict[int, list[Any]]) -> list[dict[str, Any]]:
        return [{"content": {"parts": found, "role": "model"}, "index": choice} for choice, found in parts.items()]

    def _wire(self, candidates: list[dict[str, Any]]) -> dict[str, Any]:
        return {"candidates": candidates, "modelVersion": self._model, "responseId": self._id}

    def _chunk(self, candidates: list[dict[str, Any]]) -> bytes:
        return self._frame(self._wire(candidates))

    def _frame(self, wire: dict[str, Any]) -> bytes:
        if not self._view.array:
            return b"data: %b\r\n\r\n" % encode(wire)
        lead = b",\r\n" if self._opened else b"["
        self._opened = True
        return lead + encode(wire)


def render_stream_error(error: HeadgateError, request_id: str) -> bytes:
    return b"data: %b\r\n\r\n" % encode(render_error(error, request_id))


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """A finish, a block or an error selects; usage in between is only the sum so far."""
    broken = not frame.rstrip(b"\r\n").endswith(b"}") and not frame.startswith(b":")
    if not (broken or b'"finishReason"' in frame or b'"promptFeedback"' in frame or b'"error"' in frame):
        return None
    data = sse.data_of(frame)
    if data is None or not data.strip():
        return None
    facts = skim(data)
    if facts.error is None and facts.finish is None and facts.usage is None:
        return None
    return facts
