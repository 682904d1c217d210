"""Responses streams: typed events → core events."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import Opaque
from headgate.core.dialect import Facts, Quirks
from headgate.core.errors import HeadgateError, wire_type
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
from headgate.dialects.jsonio import decode_chunk, encode, holds_json
from headgate.dialects.openai_responses.answer import INCOMPLETE, error_of, logprobs_of, parse_usage
from headgate.dialects.openai_responses.items import NAME
from headgate.dialects.residue import extension

ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_CALLS = frozenset({"function_call", "custom_tool_call"})


class EventParser:
    """core.dialect.EventParser. Unknown events are passed by; unknown items come whole when they are done."""

    def __init__(self) -> None:
        self._parts: dict[tuple[Any, ...], int] = {}
        self._arguments: set[int] = set()
        self._thought: set[int] = set()
        self._called = self._refused = self._ended = self._started = False
        self._usage: Usage | None = None

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or self._ended or not data.strip() or data.startswith(b"[DONE]"):
            return []
        raw = decode_chunk(data)
        kind = raw.get("type") or ""
        if kind in ("response.created", "response.queued") and not self._started:
            self._started = True
            response = raw.get("response") or {}
            created = response.get("created_at")
            created = int(created) if isinstance(created, int | float) else 0
            return [Started(response.get("id") or "", response.get("model") or "", created)]
        if kind in ENDS:
            return self._end(kind, raw.get("response") or {})
        if kind == "error" or (raw.get("error") and not kind):
            self._ended = True
            return [Failed(error_of(raw.get("error") or raw, None, {}))]
        return self._piece(kind, raw)

    def close(self) -> list[Event]:
        return [Used(self._usage)] if self._usage is not None else []

    def _piece(self, kind: str, raw: dict[str, Any]) -> list[Event]:
        index = raw.get("output_index") or 0
        content = raw.get("content_index") or 0
        delta = raw.get("delta")
        match kind:
            case "response.output_text.delta":
                told = logprobs_of(raw.get("logprobs"))
                return [TextDelta(delta or "", self._part(index, "text", content), logprobs=told)]
            case "response.refusal.delta":
                self._refused = True
                return [RefusalDelta(delta or "", self._part(index, "text", content))]
            case "response.output_text.annotation.added":
                citation = {"kind": NAME, **(raw.get("annotation") or {})}
                return [CitationAdded(citation, self._part(index, "text", content))]
            case "response.reasoning_summary_text.delta":
                self._thought.add(index)
                return [ReasoningDelta(delta or "", self._part(index, "reasoning"), summary=True)]
            case "response.reasoning_summary_part.added" if raw.get("summary_index"):
                return [ReasoningDelta("\n\n", self._part(index, "reasoning"), summary=True)]
            case "response.reasoning_text.delta":
                self._thought.add(index)
                return [ReasoningDelta(delta or "", self._part(index, "reasoning"))]
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._arguments.add(index)
                return [ToolCallDelta(delta or "", self._part(index, "call"))] if delta else []
            case "response.output_item.added":
                return self._added(index, raw.get("item") or {})
            case "response.output_item.done":
                return self._done(index, raw.get("item") or {})
        return []

    def _added(self, index: int, item: dict[str, Any]) -> list[Event]:
        if item.get("type") not in _CALLS:
            return []
        self._called = True
        head = {k: v for k, v in item.items() if k in ("id", "namespace")}
        return [
            ToolCallStarted(
                item.get("call_id") or item.get("id") or f"call_{index}",
                item.get("name") or "",
                self._part(index, "call"),
                custom=item["type"] == "custom_tool_call",
                extensions=extension(NAME, {}, head=head or None),
            )
        ]

    def _done(self, index: int, item: dict[str, Any]) -> list[Event]:
        kind = item.get("type")
        if kind in _CALLS:
            given = item.get("arguments") if kind == "function_call" else item.get("input")
            out = [] if (index, "call") in {key[:2] for key in self._parts} else self._added(index, item)
            if index not in self._arguments and given:
                out.append(ToolCallDelta(given, self._part(index, "call")))
            return out
        if kind == "reasoning":
            part = self._part(index, "reasoning")
            out = []
            if index not in self._thought:
                told = item.get("summary") or item.get("content") or []
                text = "\n\n".join(str(piece.get("text") or "") for piece in told)
                if text:
                    out.append(ReasoningDelta(text, part, summary=bool(item.get("summary"))))
            if item.get("encrypted_content") or item.get("id"):
                end = ReasoningDelta("", part, encrypted=item.get("encrypted_content"), id=item.get("id"))
                end.summary = bool(item.get("summary"))
                out.append(end)
            return out
        if kind == "message" or kind is None:
            return []
        return [PartAdded(Opaque(dialect=NAME, data=item), self._part(index, "whole"))]

    def _end(self, kind: str, response: dict[str, Any]) -> list[Event]:
        self._usage = parse_usage(response.get("usage"))
        if kind in ("response.failed", "response.cancelled"):
            self._ended = True
            return [Failed(error_of(response.get("error") or {"message": "the response failed"}, None, {}))]
        if kind == "response.incomplete":
            reason = str((response.get("incomplete_details") or {}).get("reason"))
            return [Finished(INCOMPLETE.get(reason, "other"), reason)]
        return [Finished("tool_calls" if self._called else "refusal" if self._refused else "stop", "completed")]

    def _part(self, *key: Any) -> int:
        if key not in self._parts:
            self._parts[key] = len(self._parts)
        return self._parts[key]


class _Response(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    incomplete_details: Any = None
    usage: Any = None
    error: Any = None


class _Frame(msgspec.Struct):
    type: str | None = None
    response: _Response | None = None
    error: Any = None
    message: Any = None
    code: Any = None


_decoder = msgspec.json.Decoder(_Frame)
_PASSED = (b"event: response.output", b"event: response.content_part", b"event: response.function_call_arguments")


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """The event's name selects: created, the ends, errors."""
    if frame.startswith(_PASSED) and holds_json(frame):
        return None
    data = sse.data_of(frame)
    if data is None or data.startswith(b"[DONE]"):
        return None if data is None else Facts(terminal=True)
    try:
        raw = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decode_chunk(data)  # raises the fault where it is no object at all
        return None
    response = raw.response or _Response()
    match raw.type:
        case "response.created":
            return Facts(id=response.id, model=response.model)
        case "response.completed":
            return Facts(usage=parse_usage(response.usage), finish="stop", terminal=True, id=response.id)
        case "response.incomplete":
            details = response.incomplete_details if isinstance(response.incomplete_details, dict) else {}
            finish = INCOMPLETE.get(details.get("reason") or "", "other")
            return Facts(usage=parse_usage(response.usage), finish=finish, terminal=True, id=response.id)
        case "response.failed" | "response.cancelled":
            return Facts(error=error_of(response.error or {"message": "the response failed"}, None, {}))
        case "error":
            return Facts(error=error_of(raw.error or {"message": raw.message, "code": raw.code}, None, {}))
    return None


def render_stream_error(error: HeadgateError, request_id: str, number: int = 0) -> bytes:
    """An `error` event; the nested object is what the SDKs raise, the flat fields what the typed event holds."""
    kind, code = wire_type(error)
    flat = {"type": "error", "code": code, "message": error.message, "param": error.param, "sequence_number": number}
    nested = {"message": error.message, "type": kind, "param": error.param, "code": code}
    return sse.frame(encode({**flat, "error": nested}), "error")
