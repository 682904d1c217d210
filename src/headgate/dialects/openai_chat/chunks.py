"""Events → chunks as OpenAI sends them, so that its SDK's accumulator reads them; errors; details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.core.chat import Audio, Image
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
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.jsonio import attach_field, encode
from headgate.dialects.openai_chat.answer import image_wire, merged_logprobs, speaks_functions
from headgate.dialects.openai_chat.finish import native_of
from headgate.dialects.openai_chat.parts import NAME
from headgate.dialects.openai_chat.stream import CONSTANT, DONE
from headgate.dialects.openai_chat.usage import render_usage
from headgate.dialects.openai_error import render_error


class EventRenderer:
    """core.dialect.EventRenderer."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._legacy = speaks_functions(view)
        self._id = self._model = ""
        self._created = 0
        self._more: dict[str, Any] = {}
        self._own = False
        self._calls: dict[tuple[int, int], int] = {}
        self._counts: dict[int, int] = {}
        self._customs: set[tuple[int, int]] = set()
        self._spoken: set[int] = set()
        self._citations: dict[int, list[dict[str, Any]]] = {}
        self._images: dict[int, int] = {}
        self._finished: dict[int, Finished] = {}
        self._usage: Usage | None = None
        self._failed = False

    def feed(self, events: Sequence[Event]) -> bytes:
        if self._failed:
            return b""
        return b"".join(frame for event in events if (frame := self._render(event)))

    def finish(self, details: Mapping[str, Any] | None = None) -> bytes:
        """Citations, finish reasons, usage where it was asked for, the end mark; details on the last chunk."""
        if self._failed:
            return b""
        out: list[bytes] = []
        chunks: list[dict[str, Any]] = []
        for index in sorted({*self._finished, *self._spoken} or {0}):
            if index not in self._spoken:
                out.append(self._delta(index, {}))
            if index in self._citations:
                out.append(self._delta(index, {"annotations": self._citations[index]}))
            end = self._finished.get(index) or Finished("tool_calls" if self._counts.get(index) else "stop")
            native = native_of(end.reason, end.native, own=self._own)
            if self._legacy and native == "tool_calls":
                native = "function_call"
            chunks.append(self._chunk(index, {}, finish=native, logprobs=merged_logprobs(end.logprobs)))
        if self._view.include_usage and self._usage is not None:
            chunks.append(self._base([]) | {"usage": render_usage(self._usage)})
        if details is not None:
            chunks[-1]["headgate"] = details
        return b"".join(out) + b"".join(sse.frame(encode(chunk)) for chunk in chunks) + sse.frame(DONE)

    def fail(self, error: HeadgateError) -> bytes:
        self._failed = True
        return render_stream_error(error)

    def _render(self, event: Event) -> bytes | None:
        match event:
            case Started():
                self._begin(event)
            case TextDelta():
                if event.text or event.logprobs is not None:
                    return self._delta(event.choice, {"content": event.text}, event.logprobs)
            case ReasoningDelta():
                if event.text:
                    return self._delta(event.choice, {"reasoning_content": event.text})
            case RefusalDelta():
                return self._delta(event.choice, {"refusal": event.text})
            case CitationAdded():
                # One delta for all: SDKs accumulate lists by an index that annotations do not have.
                if event.citation.get("kind") == NAME:
                    own = {key: value for key, value in event.citation.items() if key != "kind"}
                    self._citations.setdefault(event.choice, []).append(own)
            case ToolCallStarted():
                return self._delta(event.choice, self._begin_call(event))
            case ToolCallDelta():
                return self._delta(event.choice, self._go_on(event))
            case PartAdded():
                return self._whole(event)
            case Finished():
                self._finished[event.choice] = event
            case Used():
                self._usage = event.usage
            case Resumed():
                return self._resume(event)
            case Failed():
                return self.fail(event.error)
        return None

    def _begin(self, event: Started) -> None:
        """Only the first one counts: an answer that another model goes on with keeps its id."""
        if self._id or self._model:
            return
        self._id = event.id or self._view.id
        self._model = event.model or self._view.model
        self._created = event.created or self._view.created
        self._own = NAME in event.extensions
        rest = event.extensions.get(NAME, {}).get("rest", {})
        self._more = {key: rest[key] for key in CONSTANT if rest.get(key)}

    def _resume(self, event: Resumed) -> bytes | None:
        """From here on the chunks name the model that speaks. A client that takes restarts is told to begin anew; with
        no choices on it the chunk means nothing to an SDK."""
        self._model = event.model or self._model
        if not event.restarted:
            return None
        for heard in (self._finished, self._citations, self._calls, self._counts):
            heard.clear()
        return sse.frame(encode(self._base([]) | {"headgate": {"restart": {"model": event.model}}}))

    def _whole(self, event: PartAdded) -> bytes | None:
        part = event.value
        wire = part.extensions.get(NAME, {}).get("wire")
        if isinstance(part, Audio) and wire:
            return self._delta(event.choice, {"audio": wire})
        if isinstance(part, Image) and (part.source.url or part.source.data):
            number = self._images[event.choice] = self._images.get(event.choice, -1) + 1
            return self._delta(event.choice, {"images": [{**image_wire(part), "index": number}]})
        return None

    # -- calls -------------------------------------------------------------------------------------------------------
    def _begin_call(self, event: ToolCallStarted) -> dict[str, Any]:
        notes = event.extensions.get(NAME, {})
        key = (event.choice, event.part)
        number = self._calls[key] = self._counts.get(event.choice, 0)
        self._counts[event.choice] = number + 1
        if self._legacy or notes.get("form") == "legacy":
            self._legacy = True
            return {"function_call": {"name": event.name, "arguments": ""}}
        call: dict[str, Any] = {**notes.get("rest", {}), "index": number, "id": event.id}
        if event.custom:
            self._customs.add(key)
            call |= {"type": "custom", "custom": {"name": event.name, "input": ""}}
        else:
            call |= {"type": "function", "function": {"name": event.name, "arguments": ""}}
        if event.signature is not None:
            call.setdefault("extra_content", {"google": {"thought_signature": event.signature}})
        return {"tool_calls": [call]}

    def _go_on(self, event: ToolCallDelta) -> dict[str, Any]:
        key = (event.choice, event.part)
        if self._legacy:
            return {"function_call": {"arguments": event.arguments}}
        piece = {"custom": {"input": event.arguments}} if key in self._customs else None
        piece = piece or {"function": {"arguments": event.arguments}}
        return {"tool_calls": [{"index": self._calls.get(key, 0), **piece}]}

    # -- chunks ------------------------------------------------------------------------------------------------------
    def _delta(self, choice: int, delta: dict[str, Any], logprobs: Any = None) -> bytes:
        """The first delta of a choice names the role; choices begin in their order, as accumulators index them."""
        before = b""
        if choice not in self._spoken:
            before = b"".join(self._delta(c, {}) for c in range(choice) if c not in self._spoken)
            self._spoken.add(choice)
            silent = "tool_calls" in delta or "function_call" in delta
            delta = {"role": "assistant", "content": None if silent else "", **delta}
        return before + sse.frame(encode(self._chunk(choice, delta, logprobs=logprobs)))

    def _chunk(
        self, choice: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        return self._base([{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])

    def _base(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {
            "id": self._id or self._view.id,
            "object": "chat.completion.chunk",
            "created": self._created or self._view.created,
            "model": self._model or self._view.model,
            **self._more,
            "choices": choices,
        }
        if self._view.include_usage:
            out["usage"] = None
        return out


def render_stream_error(error: HeadgateError) -> bytes:
    """A chunk whose top-level `error` the SDKs raise; no end mark follows."""
    return sse.frame(encode(render_error(error)))


def attach_details(frames: bytes, details: Mapping[str, Any]) -> bytes:
    """Details on the last chunk before the end mark; where the end mark came alone, on a chunk of their own before it."""
    wire = encode(details)
    splitter = sse.SseSplitter()
    pieces = splitter.feed(frames)
    if rest := splitter.close():
        pieces.append(rest)
    end = len(pieces)
    for number in range(len(pieces) - 1, -1, -1):
        data = sse.data_of(pieces[number])
        if data is None:
            continue
        if data.startswith(DONE):
            end = number
        elif data.rstrip().endswith(b"}"):
            event = sse.event_of(pieces[number])
            pieces[number] = sse.frame(attach_field(data.rstrip(), "headgate", wire), event)
            return b"".join(pieces)
    empty = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": "", "choices": []}
    pieces.insert(end, sse.frame(attach_field(encode(empty), "headgate", wire)))
    return b"".join(pieces)


__all__ = ["EventRenderer", "attach_details", "render_stream_error"]
