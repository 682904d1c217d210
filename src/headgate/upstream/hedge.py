"""A second call elsewhere when the first is slow (Dean and Barroso, "The Tail at Scale"): first content wins.

Off unless an entry has `hedge:`. A hedge stays within its model: another deployment, never another model, so that a
chain's order is never overtaken by it. Where both fail, the attempt loop goes on as after any failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from headgate.core.answer import Answer
from headgate.core.errors import BudgetExceeded, HeadgateError, UpstreamFault
from headgate.core.request import Request
from headgate.upstream.account import worst_case
from headgate.upstream.deployment import Deployment, Hedge, Model
from headgate.upstream.life import Life

Ask = Callable[[Deployment, str | None], Awaitable[Answer]]
"""One call to one deployment, in a role."""
ROLE = "hedge"


async def hedged(
    life: Life, model: Model, deployment: Deployment, request: Request, left: set[str], *, hedge: Hedge, ask: Ask
) -> Answer:
    """The first content of two calls, the second made only when the first is slow. Raises the first call's fault where
    none answers. Deployments that failed as a hedge are added to `left`."""
    vitals = deployment.vitals
    vitals.hedges.earn(hedge.share)
    after = hedge.after if hedge.after is not None else vitals.p95(stream=request.stream)
    if after is None or len(model.deployments) < 2 or request.options.pin is not None:
        return await ask(deployment, None)
    race = _Race()
    try:
        first = race.start(deployment, ask(deployment, None))
        await asyncio.wait([first], timeout=after)
        if not first.done() and (other := _other(life, model, deployment, request, left, hedge)) is not None:
            life.trace.decide(
                ROLE,
                other.name,
                over=[deployment.name],
                because=f"no content after {after:.3g} s",
                after_s=round(after, 3),
            )
            life.event(ROLE, model=model.name, frm=deployment.name, to=other.name, after_s=round(after, 3))
            race.start(other, ask(other, ROLE))
        return await race.winner()
    finally:
        await race.end()
        for lost, error in race.failures():
            if lost is not deployment:
                left.add(lost.key)
            if isinstance(error, UpstreamFault) and error.kind == "timeout" and error.sent:
                life.silent.add(lost.key)


def _other(
    life: Life, model: Model, slow: Deployment, request: Request, left: set[str], hedge: Hedge
) -> Deployment | None:
    """Where the hedge goes: the least loaded of the others that are well and have a free slot; None where there is none,
    or it would cost too much, or hedging has had its share of the calls."""

    def allowed(other: Deployment) -> bool:
        vitals = other.vitals
        if other is slow or other.key in left or not vitals.health.well or not vitals.gate.has_room:
            return False
        if hedge.max_cost is None:
            return True
        cost = worst_case(request, model, other)
        return cost is not None and cost <= hedge.max_cost

    other = min(filter(allowed, model.deployments), key=lambda d: d.vitals.load, default=None)
    return other if other is not None and slow.vitals.hedges.spend() else None


class _Race:
    """Calls under way. Whatever happens, after `end` exactly the winner is open and all the others are closed."""

    def __init__(self) -> None:
        self._runners: list[tuple[Deployment, asyncio.Task[Answer]]] = []
        self._won: asyncio.Task[Answer] | None = None

    def start(self, deployment: Deployment, call: Awaitable[Answer]) -> asyncio.Task[Answer]:
        task = asyncio.ensure_future(call)
        self._runners.append((deployment, task))
        return task

    async def winner(self) -> Answer:
        """The first to have content; of two in the same tick the one that was asked first."""
        while pending := [task for _, task in self._runners if not task.done()]:
            if (found := self._finished()) is not None:
                return found
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if (found := self._finished()) is not None:
            return found
        errors = [task.exception() for _, task in self._runners]
        raise _worth_telling(errors)

    def _finished(self) -> Answer | None:
        for _, task in self._runners:
            if task.done() and not task.cancelled() and task.exception() is None:
                self._won = task
                return task.result()
        return None

    async def end(self) -> None:
        """Cancels who still runs, and closes who arrived in the very same tick. Is not itself interrupted half-way."""
        losers = [task for _, task in self._runners if task is not self._won]
        for task in losers:
            task.cancel()
        if not losers:
            return
        closing = asyncio.ensure_future(_closed(losers))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            if self._won is not None:
                await self._won.result().aclose()  # nobody is left to take the answer
            raise

    def failures(self) -> list[tuple[Deployment, BaseException]]:
        return [
            (deployment, error)
            for deployment, task in self._runners
            if task.done() and not task.cancelled() and (error := task.exception()) is not None
        ]


async def _closed(losers: list[asyncio.Task[Answer]]) -> None:
    for outcome in await asyncio.gather(*losers, return_exceptions=True):
        if isinstance(outcome, Answer):
            await outcome.aclose()


def _worth_telling(errors: list[BaseException | None]) -> BaseException:
    """The first call's fault; a hedge that could not be paid says nothing of the provider."""
    told = [error for error in errors if error is not None]
    defects = [error for error in told if not isinstance(error, HeadgateError)]
    faults = [error for error in told if not isinstance(error, BudgetExceeded)]
    return (defects or faults or told)[0]
