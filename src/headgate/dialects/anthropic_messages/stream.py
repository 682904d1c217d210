"""Messages streams → core events, and the scan that passthrough needs."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import Opaque
from headgate.core.dialect import Facts, Quirks
from headgate.core.events import (
    CitationAdded,
    Event,
    Failed,
    Finished,
    PartAdded,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
)
from headgate.dialects import sse
from headgate.dialects.anthropic_messages.answer import (
    ANSWER,
    finish_of,
    notes,
    parse_usage,
    string,
    tool_input,
)
from headgate.dialects.anthropic_messages.errors import error_of
from headgate.dialects.anthropic_messages.parse import NAME, parse_block
from headgate.dialects.jsonio import decode_chunk, encode, holds_json
from headgate.dialects.residue import extension, leftover

_USE = frozenset({"type", "id", "name", "input"})
_END = frozenset({"stop_reason", "stop_sequence"})


class EventParser:
    """core.dialect.EventParser. Blocks that nobody knows are kept whole, as Opaque parts."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, str] = {}
        self._usage: dict[str, Any] = {}
        self._counted = False
        """Usage came with the end: what the first frame says of output is what had been made by then."""
        self._rest: dict[str, Any] = {}
        self._finished = False
        self._over = False

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if self._over or data is None or not data.strip():
            return []
        raw = decode_chunk(data)
        match raw.get("type"):
            case "message_start":
                return self._message(_fields(raw.get("message")))
            case "content_block_start":
                return self._start(_place(raw), _fields(raw.get("content_block")))
            case "content_block_delta":
                return self._delta(_place(raw), _fields(raw.get("delta")))
            case "content_block_stop":
                return self._stop(_place(raw))
            case "message_delta":
                return self._end(raw)
            case "message_stop":
                self._over = True
            case "error":
                self._over = True
                return [Failed(error_of(raw, None, {}))]
            case None if raw.get("error"):
                self._over = True
                return [Failed(error_of(raw, None, {}))]
        return []

    def close(self) -> list[Event]:
        usage = parse_usage(self._usage)
        if usage is None:
            return []
        if not self._counted:
            usage = msgspec.structs.replace(usage, estimated=True)
        return [Used(usage, notes(self._rest, self._usage))]

    def _message(self, message: dict[str, Any]) -> list[Event]:
        usage = _fields(message.get("usage"))
        self._usage.update(usage)
        self._rest = {key: value for key, value in message.items() if key not in ANSWER}
        extensions = notes(self._rest, usage or None)
        return [Started(string(message.get("id")) or "", string(message.get("model")) or "", extensions=extensions)]

    def _start(self, index: int, block: dict[str, Any]) -> list[Event]:
        self._blocks[index] = block
        match block.get("type"):
            case "text":
                text = string(block.get("text"))
                return [TextDelta(text, index)] if text else []
            case "thinking":
                text, signature = string(block.get("thinking")) or "", string(block.get("signature")) or None
                return [ReasoningDelta(text, index, signature=signature)] if text or signature else []
            case "redacted_thinking":
                return [PartAdded(parse_block(block, "content"), index)]
            case "tool_use":
                call_id, name = string(block.get("id")) or f"toolu_{index}", string(block.get("name")) or ""
                return [ToolCallStarted(call_id, name, index, extensions=extension(NAME, leftover(block, _USE)))]
        return []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Event]:
        block = self._blocks.setdefault(index, {})
        match delta.get("type"):
            case "text_delta":
                return [TextDelta(string(delta.get("text")) or "", index)]
            case "thinking_delta":
                return [ReasoningDelta(string(delta.get("thinking")) or "", index)]
            case "signature_delta":
                return [ReasoningDelta("", index, signature=string(delta.get("signature")))]
            case "citations_delta":
                citation = _fields(delta.get("citation"))
                if block.get("type") == "text":
                    return [CitationAdded({"kind": NAME, **citation}, index)]
                block["citations"] = [*(block.get("citations") or []), citation]
            case "input_json_delta":
                piece = string(delta.get("partial_json")) or ""
                self._json[index] = self._json.get(index, "") + piece
                if block.get("type") == "tool_use":
                    return [ToolCallDelta(piece, index)] if piece else []
            case _:
                _grow(block, delta)
        return []

    def _stop(self, index: int) -> list[Event]:
        block = self._blocks.get(index, {})
        kind = block.get("type")
        if kind in ("text", "thinking", "redacted_thinking", None):
            return []
        if kind == "tool_use":
            whole = encode(_fields(block.get("input"))).decode()
            return [] if self._json.get(index) else [ToolCallDelta(whole, index)]
        if self._json.get(index):
            block = {**block, "input": tool_input(self._json[index])}
        return [PartAdded(Opaque(dialect=NAME, data=block), index)]

    def _end(self, raw: dict[str, Any]) -> list[Event]:
        """Usage is cumulative: what is said later replaces what was said before. The reason comes once."""
        usage = {k: v for k, v in _fields(raw.get("usage")).items() if v is not None}
        self._usage.update(usage)
        self._counted = self._counted or "output_tokens" in usage
        delta = _fields(raw.get("delta"))
        self._rest |= {k: v for k, v in delta.items() if k not in _END}
        self._rest |= {k: v for k, v in raw.items() if k not in ("type", "delta", "usage")}
        native = string(delta.get("stop_reason"))
        if native is None or self._finished:
            return []
        self._finished = True
        return [Finished(finish_of(native), native, string(delta.get("stop_sequence")))]


def _fields(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _place(raw: dict[str, Any]) -> int:
    index = raw.get("index")
    return index if isinstance(index, int) else 0


def _grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """compaction_delta and what may come: texts are appended to the block's own field, the rest replaces it."""
    for key, value in delta.items():
        if key != "type":
            have = block.get(key)
            block[key] = have + value if isinstance(have, str) and isinstance(value, str) else value


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
_PASSED_BY = (b"event: content_block", b"event: ping")


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """The event's name selects: blocks and pings are passed by where they are whole."""
    if frame.startswith(b":") or (frame.startswith(_PASSED_BY) and holds_json(frame)):
        return None
    data = sse.data_of(frame)
    if data is None or not data.strip():
        return None
    try:
        raw = _frame_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decode_chunk(data)  # raises the fault where it is no object at all
        return None
    match raw.type:
        case "message_start":
            message = raw.message or _Message()
            return Facts(usage=parse_usage(message.usage), id=message.id, model=message.model)
        case "message_delta":
            native = raw.delta.stop_reason if raw.delta else None
            return Facts(usage=parse_usage(raw.usage), in_parts=True, finish=finish_of(native) if native else None)
        case "message_stop":
            return Facts(terminal=True)
        case "error" | None if raw.type == "error" or raw.error:
            return Facts(error=error_of({"error": raw.error}, None, {}))
    return None
