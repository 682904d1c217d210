"""Chat streams: chunks ↔ events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.chat import Audio, Reasoning, Source, Text
from headgate.core.dialect import Facts, Quirks, View
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
from headgate.dialects.jsonio import decode_upstream, encode
from headgate.dialects.openai_chat.answer import (
    FINISH,
    NATIVE,
    answer_parts,
    error_of,
    parse_usage,
    render_usage,
)
from headgate.dialects.openai_chat.parse import NAME
from headgate.dialects.residue import extension, leftover

DONE = b"[DONE]"
_CALL = frozenset({"index", "id", "type", "function"})


class EventParser:
    """core.dialect.EventParser for chat chunks, of whoever speaks the format."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._started = False
        self._parts: dict[tuple[int, str], int] = {}
        self._next: dict[int, int] = {}
        self._last_call: dict[int, str] = {}
        self._has_calls: set[int] = set()
        self._refused: set[int] = set()
        self._usage: Usage | None = None
        self._audio: dict[int, dict[str, Any]] = {}
        self._ended = False

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or self._ended or not data.strip() or data.startswith(DONE):
            return []
        raw = decode_upstream(data)
        if not isinstance(raw, dict):
            return []
        out: list[Event] = []
        if raw.get("error"):
            self._ended = True
            return [Failed(error_of(raw["error"], None, {}))]
        if not self._started and (raw.get("id") or raw.get("choices")):
            self._started = True
            created = raw.get("created")
            out.append(
                Started(str(raw.get("id") or ""), raw.get("model") or "", created if isinstance(created, int) else 0)
            )
        if not isinstance(choices := raw.get("choices"), list):
            choices = []
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice, out)
        usage = raw.get("usage") or (raw.get("x_groq") or {}).get("usage")
        if (found := parse_usage(usage, self._quirks)) is not None:
            self._usage = found
        return out

    def close(self) -> list[Event]:
        out: list[Event] = []
        for choice, audio in self._audio.items():
            source = Source(data=audio.get("data"))
            part = Audio(source=source, id=audio.get("id"), transcript=audio.get("transcript"))
            part.extensions = extension(NAME, {"audio": audio})
            out.append(PartAdded(part, self._part(choice, "audio"), choice))
        if self._usage is not None:
            out.append(Used(self._usage))
        return out

    def _choice(self, raw: dict[str, Any], out: list[Event]) -> None:
        index = raw.get("index") if isinstance(raw.get("index"), int) else 0
        assert isinstance(index, int)
        delta = raw.get("delta") or raw.get("message") or {}
        logprobs = raw.get("logprobs")
        for field in ("reasoning_content", "reasoning"):
            if isinstance(delta.get(field), str) and delta[field]:
                out.append(ReasoningDelta(delta[field], self._part(index, "reasoning"), index))
                break
        self._content(delta.get("content"), index, logprobs, out)
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            self._refused.add(index)
            out.append(RefusalDelta(delta["refusal"], self._part(index, "refusal"), index))
        for annotation in delta.get("annotations") or []:
            if isinstance(annotation, dict):
                out.append(CitationAdded({"kind": NAME, **annotation}, self._part(index, "text"), index))
        if isinstance(delta.get("audio"), dict):
            self._hear(index, delta["audio"])
        for position, call in enumerate(delta.get("tool_calls") or []):
            if isinstance(call, dict):
                self._call(call, index, position, out)
        if isinstance(delta.get("function_call"), dict):
            legacy = {"index": "legacy", "function": delta["function_call"]}
            self._call(legacy, index, 0, out)
        native = raw.get("finish_reason")
        if native:
            reason = FINISH.get(native, "other")
            if reason == "stop" and index in self._has_calls:
                reason = "tool_calls"
            elif reason == "stop" and index in self._refused:
                reason = "refusal"
            out.append(Finished(reason, native, choice=index))

    def _content(self, content: Any, index: int, logprobs: Any, out: list[Event]) -> None:
        if isinstance(content, str) and (content or logprobs):
            out.append(TextDelta(content, self._part(index, "text"), index, logprobs=logprobs))
        elif isinstance(content, list):
            for part in (p for raw in content for p in answer_parts(raw)):
                if isinstance(part, Text):
                    out.append(TextDelta(part.text, self._part(index, "text"), index))
                elif isinstance(part, Reasoning):
                    out.append(ReasoningDelta(part.text, self._part(index, "reasoning"), index))
                else:
                    out.append(PartAdded(part, self._part(index, f"whole{len(self._parts)}"), index))

    def _call(self, raw: dict[str, Any], choice: int, position: int, out: list[Event]) -> None:
        """`index` names the call; where a server leaves it out (Mistral), a new id or name begins a new one."""
        function = raw.get("function") or raw.get("custom") or {}
        key = raw.get("index")
        if key is None:
            begins = raw.get("id") or function.get("name")
            key = (
                f"{raw.get('id') or ''}{position}{self._next.get(choice, 0)}"
                if begins
                else self._last_call.get(choice, "0")
            )
        name = f"call{key}"
        self._last_call[choice] = str(key)
        self._has_calls.add(choice)
        if (choice, name) not in self._parts:
            part = self._part(choice, name)
            extra = (raw.get("extra_content") or {}).get("google") or {}
            out.append(
                ToolCallStarted(
                    id=str(raw.get("id") or f"call_{choice}_{part}"),
                    name=function.get("name") or "",
                    part=part,
                    choice=choice,
                    custom=raw.get("type") == "custom",
                    signature=extra.get("thought_signature"),
                    extensions=extension(NAME, leftover(raw, _CALL), form="legacy" if key == "legacy" else None),
                )
            )
        arguments = function.get("arguments") if "arguments" in function else function.get("input")
        if isinstance(arguments, dict):
            arguments = encode(arguments).decode()
        if arguments:
            out.append(ToolCallDelta(arguments, self._part(choice, name), choice))

    def _hear(self, index: int, piece: dict[str, Any]) -> None:
        heard = self._audio.setdefault(index, {})
        for key, value in piece.items():
            if key in ("data", "transcript") and isinstance(value, str):
                heard[key] = heard.get(key, "") + value
            else:
                heard[key] = value

    def _part(self, choice: int, name: str) -> int:
        key = (choice, name)
        if key not in self._parts:
            self._parts[key] = self._next.get(choice, 0)
            self._next[choice] = self._parts[key] + 1
        return self._parts[key]


class EventRenderer:
    """core.dialect.EventRenderer: chunks as OpenAI sends them."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._id = view.id
        self._model = view.model
        self._created = view.created
        self._calls: dict[tuple[int, int], int] = {}
        self._counts: dict[int, int] = {}
        self._spoken: set[int] = set()
        self._finished: list[Finished] = []
        self._usage: Usage | None = None

    def feed(self, events: Sequence[Event]) -> bytes:
        return b"".join(chunk for event in events if (chunk := self._render(event)))

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        """Finish reasons, usage where asked for, the end mark; details on the last chunk."""
        chunks = [
            self._chunk(end.choice, {}, finish=_native(end), logprobs=end.logprobs)
            for end in self._finished or [Finished("stop")]
        ]
        if self._view.include_usage and self._usage is not None:
            chunks.append(self._base([]) | {"usage": render_usage(self._usage)})
        if details is not None:
            chunks[-1]["headgate"] = details
        return b"".join(sse.frame(encode(chunk)) for chunk in chunks) + sse.frame(DONE)

    def fail(self, error: HeadgateError) -> bytes:
        return render_stream_error(error, self._view.id)

    def _render(self, event: Event) -> bytes | None:
        match event:
            case Started():
                self._id = event.id or self._id
                self._model = event.model or self._model
                self._created = event.created or self._created
            case TextDelta():
                if event.text or event.logprobs is not None:
                    return self._delta(event.choice, {"content": event.text}, event.logprobs)
            case ReasoningDelta():
                if event.text:
                    return self._delta(event.choice, {"reasoning_content": event.text})
            case RefusalDelta():
                return self._delta(event.choice, {"refusal": event.text})
            case CitationAdded():
                if event.citation.get("kind") == NAME:
                    own = {key: value for key, value in event.citation.items() if key != "kind"}
                    return self._delta(event.choice, {"annotations": [own]})
            case ToolCallStarted():
                return self._delta(event.choice, {"tool_calls": [self._begin(event)]})
            case ToolCallDelta():
                call = self._calls.get((event.choice, event.part), 0)
                return self._delta(
                    event.choice, {"tool_calls": [{"index": call, "function": {"arguments": event.arguments}}]}
                )
            case PartAdded():
                audio = event.value.extensions.get(NAME, {}).get("rest", {}).get("audio")
                if audio:
                    return self._delta(event.choice, {"audio": audio})
            case Finished():
                self._finished.append(event)
            case Used():
                self._usage = event.usage
            case Failed():
                return self.fail(event.error)
        return None

    def _begin(self, event: ToolCallStarted) -> dict[str, Any]:
        number = self._counts.get(event.choice, 0)
        self._counts[event.choice] = number + 1
        self._calls[event.choice, event.part] = number
        rest = event.extensions.get(NAME, {}).get("rest", {})
        function = {"name": event.name, "arguments": ""}
        return {"index": number, "id": event.id, "type": "function", "function": function, **rest}

    def _delta(self, choice: int, delta: dict[str, Any], logprobs: Any = None) -> bytes:
        if choice not in self._spoken:
            self._spoken.add(choice)
            first = {"role": "assistant", **delta}
            first.setdefault("content", "" if "tool_calls" not in delta else None)
            delta = first
        return sse.frame(encode(self._chunk(choice, delta, logprobs=logprobs)))

    def _chunk(
        self, choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        return self._base([{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])

    def _base(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if self._view.include_usage:
            out["usage"] = None
        return out


def _native(end: Finished) -> str:
    if end.native in NATIVE.values() and end.native is not None:
        return end.native
    return NATIVE[end.reason]


def render_error(error: HeadgateError) -> dict[str, Any]:
    kind, code = wire_type(error)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}


def render_stream_error(error: HeadgateError, request_id: str) -> bytes:
    """A chunk whose top-level `error` the SDKs raise; no end mark follows."""
    return sse.frame(encode(render_error(error)))


class _FrameChoice(msgspec.Struct):
    finish_reason: str | None = None


class _Frame(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: list[_FrameChoice] | None = None
    usage: Any = None
    x_groq: Any = None
    error: Any = None


_frame = msgspec.json.Decoder(_Frame)


def inspect_frame(frame: bytes, quirks: Quirks) -> Facts | None:
    """A byte scan selects: usage that holds an object, a finish that is not null, an error, the end mark."""
    if not _selected(frame):
        return None
    data = sse.data_of(frame)
    if data is None:
        return None
    if data.startswith(DONE):
        return Facts(terminal=True)
    try:
        raw = _frame.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        decode_upstream(data)  # raises the fault where it is not JSON at all
        return None
    if raw.error:
        return Facts(error=error_of(raw.error, None, {}))
    groq = raw.x_groq.get("usage") if isinstance(raw.x_groq, dict) else None
    usage = parse_usage(raw.usage or groq, quirks)
    native = next((c.finish_reason for c in raw.choices or [] if c.finish_reason), None)
    if usage is None and native is None:
        return None
    return Facts(
        usage=usage,
        finish=FINISH.get(native, "other") if native else None,
        usage_only=usage is not None and not raw.choices,
        id=raw.id if isinstance(raw.id, str) else None,
        model=raw.model if isinstance(raw.model, str) else None,
    )


def _selected(frame: bytes) -> bool:
    if not frame.endswith((b"}\n\n", b"}\r\n\r\n")) and not frame.startswith(b":"):
        return True  # the end mark, or something broken: look at it
    return (
        b'"finish_reason":"' in frame
        or b'"finish_reason": "' in frame
        or b'"usage":{' in frame
        or b'"usage": {' in frame
        or b'"error"' in frame
    )


__all__ = ["EventParser", "EventRenderer", "inspect_frame", "render_error", "render_stream_error"]
