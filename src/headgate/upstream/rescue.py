"""Going on with a broken stream: the next model continues what was said, or starts again, or the client is told.

A stream that broke is never reported as finished. `continue` gives the next model the words so far: as a prefilled
assistant turn where the target takes one, otherwise as an instruction, with the overlap that models like to repeat
trimmed. Tool calls cannot be continued in the middle: a stream that broke inside one ends with an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headgate.core.answer import Answer, Piece
from headgate.core.chat import Message, Text
from headgate.core.errors import HeadgateError, UpstreamFault
from headgate.core.events import (
    ChatAnswer,
    Event,
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Used,
    collect,
)
from headgate.core.request import Request

OVERLAP = 400
"""Characters of what was said in which a repetition by the next model is looked for."""
LEAST_OVERLAP = 8
INSTRUCTION = (
    "The assistant's last message was cut off by a transmission failure. Continue it exactly where it stops, in the same "
    "language, style and format. Do not repeat any of it, do not apologise, do not comment: write only what comes next."
)

Next = Callable[[Request], Awaitable[Answer]]


def may_continue(said: list[Event]) -> bool:
    """Only plain text of a single choice can be continued."""
    spoken = any(isinstance(event, TextDelta) and event.text for event in said)
    return spoken and not any(
        isinstance(event, ToolCallStarted | ToolCallDelta | RefusalDelta) or getattr(event, "choice", 0)
        for event in said
    )


def continuation(request: Request, said: list[Event], *, prefill: bool) -> Request:
    """The request that asks for the rest."""
    content = request.content()
    spoken = "".join(event.text for event in said if isinstance(event, TextDelta))
    words = spoken.rstrip() if prefill else spoken  # a prefill may not end in white space (Anthropic's rule)
    messages = [*content.messages, Message(role="assistant", content=[Text(text=words)])]
    if not prefill:
        messages.append(Message(role="user", content=[Text(text=INSTRUCTION)]))
    fields: dict = {"messages": messages}
    if content.max_tokens:
        fields["max_tokens"] = max(1, content.max_tokens - len(spoken) // 4)
    return request.edited(content, **fields)


def overlap(said: str, more: str) -> int:
    """How many leading characters of `more` repeat the end of `said` (0 below LEAST_OVERLAP)."""
    tail = said[-OVERLAP:]
    for length in range(min(len(tail), len(more)), LEAST_OVERLAP - 1, -1):
        if tail.endswith(more[:length]):
            return length
    return 0


class Rescued:
    """An answer that goes on with another model when the one that speaks breaks off."""

    def __init__(
        self, first: Answer, *, resume: Callable[[UpstreamFault, list[Event]], Awaitable[Answer | None]]
    ) -> None:
        self._now = first
        self._resume = resume
        self._said: list[Event] = []
        self._resumed = False
        self._part = 0
        self._trim: _Trim | None = None
        self._closed = False

    @property
    def settled(self) -> bool:
        return self._now.settled

    @property
    def model(self) -> str:
        return self._now.model

    @property
    def provider(self) -> str:
        return self._now.provider

    @property
    def deployment(self) -> str:
        return self._now.deployment

    @property
    def media(self) -> str:
        return self._now.media

    async def pull(self, dialect: str | None = None) -> Piece | None:
        while True:
            try:
                piece = await self._now.pull(None if self._resumed else dialect)
            except UpstreamFault as error:
                if self._closed:
                    raise
                await self._switch(error)
                continue
            if piece is None or isinstance(piece, bytes) or not self._resumed:
                return piece
            if fresh := self._fit(piece):
                return fresh

    def said(self) -> list[Event]:
        return self._said + ([] if self._resumed else self._now.said())

    async def body(self, dialect: str) -> bytes | None:
        return await self._now.body(dialect)

    async def read(self) -> ChatAnswer:
        events: list[Event] = []
        while (piece := await self.pull()) is not None:
            assert not isinstance(piece, bytes)
            events += piece
        return collect(events)

    async def aclose(self) -> None:
        self._closed = True
        await self._now.aclose()

    async def _switch(self, error: UpstreamFault) -> None:
        said = self._said + self._now.said()
        await self._now.aclose()
        try:
            answer = await self._resume(error, said)
        except HeadgateError as failed:
            raise error from failed
        if answer is None:
            raise error
        if self._closed:  # the client left in the very tick in which the rescue arrived
            await answer.aclose()
            raise error
        self._now, self._said, self._resumed = answer, said, True
        self._part = max((getattr(event, "part", 0) for event in said), default=0)
        spoken = "".join(event.text for event in said if isinstance(event, TextDelta))
        self._trim = _Trim(spoken)

    def _fit(self, events: list[Event]) -> list[Event]:
        """The new model's events as a sequel: no second start, its text joined to the part that broke off."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, Started):
                continue
            if isinstance(event, TextDelta) and self._trim is not None:
                text = self._trim.feed(event.text)
                if text:
                    out.append(TextDelta(text, self._part, 0))
            elif isinstance(event, ToolCallStarted | ToolCallDelta):
                event.part += self._part + 1
                out.append(event)
            elif isinstance(event, Finished | Used):
                if self._trim is not None and (rest := self._trim.flush()):
                    out.append(TextDelta(rest, self._part, 0))
                out.append(event)
        self._said += out
        return out


class _Trim:
    """Holds back the first characters until it is certain whether they repeat what was said."""

    def __init__(self, said: str) -> None:
        self._said = said
        self._held = ""
        self._done = False

    def feed(self, text: str) -> str:
        if self._done:
            return text
        self._held += text
        if len(self._held) < OVERLAP and self._could_repeat():
            return ""
        return self.flush()

    def flush(self) -> str:
        if self._done:
            return ""
        self._done = True
        held, self._held = self._held, ""
        return held[overlap(self._said, held) :]

    def _could_repeat(self) -> bool:
        """Is what is held, so far, found whole in the tail? Then more of it may follow."""
        return self._held in self._said[-OVERLAP:]
