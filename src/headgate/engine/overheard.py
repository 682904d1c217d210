"""What a request said and what it was answered, for stores that are asked to keep it."""

from __future__ import annotations

from headgate.core.answer import JSON, Answer, Passing, Piece, Push
from headgate.core.chat import text_of
from headgate.core.dialect import Dialect, Quirks, View
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatAnswer, Collector
from headgate.telemetry.redaction import redacted

MOST = 64_000
"""Characters of each body that are kept."""
_TEXT = (JSON, "text/")


class Overheard(Passing):
    """An Answer that passes everything on and remembers it. `dialect` is the door's: raw pieces are in it."""

    def __init__(self, answer: Answer, dialect: Dialect) -> None:
        super().__init__(answer)
        self._dialect = dialect
        self._splitter = dialect.splitter()
        self._parser = dialect.event_parser(Quirks())
        self._collector = Collector()
        self._body: bytes | None = None
        self._said: ChatAnswer | None = None
        self._is_heard = True
        """False once something was not understood: the answer goes on, what is kept ends there."""

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        piece = await self._inner.pull(dialect)
        if piece is not None and self._is_heard:
            try:
                self._hear(piece)
            except HeadgateError:
                self._is_heard = False
        return piece

    async def body(self, dialect: str) -> bytes | None:
        self._body = await self._inner.body(dialect)
        return self._body

    async def read(self) -> ChatAnswer:
        self._said = await self._inner.read()
        return self._said

    def kept(self, view: View) -> str:
        """The answer in the door's own form, as if it had not been streamed; redacted and cut."""
        if self._body is not None:
            return kept(self._body, self.media)
        return kept(self._dialect.render_answer(self._said or self._collector.answer(), view).body, JSON)

    def text(self) -> str | None:
        """What it said in words; None where it was not understood, or said nothing."""
        try:
            if self._body is not None:
                self._said = self._dialect.parse_answer(self._body, Quirks())
            said = self._said or (self._collector.answer() if self._is_heard else None)
        except HeadgateError:
            return None
        return text_of(said.choices[0].parts) or None if said is not None and said.choices else None

    def _hear(self, piece: Piece) -> None:
        frames = self._splitter.feed(piece) if isinstance(piece, bytes) else []
        events = piece if isinstance(piece, list) else [event for frame in frames for event in self._parser.feed(frame)]
        for event in events:
            self._collector.feed(event)


def kept(body: bytes, media: str = JSON) -> str:
    """A body as it may be kept: text redacted and cut, everything else by its size."""
    if not media.startswith(_TEXT) or body[:1] not in b'{["':
        return f"[{len(body)} bytes]"
    return redacted(body.decode("utf-8", "replace"), MOST)
