"""An answer that many calls have led to: its usage is the sum of all of theirs, so that the client sees what was spent."""

from __future__ import annotations

import msgspec

from headgate.core.answer import Answer, Passing, Piece, Push
from headgate.core.events import ChatAnswer, Event, Used
from headgate.core.strategy import Run
from headgate.core.usage import Usage


def used_by(run: Run) -> Usage | None:
    """Of all calls of the request so far; None where no provider has told any."""
    used = [attempt.usage for attempt in run.trace.attempts if attempt.usage is not None]
    return sum(used[1:], used[0]) if used else None


class Summed(Passing):
    def __init__(self, inner: Answer, run: Run) -> None:
        super().__init__(inner)
        self._run = run

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        """Always events: the provider's own bytes would tell its own usage only."""
        piece = await self._inner.pull()
        if isinstance(piece, bytes) or piece is None:
            return piece
        return [self._with_total(event) for event in piece]

    def _with_total(self, event: Event) -> Event:
        if not isinstance(event, Used):
            return event
        return msgspec.structs.replace(event, usage=used_by(self._run) or event.usage)

    def said(self) -> list[Event]:
        return [self._with_total(event) for event in self._inner.said()]

    async def body(self, dialect: str) -> bytes | None:
        return None

    async def read(self) -> ChatAnswer:
        answer = await self._inner.read()
        return msgspec.structs.replace(answer, usage=used_by(self._run) or answer.usage, extensions={})
