"""An agent's answer on its way: progress as reasoning while the run goes on, then the writer's words as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from headgate.core.answer import JSON, Answer, Piece
from headgate.core.events import ChatAnswer, Event, Finished, ReasoningDelta, Started, TextDelta, Used, collect
from headgate.strategies.agent.execute import Executor
from headgate.strategies.agent.patience import Patience
from headgate.strategies.agent.work import Tell, Work

BEAT = 15.0
"""Seconds of silence after which a client hears that the run goes on; many clients' idle timeouts count only deltas."""


class AgentAnswer:
    """A streamed run. It runs in a task of its own, which `aclose` ends; what it says waits here for the client."""

    def __init__(
        self,
        work: Work,
        executor: Callable[[Tell], Executor],
        patience: Patience,
        *,
        model: str,
        upstream: str,
    ) -> None:
        """`model`: our name of the writer; `upstream`: its provider's."""
        self.model = model
        self.provider = ""
        self.deployment = ""
        self.media = JSON
        self._upstream = upstream
        self._work = work
        self._executor = executor
        self._patience = patience
        self._last = 1
        self._queue: asyncio.Queue[list[Event] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    @property
    def settled(self) -> bool:
        return self._task is not None and self._task.done()

    async def pull(self, dialect: str | None = None) -> Piece | None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            return [Started("", self._upstream)]
        events = await self._next()
        if events is None:
            await self._task  # raises what ended the run
        return events

    async def _next(self) -> list[Event] | None:
        loop = asyncio.get_running_loop()
        while True:
            until = self._patience.until
            beat = loop.time() + BEAT
            try:
                async with asyncio.timeout_at(beat if until is None else min(beat, until)):
                    return await self._queue.get()
            except TimeoutError:
                if until is not None and loop.time() >= until:
                    raise self._patience.over() from None
                return [ReasoningDelta(f"… {self._work.doing()}\n", 0, summary=True)]
            except asyncio.CancelledError:
                if not self._patience.bears():
                    raise

    async def _run(self) -> None:
        try:
            await self._work.run(self._executor, self._say)
            writer = await self._work.write(stream=True)
            try:
                await self._pass_on(writer)
            finally:
                await writer.aclose()
        finally:
            self._queue.put_nowait(None)

    async def _pass_on(self, writer: Answer) -> None:
        self.model, self.provider, self.deployment = writer.model, writer.provider, writer.deployment
        said: list[str] = []
        note = self._work.note()
        while (piece := await writer.pull()) is not None:
            assert not isinstance(piece, bytes)
            out: list[Event] = []
            for event in piece:
                if isinstance(event, Finished) and event.choice == 0 and note:
                    out.append(TextDelta(note, self._last))
                    said.append(note)
                if isinstance(event, TextDelta):
                    said.append(event.text)
                if not isinstance(event, Started):
                    out.append(self._shifted(event))
            self._queue.put_nowait(out)
        self._work.tell_final("".join(said))

    def _shifted(self, event: Event) -> Event:
        """Part 0 is the progress: the writer's parts come after it. The usage is that of the whole run."""
        if isinstance(event, Used):
            return msgspec.structs.replace(event, usage=self._work.usage() or event.usage, extensions={})
        if hasattr(event, "part"):
            event.part += 1  # type: ignore[union-attr]
            self._last = event.part  # type: ignore[union-attr]
        return event

    def _say(self, text: str) -> None:
        self._queue.put_nowait([ReasoningDelta(text, 0, summary=True)])

    def said(self) -> list[Event]:
        return []

    async def body(self, dialect: str) -> bytes | None:
        return None

    async def read(self) -> ChatAnswer:
        events: list[Event] = []
        while (piece := await self.pull()) is not None:
            assert not isinstance(piece, bytes)
            events += piece
        return collect(events)

    async def aclose(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
