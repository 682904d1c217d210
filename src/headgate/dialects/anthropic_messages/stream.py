"""Messages streams: named events ↔ core events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.chat import Opaque, Reasoning
from headgate.core.dialect import Facts, Quirks, View
from headgate.core.errors import HeadgateError, fault
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
from headgate.dialects.anthropic_messages.answer import (
    FINISH,
    NATIVE,
    error_of,
    parse_usage,
    render_block,
    render_error,
    render_usage,
    tool_input,
)
from headgate.dialects.anthropic_messages.parse import NAME, parse_block
from headgate.dialects.jsonio import decode_upstream, encode
from headgate.dialects.residue import extension, leftover

_USE = frozenset({"type", "id", "name", "input"})


class EventParser:
    """core.dialect.EventParser. Blocks that nobody knows are kept whole, as Opaque parts."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, str] = {}
        self._usage: dict[str, Any] = {}
        self._ended = False

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or self._ended:
            return []
        raw = decode_upstream(data)
        if not isinstance(raw, dict):
            return []
        match raw.get("type"):
            case "message_start":
                message = raw.get("message") or {}
                self._usage.update(message.get("usage") or {})
                return [Started(message.get("id") or "", message.get("model") or "")]
            case "content_block_start":
                return self._start(raw.get("index", 0), raw.get("content_block") or {})
            case "content_block_delta":
                return self._delta(raw.get("index", 0), raw.get("delta") or {})
            case "content_block_stop":
                return self._stop(raw.get("index", 0))
            case "message_delta":
                return self._end(raw)
            case "error":
                self._ended = True
                return [Failed(error_of(raw, None, {}))]
        return []

    def close(self) -> list[Event]:
        usage = parse_usage(self._usage)
        return [Used(usage)] if usage is not None else []

    def _start(self, index: int, block: dict[str, Any]) -> list[Event]:
        self._blocks[index] = block
        match block.get("type"):
            case "text":
                return [TextDelta(block["text"], index)] if block.get("text") else []
            case "thinking":
                return [ReasoningDelta(block["thinking"], index)] if block.get("thinking") else []
            case "redacted_thinking":
                part = parse_block(block, "content")
                return [PartAdded(part, index)]
            case "tool_use":
                rest = extension(NAME, leftover(block, _USE))
                return [
                    ToolCallStarted(
                        block.get("id") or f"toolu_{index}", block.get("name") or "", index, extensions=rest
                    )
                ]
        return []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Event]:
        block = self._blocks.get(index, {})
        match delta.get("type"):
            case "text_delta":
                return [TextDelta(delta.get("text") or "", index)]
            case "thinking_delta":
                return [ReasoningDelta(delta.get("thinking") or "", index)]
            case "signature_delta":
                return [ReasoningDelta("", index, signature=delta.get("signature"))]
            case "citations_delta":
                return [CitationAdded({"kind": NAME, **(delta.get("citation") or {})}, index)]
            case "input_json_delta":
                piece = delta.get("partial_json") or ""
                self._json[index] = self._json.get(index, "") + piece
                if block.get("type") == "tool_use":
                    return [ToolCallDelta(piece, index)] if piece else []
            case _:
                for key, value in delta.items():  # compaction_delta and what may come: grow the block's own field
                    if key != "type" and isinstance(value, str):
                        block[key] = (block.get(key) or "") + value
        return []

    def _stop(self, index: int) -> list[Event]:
        block = self._blocks.get(index, {})
        kind = block.get("type")
        if kind in ("text", "thinking", "redacted_thinking", None):
            return []
        if kind == "tool_use":
            given = block.get("input")
            return [ToolCallDelta(encode(given).decode(), index)] if given and not self._json.get(index) else []
        if index in self._json:
            block = {**block, "input": tool_input(self._json[index])}
        return [PartAdded(Opaque(dialect=NAME, data=block), index)]

    def _end(self, raw: dict[str, Any]) -> list[Event]:
        self._usage.update({k: v for k, v in (raw.get("usage") or {}).items() if v is not None})
        delta = raw.get("delta") or {}
        native = delta.get("stop_reason")
        if native is None:
            return []
        return [Finished(FINISH.get(native, "other"), native, delta.get("stop_sequence"))]


class EventRenderer:
    """core.dialect.EventRenderer: named events as Anthropic sends them. Blocks come one after the other."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._begun = False
        self._indices: dict[int, int] = {}
        self._open: int | None = None
        self._kind = ""
        self._next = 0
        self._finish: Finished | None = None
        self._usage = Usage()
        self._id = f"msg_{view.id}"
        self._model = view.model

    def feed(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        for event in events:
            self._render(event, out)
        return b"".join(out)

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        out: list[bytes] = []
        self._begin(out)
        self._stop(out)
        end = self._finish or Finished("stop")
        native = end.native if end.native in FINISH else NATIVE[end.reason]
        reason = "stop_sequence" if end.stop_sequence else native
        delta: dict[str, Any] = {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": end.stop_sequence},
            "usage": render_usage(self._usage),
        }
        if details is not None:
            delta["headgate"] = details
        return b"".join([*out, _frame(delta), _frame({"type": "message_stop"})])

    def fail(self, error: HeadgateError) -> bytes:
        return render_stream_error(error, self._view.id)

    def _render(self, event: Event, out: list[bytes]) -> None:
        if getattr(event, "choice", 0):
            return  # this format has one answer; n > 1 was refused before
        match event:
            case Started():
                self._id, self._model = event.id or self._id, event.model or self._model
            case TextDelta():
                if event.text:
                    self._part(event.part, "text", {"type": "text", "text": ""}, out)
                    out.append(self._piece({"type": "text_delta", "text": event.text}))
            case RefusalDelta():
                self._part(event.part, "text", {"type": "text", "text": ""}, out)
                out.append(self._piece({"type": "text_delta", "text": event.text}))
            case ReasoningDelta():
                self._think(event, out)
            case CitationAdded() if event.citation.get("kind") == NAME:
                self._part(event.part, "text", {"type": "text", "text": ""}, out)
                citation = {k: v for k, v in event.citation.items() if k != "kind"}
                out.append(self._piece({"type": "citations_delta", "citation": citation}))
            case ToolCallStarted():
                rest = event.extensions.get(NAME, {}).get("rest", {})
                block = {**rest, "type": "tool_use", "id": event.id, "name": event.name, "input": {}}
                self._part(event.part, "tool_use", block, out)
            case ToolCallDelta():
                if event.part not in self._indices or self._open != event.part:
                    raise fault("invalid_answer", "the provider mixed the arguments of several tool calls")
                out.append(self._piece({"type": "input_json_delta", "partial_json": event.arguments}))
            case PartAdded():
                block = render_block(event.value, [])
                if block is not None:
                    self._part(event.part, "whole", block, out)
            case Finished():
                self._finish = event
            case Used():
                self._usage = event.usage
            case Failed():
                out.append(self.fail(event.error))

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        if event.encrypted and not event.text:
            block = render_block(Reasoning(encrypted=event.encrypted), [])
            if block is None:
                return
        self._part(event.part, "thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)
        if event.text:
            out.append(self._piece({"type": "thinking_delta", "thinking": event.text}))
        if event.signature:
            out.append(self._piece({"type": "signature_delta", "signature": event.signature}))

    def _part(self, part: int, kind: str, block: dict[str, Any], out: list[bytes]) -> None:
        """Opens the part's block, unless it is the open one; a part that went on after another gets a block anew."""
        if self._open == part and self._kind == kind:
            return
        self._begin(out)
        self._stop(out)
        self._indices[part] = self._next
        self._next += 1
        self._open, self._kind = part, kind
        out.append(_frame({"type": "content_block_start", "index": self._indices[part], "content_block": block}))

    def _piece(self, delta: dict[str, Any]) -> bytes:
        assert self._open is not None
        return _frame({"type": "content_block_delta", "index": self._indices[self._open], "delta": delta})

    def _stop(self, out: list[bytes]) -> None:
        if self._open is not None:
            out.append(_frame({"type": "content_block_stop", "index": self._indices[self._open]}))
            self._open = None

    def _begin(self, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": render_usage(Usage()),
        }
        out.append(_frame({"type": "message_start", "message": message}))


def _frame(event: dict[str, Any]) -> bytes:
    return sse.frame(encode(event), event["type"])


def render_stream_error(error: HeadgateError, request_id: str) -> bytes:
    return _frame(render_error(error, request_id))


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    usage: Any = None


class _Frame(msgspec.Struct):
    type: str | None = None
    message: _Message | None = None
    delta: _Delta | None = None
    usage: Any = None
    error: Any = None


_frame_decoder = msgspec.json.Decoder(_Frame)
_TEXT = b"event: content_block"


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """The event's name selects; blocks and pings are passed by."""
    if frame.startswith((_TEXT, b"event: ping", b":")) and frame.endswith(b"}\n\n"):
        return None
    data = sse.data_of(frame)
    if data is None:
        return None
    try:
        raw = _frame_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decode_upstream(data)  # raises the fault where it is not JSON at all
        return None
    match raw.type:
        case "message_start":
            message = raw.message or _Message()
            return Facts(usage=parse_usage(message.usage), id=message.id, model=message.model)
        case "message_delta":
            native = raw.delta.stop_reason if raw.delta else None
            finish = FINISH.get(native, "other") if native else None
            return Facts(usage=parse_usage(raw.usage), finish=finish)
        case "message_stop":
            return Facts(terminal=True)
        case "error":
            return Facts(error=error_of({"error": raw.error}, None, {}))
    return None
