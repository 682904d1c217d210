"""Several answers in one stream (`n`, `candidateCount`): the first one's finish is not the stream's."""

from __future__ import annotations

from headgate.core.chat import FinishReason
from headgate.core.dialect import EventParser
from headgate.core.events import CONTENT, CitationAdded, Event, Finished


class Several:
    """Which of `wanted` answers still speak, by the stream's events."""

    def __init__(self, wanted: int, parser: EventParser) -> None:
        self._wanted = wanted
        self._parser = parser
        self._open: set[int] = set()
        self._done: dict[int, FinishReason] = {}

    @property
    def are_over(self) -> bool:
        """As many as were asked for have finished. A provider may give fewer: then only its end tells."""
        return len(self._done) >= self._wanted and not self._open

    @property
    def were_cut(self) -> bool:
        """One spoke and has not finished."""
        return bool(self._open)

    def complete(self, said: list[Event]) -> list[Event]:
        """Of what was said what belongs to answers that tell of no other end themselves."""
        return [
            event
            for event in said
            if not isinstance(event, (*CONTENT, CitationAdded)) or self._done.get(event.choice) == "stop"
        ]

    def feed(self, frame: bytes) -> None:
        for event in self._parser.feed(frame):
            self.heard(event)

    def close(self) -> None:
        for event in self._parser.close():
            self.heard(event)

    def heard(self, event: Event) -> None:
        if isinstance(event, Finished):
            self._done.setdefault(event.choice, event.reason)
            self._open.discard(event.choice)
        elif isinstance(event, CONTENT) and event.choice not in self._done:  # a finish is told once
            self._open.add(event.choice)
