"""Chat streams: chunks → events."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.chat import Audio, Image, Reasoning, Text
from headgate.core.dialect import Quirks
from headgate.core.errors import UpstreamFault, fault
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
from headgate.dialects.jsonio import decode_chunk, encode
from headgate.dialects.openai_chat.answer import (
    audio_part,
    citations_of,
    content_parts,
    error_in,
    executed_tools,
    image_parts,
)
from headgate.dialects.openai_chat.finish import finish_of
from headgate.dialects.openai_chat.parts import NAME, REASONING_FIELDS, signature_of, text_of_details
from headgate.dialects.openai_chat.usage import parse_usage
from headgate.dialects.openai_error import error_of
from headgate.dialects.residue import extension, leftover

DONE = b"[DONE]"
_CALL = frozenset({"index", "id", "type", "function", "custom"})
CONSTANT = ("service_tier", "system_fingerprint", "provider")
"""Fields of every chunk that are also fields of the complete answer."""


def payload_of(frame: bytes) -> bytes | None:
    """The frame's data; also a JSON body that stands where a stream should. None where there is nothing to read; raises
    the invalid_answer fault that a page of HTML is."""
    data = sse.data_of(frame)
    if data is not None:
        return data if data.strip() else None
    bare = frame.strip()
    if bare.startswith(b"<"):
        raise fault("invalid_answer", "the provider's answer is HTML", detail=repr(frame[:200]))
    return bare if bare.startswith(b"{") else None


def failure_of(frame: bytes, raw: dict[str, Any]) -> UpstreamFault | None:
    """The error in a chunk, or an `event: error` whose data is the error itself."""
    found = error_in(raw)
    if found is None and frame.startswith(b"event:") and sse.event_of(frame) == "error":
        return error_of(raw, None, {})
    return found


class _Call(msgspec.Struct):
    """A call that is being written. Until its name is known nothing of it is told."""

    part: int
    id: str = ""
    name: str = ""
    waiting: str = ""
    told: bool = False


class _Choice:
    """What one choice has said so far."""

    __slots__ = ("audio", "by_index", "calls", "finished", "last", "parts", "refusal_logprobs", "refused")

    def __init__(self) -> None:
        self.parts: dict[str, int] = {}
        self.calls: list[_Call] = []
        self.by_index: dict[Any, _Call] = {}
        self.last: _Call | None = None
        self.refused = False
        self.finished = False
        self.audio: dict[str, Any] = {}
        self.refusal_logprobs: list[Any] = []

    def part(self, name: str) -> int:
        """Its number; a new one where the name is new."""
        return self.parts.setdefault(name, len(self.parts))


class EventParser:
    """core.dialect.EventParser for chat chunks, of whoever speaks the format."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._started = False
        self._ended = False
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._out: list[Event] = []

    def feed(self, frame: bytes) -> list[Event]:
        data = None if self._ended else payload_of(frame)
        if data is None:
            return []
        if data.startswith(DONE):
            return self._done()
        raw = decode_chunk(data)
        if (failed := failure_of(frame, raw)) is not None:
            self._ended = True
            return [Failed(failed)]
        self._start(raw)
        choices = raw.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            self._choice(choice)
        groq = raw.get("x_groq")
        usage = raw.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        self._usage = parse_usage(usage, self._quirks) or self._usage
        return self._take()

    def close(self) -> list[Event]:
        if self._usage is not None and not self._ended:
            self._out.append(Used(self._usage))
        self._ended = True
        return self._take()

    def _take(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _done(self) -> list[Event]:
        """The end mark. Some servers (Snowflake, models behind routers) never say why they ended; where they counted the
        tokens and closed the stream in due form, the answer is whole."""
        if self._usage is not None:
            for index, choice in self._choices.items():
                if not choice.finished:
                    self._finish(index, choice, None)
        return self._take()

    def _start(self, raw: dict[str, Any]) -> None:
        """Azure's first chunk has neither id nor choices; Snowflake has no ids at all."""
        if self._started or not (raw.get("id") or raw.get("choices")):
            return
        self._started = True
        created = raw.get("created")
        kept = {key: raw[key] for key in CONSTANT if raw.get(key)}
        self._out.append(
            Started(
                id=str(raw.get("id") or ""),
                model=str(raw.get("model") or ""),
                created=int(created) if isinstance(created, int | float) else 0,
                extensions=extension(NAME, kept, streamed=True),
            )
        )

    # -- one choice of one chunk -------------------------------------------------------------------------------------
    def _choice(self, raw: dict[str, Any]) -> None:
        index = raw.get("index")
        index = index if isinstance(index, int) else 0
        choice = self._choices.setdefault(index, _Choice())
        delta = raw.get("delta") or raw.get("message")
        logprobs = raw.get("logprobs")
        if isinstance(delta, dict):
            self._reason(delta, index, choice)
            self._speak(delta, logprobs if isinstance(logprobs, dict) else None, index, choice)
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self._call(call, index, choice)
            if isinstance(delta.get("function_call"), dict) and not calls:
                self._call({"index": "legacy", "function": delta["function_call"]}, index, choice)
        native = raw.get("finish_reason")
        if native and isinstance(native, str) and not choice.finished:
            self._finish(index, choice, native)

    def _reason(self, delta: dict[str, Any], index: int, choice: _Choice) -> None:
        for field in REASONING_FIELDS:
            if isinstance(delta.get(field), str) and delta[field]:
                self._out.append(ReasoningDelta(delta[field], choice.part("reasoning"), index))
                return
        if text := text_of_details(delta.get("reasoning_details")):
            self._out.append(ReasoningDelta(text, choice.part("reasoning"), index))

    def _speak(self, delta: dict[str, Any], logprobs: dict[str, Any] | None, index: int, choice: _Choice) -> None:
        content, refusal = delta.get("content"), delta.get("refusal")
        telling = logprobs if logprobs and logprobs.get("content") else None
        if isinstance(content, str) and (content or telling):
            self._out.append(TextDelta(content, choice.part("text"), index, logprobs=telling))
        elif isinstance(content, list):
            self._list(content, index, choice)
        if isinstance(refusal, str) and refusal:
            choice.refused = True
            self._out.append(RefusalDelta(refusal, choice.part("refusal"), index))
        if logprobs and logprobs.get("refusal"):
            choice.refusal_logprobs += logprobs["refusal"]
        for citation in citations_of(delta.get("annotations")):
            self._out.append(CitationAdded(citation, choice.part("text"), index))
        if isinstance(delta.get("audio"), dict):
            _hear(choice.audio, delta["audio"])
        for part in executed_tools(delta):
            self._out.append(PartAdded(part, choice.part(f"executed{len(choice.parts)}"), index))
        images = delta.get("images")
        for part in image_parts(images) if isinstance(images, list) else ():
            self._out.append(PartAdded(part, choice.part(f"image{len(choice.parts)}"), index))

    def _list(self, content: list[Any], index: int, choice: _Choice) -> None:
        """Mistral: lists of thinking and text, in deltas too."""
        for part in content_parts(content):
            if isinstance(part, Text):
                self._out.append(TextDelta(part.text, choice.part("text"), index))
            elif isinstance(part, Reasoning):
                if part.text:
                    self._out.append(ReasoningDelta(part.text, choice.part("reasoning"), index))
            else:
                name = f"image{len(choice.parts)}" if isinstance(part, Image) else f"whole{len(choice.parts)}"
                self._out.append(PartAdded(part, choice.part(name), index))

    # -- calls -------------------------------------------------------------------------------------------------------
    def _call(self, raw: dict[str, Any], index: int, choice: _Choice) -> None:
        function = raw.get("function") or raw.get("custom")
        function = function if isinstance(function, dict) else {}
        call = self._find_call(raw, function, choice)
        if call is None:
            return
        choice.last = call
        if not call.told:
            call.id = call.id or str(raw.get("id") or "")
            call.name += function.get("name") or ""
            if call.name:
                self._tell(call, raw, index)
        arguments = function.get("arguments") if "arguments" in function else function.get("input")
        if isinstance(arguments, dict):
            arguments = encode(arguments).decode()
        if isinstance(arguments, str) and arguments:
            if call.told:
                self._out.append(ToolCallDelta(call.waiting + arguments, call.part, index))
                call.waiting = ""
            else:
                call.waiting += arguments

    def _find_call(self, raw: dict[str, Any], function: dict[str, Any], choice: _Choice) -> _Call | None:
        """`index` names the call. Where a server leaves it out (Mistral, Gemini) a name begins a new call; where one
        gives all its calls the same index, another id with another name does."""
        key, name, id = raw.get("index"), function.get("name"), raw.get("id")
        found = choice.by_index.get(key) if key is not None else None
        if key is None and not name:
            found = next((call for call in choice.calls if call.id == id), choice.last) if id else choice.last
        if found is not None and not (found.told and name and id and found.id and id != found.id):
            return found
        if not (name or id or function.get("arguments") or function.get("input")):
            return None  # a placeholder
        call = _Call(part=choice.part(f"call{len(choice.calls)}"))
        choice.calls.append(call)
        if key is not None:
            choice.by_index[key] = call
        return call

    def _tell(self, call: _Call, raw: dict[str, Any], index: int) -> None:
        call.told = True
        legacy = raw.get("index") == "legacy"
        call.id = call.id or (f"call_{call.name}" if legacy else f"call_{index}_{call.part}")
        self._out.append(
            ToolCallStarted(
                id=call.id,
                name=call.name,
                part=call.part,
                choice=index,
                custom=raw.get("type") == "custom",
                signature=signature_of(raw),
                extensions=extension(NAME, leftover(raw, _CALL), form="legacy" if legacy else None),
            )
        )

    # -- the end -----------------------------------------------------------------------------------------------------
    def _finish(self, index: int, choice: _Choice, native: str | None) -> None:
        for call in choice.calls:
            if not call.told:
                raise fault("invalid_answer", "the provider's tool call names no function")
            if call.waiting:
                self._out.append(ToolCallDelta(call.waiting, call.part, index))
                call.waiting = ""
        if choice.audio.get("data"):
            part: Audio = audio_part(choice.audio)
            self._out.append(PartAdded(part, choice.part("audio"), index))
        choice.finished = True
        reason = finish_of(native, calls=bool(choice.calls), refused=choice.refused)
        logprobs = {"content": None, "refusal": choice.refusal_logprobs} if choice.refusal_logprobs else None
        self._out.append(Finished(reason, native, choice=index, logprobs=logprobs))


def _hear(heard: dict[str, Any], piece: dict[str, Any]) -> None:
    """Base64 and transcript come in pieces, the id and the expiry in one of them."""
    for key, value in piece.items():
        if key in ("data", "transcript") and isinstance(value, str):
            heard[key] = heard.get(key, "") + value
        else:
            heard[key] = value
