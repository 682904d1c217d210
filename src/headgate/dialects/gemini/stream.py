"""generateContent streams: chunks ↔ events, as SSE or as one JSON array."""

from __future__ import annotations

from typing import Any

from headgate.core.chat import Part, Reasoning, Text, ToolCall
from headgate.core.errors import fault
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
from headgate.core.usage import Usage
from headgate.dialects import sse
from headgate.dialects.gemini.candidate import ANSWER, CANDIDATE, blocked, content_of, read_part, sources, word
from headgate.dialects.gemini.errors import error_of
from headgate.dialects.gemini.finish import finish_of
from headgate.dialects.gemini.names import NAME, get
from headgate.dialects.gemini.partial import PartialCall, is_partial
from headgate.dialects.gemini.parts import PartReader, listed
from headgate.dialects.gemini.usage import parse_logprobs, parse_usage
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.residue import extension


class _Choice:
    """What is known of one candidate so far."""

    def __init__(self) -> None:
        self.part = self.text = -1
        self.kind = ""
        self.called = self.ended = False
        self.partial: PartialCall | None = None
        self.logprobs: list[Any] = []
        self.rest: dict[str, Any] = {}
        self.content: dict[str, Any] | None = None
        self.index: Any = None

    def number(self, kind: str, *, whole: bool = False) -> int:
        """The number of the part that a piece of `kind` belongs to; a `whole` piece is a part of its own."""
        if whole or self.kind != kind:
            self.part += 1
        self.kind = "" if whole else kind
        if kind == "text":
            self.text = self.part
        return self.part

    def merge(self, raw: dict[str, Any]) -> None:
        """Keeps what the vocabulary has no words for; the last that says something counts."""
        for key, value in raw.items():
            if key not in CANDIDATE and (value or key not in self.rest):
                self.rest[key] = value
        if isinstance(raw.get("content"), dict):
            self.content = {**(self.content or {}), **{k: v for k, v in raw["content"].items() if k != "parts"}}
        self.index = raw.get("index", self.index)


class EventParser:
    """core.dialect.EventParser. usageMetadata repeats in every chunk: the last one counts."""

    def __init__(self) -> None:
        self._reader = PartReader()
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._own_usage: Any = None
        self._rest: dict[str, Any] = {}
        self._started = self._failed = self._blocked = False

    def feed(self, frame: bytes) -> list[Event]:
        data = sse.data_of(frame)
        if data is None or not data.strip():
            return []
        raw = decode_upstream(data)
        return [event for chunk in (raw if isinstance(raw, list) else [raw]) for event in self.take(chunk)]

    def take(self, raw: Any) -> list[Event]:
        """The events of one decoded chunk."""
        if self._failed:
            return []
        if not isinstance(raw, dict):
            raise fault("invalid_answer", "the provider's stream holds an event that is no object")
        if raw.get("error"):
            self._failed = True
            return [Failed(error_of(raw["error"], None, {}))]
        out: list[Event] = []
        rest = {key: value for key, value in raw.items() if key not in ANSWER}
        if not self._started:
            self._started = True
            answer_id = word(raw.get("responseId"))
            self._reader = PartReader(answer_id)
            out.append(Started(answer_id, word(raw.get("modelVersion")), extensions=extension(NAME, rest, own=True)))
        self._rest |= rest
        for candidate in listed(raw.get("candidates")):
            self._candidate(candidate, out)
        feedback = raw.get("promptFeedback")
        if not self._choices and not self._blocked and isinstance(feedback, dict) and feedback.get("blockReason"):
            self._blocked = True
            end = blocked(raw)
            out.append(Finished(end.finish, end.native_finish, extensions=end.extensions))
        if (usage := parse_usage(raw.get("usageMetadata"))) is not None:
            self._usage, self._own_usage = usage, raw["usageMetadata"]
        return out

    def close(self) -> list[Event]:
        if self._usage is None:
            return []
        candidates = False if self._blocked else None
        notes = extension(NAME, self._rest, usage=self._own_usage, candidates=candidates, form="answer")
        return [Used(self._usage, notes)]

    def _candidate(self, raw: Any, out: list[Event]) -> None:
        content = content_of(raw)
        index = raw.get("index")
        index = index if isinstance(index, int) and index >= 0 else 0
        choice = self._choices.setdefault(index, _Choice())
        if choice.ended:
            return
        choice.merge(raw)
        for wire in listed(content.get("parts")):
            whole = self._whole(choice, wire)
            if whole is not None:
                self._one(read_part(self._reader, whole), choice, index, out)
        if raw.get("logprobsResult") is not None:
            choice.logprobs.append(raw["logprobsResult"])
        if raw.get("finishReason") is not None:
            choice.ended = True
            if cited := sources(choice.rest):
                at = choice.text if choice.text >= 0 else choice.number("text")
                out += [CitationAdded(source, at, index) for source in cited]
            out.append(_end(choice, index, raw["finishReason"]))

    def _whole(self, choice: _Choice, wire: Any) -> Any:
        """The part, None while a call whose arguments come in pieces is not complete."""
        call = get(wire, "functionCall") if isinstance(wire, dict) else None
        if not isinstance(call, dict) or (choice.partial is None and not is_partial(call)):
            return wire
        if choice.partial is None:
            choice.partial = PartialCall(call, wire)
        found = choice.partial.add(call, wire)
        if found is not None:
            choice.partial = None
        return found

    def _one(self, part: Part, choice: _Choice, index: int, out: list[Event]) -> None:
        match part:
            case Text():
                if part.text or part.signature:
                    out.append(TextDelta(part.text, choice.number("text"), index, part.signature))
            case Reasoning():
                out.append(ReasoningDelta(part.text, choice.number("thought"), index, signature=part.signature))
            case ToolCall():
                choice.called = True
                number = choice.number("call", whole=True)
                out.append(ToolCallStarted(part.id, part.name, number, index, False, part.signature, part.extensions))
                out.append(ToolCallDelta(part.arguments, number, index))
            case _:
                out.append(PartAdded(part, choice.number("other", whole=True), index))


def _end(choice: _Choice, index: int, native: Any) -> Finished:
    notes = extension(
        NAME,
        choice.rest,
        index=choice.index,
        content=choice.content,
        partless=True if choice.part < 0 else None,
        native=native,
        logprobs=_joined(choice.logprobs),
        form="candidate",
    )
    reason = finish_of(native, choice.called)
    logprobs = parse_logprobs(choice.logprobs)
    return Finished(reason, str(native), choice=index, logprobs=logprobs, extensions=notes)


def _joined(results: list[Any]) -> dict[str, Any] | None:
    """The chunks' logprobsResult as the one that a complete answer holds."""
    out: dict[str, Any] = {}
    for result in results:
        for key, value in result.items() if isinstance(result, dict) else ():
            have = out.get(key)
            out[key] = have + value if isinstance(have, list) and isinstance(value, list) else value
    return out or None
