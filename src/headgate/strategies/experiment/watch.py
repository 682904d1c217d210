"""An answer under watch, and two answers to one request side by side."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict

from headgate.core.answer import Answer, Passing, Piece, Push
from headgate.core.dialect import Dialect, Quirks
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatAnswer, Event, collect
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.ensemble.candidates import Candidate
from headgate.strategies.ensemble.canonical import canonical
from headgate.strategies.ensemble.vote import call_key
from headgate.strategies.schema import breaks_schema

WAITING = 1000
"""Requests under watch at a time; of more the oldest are left out."""
LARGEST = 1_000_000
"""Bytes of an answer beyond which it is not kept."""
_WORD = re.compile(r"\w+")


class Watched(Passing):
    """An answer that remembers what was said, as it came: decoding it is not the client's time to wait for."""

    def __init__(self, answer: Answer, dialect: Dialect) -> None:
        super().__init__(answer)
        self._dialect = dialect
        self._frames: list[bytes] = []
        self._events: list[Event] = []
        self._body: bytes | None = None
        self._whole: ChatAnswer | None = None
        self._size = 0

    def said_whole(self) -> ChatAnswer | None:
        """The answer, None where it was not complete, too large, or passed in another form than the door's."""
        if self._whole is not None or self._size > LARGEST:
            return self._whole
        try:
            if self._body is not None:
                return self._dialect.parse_answer(self._body, Quirks())
            return collect([*self._parsed(), *self._events])
        except HeadgateError:
            return None

    def _parsed(self) -> list[Event]:
        parser, splitter = self._dialect.event_parser(Quirks()), self._dialect.splitter()
        events = [event for data in self._frames for frame in splitter.feed(data) for event in parser.feed(frame)]
        return [*events, *parser.close()] if self._frames else []

    # -- Answer --------------------------------------------------------------------------------------------------------
    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        piece = await self._inner.pull(dialect)
        if isinstance(piece, bytes):
            self._size += len(piece) if dialect == self._dialect.name else LARGEST + 1
            if self._size <= LARGEST:
                self._frames.append(piece)
        elif piece is not None:
            self._events += piece
        return piece

    async def body(self, dialect: str) -> bytes | None:
        self._body = await self._inner.body(dialect)
        if self._body is not None:
            self._size += len(self._body) if dialect == self._dialect.name else LARGEST + 1
        return self._body

    async def read(self) -> ChatAnswer:
        self._whole = await self._inner.read()
        return self._whole


class Waiting:
    """Answers under watch until their requests are over, by trace; bounded by WAITING."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[Request, Run, Watched]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def keep(self, watched: Watched, request: Request, run: Run) -> None:
        self._open[run.trace.id] = (request, run, watched)
        if len(self._open) > WAITING:
            self._open.popitem(last=False)

    def take(self, record: RequestRecord) -> tuple[Request, Run, Watched] | None:
        """What was kept for a request that has ended well."""
        found = self._open.pop(record.trace, None)
        return None if record.error is not None else found


# -- two answers to one request --------------------------------------------------------------------------------------
def compared(request: Request, served: ChatAnswer, other: ChatAnswer) -> tuple[dict[str, float], dict[str, float]]:
    """(of the served one, of the other): length in characters, whether it fits the schema that was asked for, and how far
    they agree."""
    out: list[dict[str, float]] = []
    for answer in (served, other):
        values = {"length": float(len(_candidate(answer).text))}
        if (asked := request.content().output) is not None and asked.kind != "text":
            values["schema"] = float(breaks_schema(request.content(), answer) is None)
        out.append(values)
    out[1]["agreement"] = agreement(served, other)
    return out[0], out[1]


def agreement(one: ChatAnswer, two: ChatAnswer) -> float:
    """1 for the same tool calls, or the same short answer (number, choice, JSON); otherwise the share of words that they
    have in common (Dice's coefficient over words with their counts)."""
    first, second = _candidate(one), _candidate(two)
    if first.calls or second.calls:
        return float(call_key(first) == call_key(second))
    short = canonical(first.text), canonical(second.text)
    if None not in short:
        return float(short[0] == short[1])
    left, right = (Counter(_WORD.findall(side.text.casefold())) for side in (first, second))
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def _candidate(answer: ChatAnswer) -> Candidate:
    return Candidate("", 1.0, True, answer=answer)
