"""An agent's answer on its way: progress as reasoning while the run goes on, then the writer's words as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from headgate.core.answer import JSON, Answer, Piece, Push, read_events
from headgate.core.events import ChatAnswer, Event, Finished, ReasoningDelta, Started, TextDelta, Used
from headgate.strategies.agent.execute import Executor
from headgate.strategies.agent.patience import Patience
from headgate.strategies.agent.work import Tell, Work

BEAT = 15.0
"""Seconds of silence after which a client hears that the run goes on; many clients' idle timeouts count only deltas."""


class Detached:
    """A streamed answer that is made in a task of its own, which `aclose` ends; what it says waits here for the client, who
    ends nothing by leaving before the run's grace has passed."""

    def __init__(self, patience: Patience, *, model: str, provider: str = "", deployment: str = "") -> None:
        self.model = model
        self.provider = provider
        self.deployment = deployment
        self.media = JSON
        self._patience = patience
        self._queue: asyncio.Queue[list[Event] | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._said: list[Event] = []

    @property
    def settled(self) -> bool:
        return self._task is not None and self._task.done()

    async def _make(self) -> None:
        """Puts all events of the answer into the queue. Raises what breaks it off."""
        raise NotImplementedError

    def _beat(self) -> list[Event] | None:
        """What is said in a long silence; None where nothing is."""
        return None

    async def pull(self, dialect: str | None = None, push: Push | None = None) -> Piece | None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        events = await self._next()
        if events is None:
            await self._task  # raises what ended the run
        else:
            self._said += events
        return events

    async def _run(self) -> None:
        try:
            await self._make()
        finally:
            self._queue.put_nowait(None)

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
                if (events := self._beat()) is not None:
                    return events
            except asyncio.CancelledError:
                if not self._patience.bears():
                    raise

    def _serves(self, writer: Answer) -> None:
        """Who speaks: another one after a rescue."""
        self.model, self.provider, self.deployment = writer.model, writer.provider, writer.deployment

    def said(self) -> list[Event]:
        return [event for event in self._said if not isinstance(event, Finished | Used)]

    async def body(self, dialect: str) -> bytes | None:
        return None

    async def read(self) -> ChatAnswer:
        return await read_events(self)

    async def aclose(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class PlainAnswer(Detached):
    """An answer without a plan, which has begun."""

    def __init__(self, writer: Answer, patience: Patience) -> None:
        super().__init__(patience, model=writer.model, provider=writer.provider, deployment=writer.deployment)
        self._writer = writer

    @property
    def settled(self) -> bool:
        return self._writer.settled

    async def _make(self) -> None:
        while (piece := await self._writer.pull()) is not None:
            assert not isinstance(piece, bytes)
            self._queue.put_nowait(piece)
        self._serves(self._writer)

    async def aclose(self) -> None:
        await super().aclose()
        await self._writer.aclose()


class AgentAnswer(Detached):
    """A streamed run: its progress, then the writer's words."""

    def __init__(
        self, work: Work, executor: Callable[[Tell], Executor], patience: Patience, *, model: str, upstream: str
    ) -> None:
        """`model`: our name of the writer; `upstream`: its provider's."""
        super().__init__(patience, model=model)
        self._work = work
        self._executor = executor
        self._last = 1
        self._queue.put_nowait([Started("", upstream)])

    async def _make(self) -> None:
        await self._work.run(self._executor, self._say)
        writer = await self._work.write(stream=True)
        try:
            await self._pass_on(writer)
        finally:
            await writer.aclose()

    def _beat(self) -> list[Event] | None:
        return [ReasoningDelta(f"… {self._work.doing()}\n", 0, summary=True)]

    async def _pass_on(self, writer: Answer) -> None:
        self._serves(writer)
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
        self._serves(writer)
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
