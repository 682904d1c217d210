"""An answer on its way back: a stream that may still be the provider's own bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from headgate.core.events import ChatAnswer, Event, collect, events_of

Piece = bytes | list[Event]
Push = Callable[[Piece], bool]
"""Takes a piece in the moment in which it has come, and must not wait. False: not so fast."""
JSON = "application/json"


@runtime_checkable
class Answer(Protocol):
    """Returned at first content or complete. Whoever receives one and does not pass it on must close it.

    `pull(dialect)` gives the next piece: whole frames as bytes where the answer is still raw in that dialect, else a
    batch of events; None at the end. It raises the UpstreamFault that broke the answer. A raw answer may turn into
    events (rescue), never back; the events that the bytes so far amount to are then in `said()`.
    `push`, which may be given once a first piece has been pulled, spares a task to be woken for each: pieces from the
    middle of a stream may go there, and `pull` returns what has to be waited for or decided on: the tail, what comes after
    a rescue, the end; or an empty piece, after which the reader waits until its client has taken what was pushed.
    When a pulled piece is the tail (final usage, end mark), `settled` is already True: the ledger knows the cost before
    the client sees the end. `body(dialect)` gives a complete answer's own bytes, None where they are
    in another dialect.
    """

    @property
    def settled(self) -> bool: ...
    @property
    def model(self) -> str:
        """Our name of the model that serves it."""
        ...

    @property
    def provider(self) -> str: ...
    @property
    def deployment(self) -> str: ...
    @property
    def media(self) -> str:
        """Content type of `body`: JSON but for sounds, subtitles and the like."""
        ...

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None: ...
    def said(self) -> list[Event]: ...
    async def body(self, dialect: str) -> bytes | None: ...
    async def read(self) -> ChatAnswer: ...
    async def aclose(self) -> None:
        """Idempotent. Cancels upstream if it is still speaking, and settles."""
        ...


class CompleteAnswer:
    """An answer that is already there (chosen by an ensemble, written by an agent, restored by idempotency)."""

    def __init__(
        self, answer: ChatAnswer, *, model: str = "", provider: str = "", deployment: str = "", chunk: int = 80
    ) -> None:
        self.settled = True
        self.model = model
        self.provider = provider
        self.deployment = deployment
        self.media = JSON
        self.answer = answer
        self._chunk = chunk
        self._events: Iterator[Event] | None = None
        self._said: list[Event] = []

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        if self._events is None:
            self._events = events_of(self.answer, self._chunk)
        event = next(self._events, None)
        if event is None:
            return None
        self._said.append(event)
        return [event]

    def said(self) -> list[Event]:
        return list(self._said)

    async def body(self, dialect: str) -> bytes | None:
        return None

    async def read(self) -> ChatAnswer:
        return self.answer

    async def aclose(self) -> None:
        return None


class Passing:
    """An Answer that passes everything on to another one, `inner`: wrappers add what they are for."""

    def __init__(self, inner: Answer) -> None:
        self._inner = inner

    @property
    def settled(self) -> bool:
        return self._inner.settled

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def provider(self) -> str:
        return self._inner.provider

    @property
    def deployment(self) -> str:
        return self._inner.deployment

    @property
    def media(self) -> str:
        return self._inner.media

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        return await self._inner.pull(dialect, push)

    def said(self) -> list[Event]:
        return self._inner.said()

    async def body(self, dialect: str) -> bytes | None:
        return await self._inner.body(dialect)

    async def read(self) -> ChatAnswer:
        return await self._inner.read()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def read_events(answer: Answer) -> ChatAnswer:
    """Collects what is left of a streamed answer; raises the fault that broke it."""
    events: list[Event] = []
    while (piece := await answer.pull()) is not None:
        if isinstance(piece, bytes):
            raise TypeError("an answer gave bytes to a caller that did not ask for them")
        events += piece
    return collect(events)
