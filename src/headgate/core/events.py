"""An answer as events. A dialect's EventParser makes them from frames, its EventRenderer writes frames from them.

Order within one choice: parts are numbered 0, 1, ... by `part`; a part's deltas come between its neighbours' or,
where the provider interleaves (parallel tool calls), mixed, so `part` decides. `Finished` once per choice, then at most
one `Used` more. A stream without `Finished` did not finish, whatever the transport says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from headgate.core.chat import (
    Audio,
    Choice,
    Extensions,
    FinishReason,
    Node,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Source,
    Text,
    ToolCall,
)
from headgate.core.errors import UpstreamFault, fault
from headgate.core.usage import Usage


class Started(msgspec.Struct):
    """First event: the provider's own id and model string; `created` is in Unix seconds, 0 where not said."""

    id: str = ""
    model: str = ""
    created: int = 0
    extensions: Extensions = {}


class TextDelta(msgspec.Struct):
    text: str
    part: int = 0
    choice: int = 0
    signature: str | None = None
    logprobs: Any = None


class CitationAdded(msgspec.Struct):
    citation: dict[str, Any]
    part: int = 0
    choice: int = 0


class ReasoningDelta(msgspec.Struct):
    """`encrypted` and `signature` arrive whole; `summary` as in chat.Reasoning."""

    text: str = ""
    part: int = 0
    choice: int = 0
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    summary: bool = False


class RefusalDelta(msgspec.Struct):
    text: str
    part: int = 0
    choice: int = 0


class ToolCallStarted(msgspec.Struct):
    id: str
    name: str
    part: int = 0
    choice: int = 0
    custom: bool = False
    signature: str | None = None
    extensions: Extensions = {}


class ToolCallDelta(msgspec.Struct):
    """A piece of the arguments' JSON text; the pieces need not be valid JSON, their sum is ("" in all = {})."""

    arguments: str
    part: int = 0
    choice: int = 0


class PartAdded(msgspec.Struct):
    """A part that came whole: Opaque vendor items, audio, images."""

    value: Part
    part: int = 0
    choice: int = 0


class Finished(msgspec.Struct):
    """`extensions` is what the choice said beyond our words: chat.Choice's."""

    reason: FinishReason
    native: str | None = None
    stop_sequence: str | None = None
    choice: int = 0
    logprobs: Any = None
    extensions: Extensions = {}


class Used(msgspec.Struct):
    """The final usage. Parsers give it once, the last the provider said.

    `extensions` is what the answer's end said beyond our words; it replaces the same dialect's of `Started`."""

    usage: Usage
    extensions: Extensions = {}


class Resumed(msgspec.Struct):
    """Another model goes on where one broke off; never the first event. `model` is its provider's own string, shown by
    formats whose later frames name the model. `restarted`: it begins anew, what was said before is void."""

    model: str = ""
    restarted: bool = False


class Failed(msgspec.Struct):
    """The provider reported an error inside the stream. Nothing follows."""

    error: UpstreamFault


Event = (
    Started
    | TextDelta
    | CitationAdded
    | ReasoningDelta
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | PartAdded
    | Finished
    | Used
    | Resumed
    | Failed
)
CONTENT = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallStarted, ToolCallDelta, PartAdded)


class ChatAnswer(Node):
    """A complete answer."""

    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: Usage | None = None


class Collector:
    """Events -> ChatAnswer. `finished` tells whether every choice that began has ended."""

    def __init__(self) -> None:
        self._answer = ChatAnswer()
        self._parts: dict[int, dict[int, Part]] = {}
        self._finish: dict[int, Finished] = {}
        self._logprobs: dict[int, list[Any]] = {}

    @property
    def finished(self) -> bool:
        return bool(self._finish) and self._parts.keys() <= self._finish.keys()

    def feed(self, event: Event) -> None:
        """Takes one event. Raises the fault of a `Failed`."""
        match event:
            case Started():
                self._answer.id, self._answer.model, self._answer.created = event.id, event.model, event.created
                self._answer.extensions = event.extensions
            case Finished():
                self._finish[event.choice] = event
                self._parts.setdefault(event.choice, {})
            case Used():
                self._answer.usage = event.usage
                if event.extensions:
                    self._answer.extensions = {**self._answer.extensions, **event.extensions}
            case Failed():
                raise event.error
            case Resumed():
                self._answer.model = event.model or self._answer.model
                if event.restarted:
                    self._parts.clear()
                    self._finish.clear()
            case _:
                self._content(event)

    def _content(self, event: Any) -> None:
        parts = self._parts.setdefault(event.choice, {})
        have = parts.get(event.part)
        match event:
            case TextDelta():
                if event.logprobs is not None:
                    self._logprobs.setdefault(event.choice, []).append(event.logprobs)
                if not isinstance(have, Text):
                    have = parts[event.part] = Text(text="")
                have.text += event.text
                have.signature = event.signature or have.signature
            case CitationAdded():
                if not isinstance(have, Text):
                    have = parts[event.part] = Text(text="")
                have.citations = [*have.citations, event.citation]
            case ReasoningDelta():
                if not isinstance(have, Reasoning):
                    have = parts[event.part] = Reasoning(summary=event.summary)
                have.text += event.text
                have.signature = event.signature or have.signature
                have.encrypted = event.encrypted or have.encrypted
                have.id = event.id or have.id
            case RefusalDelta():
                if not isinstance(have, Refusal):
                    have = parts[event.part] = Refusal(text="")
                have.text += event.text
            case ToolCallStarted():
                parts[event.part] = ToolCall(
                    id=event.id,
                    name=event.name,
                    arguments="",
                    custom=event.custom,
                    signature=event.signature,
                    extensions=event.extensions,
                )
            case ToolCallDelta():
                if not isinstance(have, ToolCall):
                    raise fault("invalid_answer", "tool call arguments came before their call")
                have.arguments += event.arguments
            case PartAdded():
                parts[event.part] = event.value

    def answer(self) -> ChatAnswer:
        """The answer so far; call when the events have ended. Empty tool arguments become `{}`."""
        self._answer.choices = [self._choice(index) for index in sorted(self._parts)]
        return self._answer

    def _choice(self, index: int) -> Choice:
        parts = [part for _, part in sorted(self._parts[index].items())]
        for part in parts:
            if isinstance(part, ToolCall) and not part.arguments and not part.custom:
                part.arguments = "{}"
        end = self._finish.get(index)
        logprobs: Any = end.logprobs if end else None
        if logprobs is None and index in self._logprobs:
            logprobs = self._logprobs[index]
        return Choice(
            parts=parts,
            finish=end.reason if end else "other",
            native_finish=end.native if end else None,
            stop_sequence=end.stop_sequence if end else None,
            logprobs=logprobs,
            extensions=end.extensions if end else {},
        )


def collect(events: Iterable[Event]) -> ChatAnswer:
    """Complete answer of complete events; raises stream_broken where they did not finish."""
    collector = Collector()
    for event in events:
        collector.feed(event)
    if not collector.finished:
        raise fault("stream_broken", "the stream ended without a finish")
    return collector.answer()


def events_of(answer: ChatAnswer, text_chunk: int = 0) -> Iterator[Event]:
    """A complete answer as events; text is cut into pieces of `text_chunk` characters where that is not 0."""
    yield Started(answer.id, answer.model, answer.created, answer.extensions)
    for index, choice in enumerate(answer.choices):
        for number, part in enumerate(choice.parts):
            yield from _events_of_part(part, number, index, text_chunk)
        yield Finished(choice.finish, choice.native_finish, choice.stop_sequence, index, choice.logprobs)
    if answer.usage is not None:
        yield Used(answer.usage)


def _events_of_part(part: Part, number: int, index: int, text_chunk: int) -> Iterator[Event]:
    match part:
        case Text():
            for piece in _pieces(part.text, text_chunk):
                yield TextDelta(piece, number, index)
            if part.signature:
                yield TextDelta("", number, index, part.signature)
            for citation in part.citations:
                yield CitationAdded(citation, number, index)
        case Reasoning():
            for piece in _pieces(part.text, text_chunk):
                yield ReasoningDelta(piece, number, index, id=part.id, summary=part.summary)
            if part.signature or part.encrypted or not part.text:
                yield ReasoningDelta(
                    "", number, index, part.signature, part.encrypted, id=part.id, summary=part.summary
                )
        case Refusal():
            for piece in _pieces(part.text, text_chunk):
                yield RefusalDelta(piece, number, index)
        case ToolCall():
            yield ToolCallStarted(part.id, part.name, number, index, part.custom, part.signature, part.extensions)
            for piece in _pieces(part.arguments, text_chunk):
                yield ToolCallDelta(piece, number, index)
        case _:
            yield PartAdded(part, number, index)


def _pieces(text: str, size: int) -> Iterator[str]:
    if not size:
        yield text
        return
    for start in range(0, len(text), size):
        yield text[start : start + size]


__all__ = [
    "CONTENT",
    "Audio",
    "ChatAnswer",
    "CitationAdded",
    "Collector",
    "Event",
    "Failed",
    "Finished",
    "Opaque",
    "PartAdded",
    "ReasoningDelta",
    "RefusalDelta",
    "Resumed",
    "Source",
    "Started",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallStarted",
    "Used",
    "collect",
    "events_of",
]


def says_something(event: Event) -> bool:
    """Whether a first event of content is more than the frame for some."""
    if isinstance(event, TextDelta):
        return bool(event.text)
    if isinstance(event, ReasoningDelta):
        return bool(event.text or event.encrypted or event.signature)
    return True
