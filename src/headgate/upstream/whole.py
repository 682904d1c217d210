"""What a provider answers, where it is no stream."""

from __future__ import annotations

from headgate.core.answer import JSON, Piece, Push
from headgate.core.events import ChatAnswer, Event, events_of
from headgate.upstream.call import Call


class WholeAnswer:
    """A complete answer, read and settled before anyone sees it."""

    settled = True

    def __init__(self, call: Call, body: bytes, media: str = JSON) -> None:
        self.media = media
        self.model = call.model.name
        self.provider = call.deployment.provider
        self.deployment = call.deployment.name
        self._endpoint = call.endpoint
        self._body = body
        self._answer: ChatAnswer | None = None
        self._pulled = False

    async def body(self, dialect: str) -> bytes | None:
        return self._body if self._endpoint.dialect.name == dialect else None

    async def read(self) -> ChatAnswer:
        if self._answer is None:
            self._answer = self._endpoint.dialect.parse_answer(self._body, self._endpoint.quirks)
        return self._answer

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        if self._pulled:
            return None
        self._pulled = True
        return list(events_of(await self.read()))

    def said(self) -> list[Event]:
        return []

    async def aclose(self) -> None:
        return None
