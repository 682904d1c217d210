"""Shadow mode: a share of the traffic is asked of a candidate too, once the client has been served. Its answer is compared
and never used; its money and time are not the request's; nothing waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from headgate.core.money import NANO
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Aside, Run
from headgate.core.trace import Trace, share_of
from headgate.strategies.experiment.trial import Trial
from headgate.strategies.experiment.watch import LARGEST, Waiting, Watched, compared

ENDING = 2.0
"""Seconds that work in the background gets to end in good order when the house closes."""
LEFT_OUT = ("overloaded", "budget_exceeded", "max_cost_exceeded")
"""Errors of which the candidate is innocent: we had no time or no money for it."""
PHASE = "\0shadow"
"""Where a trial keeps what shadows were: apart from all arms, whose names hold no such sign."""


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """`share` of the requests, 0 to 1; `max_cost` in nano-US$ for each; `concurrent` at a time, further ones are left out;
    `timeout` in seconds."""

    model: str
    share: float = 0.1
    max_cost: int | None = None
    concurrent: int = 4
    timeout: float = 60.0


class Backstage:
    """Work that nobody waits for; ended when the house closes. `on_event` is told of a defect in it."""

    def __init__(self, on_event: Callable[[str, dict[str, object]], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_event = on_event

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._on_event is not None:
            self._on_event("backstage_failed", {"detail": repr(error)})

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ENDING)


class Mirror:
    """Of one experiment. What it has seen is the trial's: sums of the served answers and of the candidate's to the same
    requests."""

    def __init__(self, name: str, shadow: Shadow, trial: Trial, backstage: Backstage | None = None) -> None:
        self.shadow = shadow
        self._name = name
        self._trial = trial
        self._backstage = backstage or Backstage()
        self.waiting = Waiting()
        self._running = 0

    def takes(self, request: Request, trace: str) -> bool:
        """By the trace's id. What a provider keeps for one account, and what is no chat, cannot be asked of another."""
        if request.op != "chat" or request.peek.state is not None or request.options.pin is not None:
            return False
        if len(request.body) > LARGEST:
            return False
        return share_of(trace, "shadow") < self.shadow.share

    def over(self, record: RequestRecord, trace: Trace) -> None:
        """The client has its answer: now the candidate is asked, if it was one."""
        if (kept := self.waiting.take(record)) is None:
            return
        request, run, watched = kept
        if self._running >= self.shadow.concurrent:
            self._note("candidate", {"left_out": 1.0}, record.at)
            return
        self._running += 1
        self._backstage.begin(self._ask(request, run, watched, record))

    async def _ask(self, request: Request, run: Run, watched: Watched, record: RequestRecord) -> None:
        shadow = self.shadow
        aside = Aside(
            purpose="shadow",
            because=f"mirrors {record.trace}; its answer is not used",
            tags=(f"experiment:{self._name}/shadow",),
            timeout=shadow.timeout,
            max_cost=shadow.max_cost,
        )
        epoch = self._trial.epoch
        try:
            found = await run.aside(shadow.model, request, aside)
        finally:
            self._running -= 1
        if self._trial.epoch != epoch:
            return  # begun anew meanwhile
        if found.error in LEFT_OUT:
            self._note("candidate", {"left_out": 1.0}, record.at)
            return
        other = {"errors": float(found.error is not None)}
        served: dict[str, float] = {}
        whole = watched.said_whole() if found.answer is not None else None
        if found.answer is not None:
            served["latency"], other["latency"] = record.latency, found.latency
            if found.cost is not None and record.cost is not None:
                served["cost"], other["cost"] = record.cost / NANO, found.cost / NANO
            if whole is not None:
                first, second = compared(request, whole, found.answer)
                served |= first
                other |= second
        self._note("served", served, record.at)
        self._note("candidate", other, record.at)

    def _note(self, side: Literal["served", "candidate"], values: dict[str, float], at: float) -> None:
        self._trial.note(PHASE, side_of(side, self.shadow.model), values, at=at)


def side_of(side: Literal["served", "candidate"], model: str) -> str:
    """The name that a trial keeps it under."""
    return f"\0{side} {model}"
