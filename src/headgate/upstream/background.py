"""Responses that go on at their provider after the request that began them was answered (`background: true`).

The attempt's books stay open, and what it may cost stays reserved, until the provider says how it ended: it is asked at
growing intervals, and its word counts too where a client asks for the response or cancels it. One whose end is not known
within the time that its deployment has for an answer is booked as `unknown`.
"""

from __future__ import annotations

import asyncio

import msgspec

from headgate.core.clock import Clock
from headgate.core.dialect import Facts
from headgate.net.transport.protocol import HttpRequest, TransportError
from headgate.upstream.account import Account
from headgate.upstream.deployment import Deployment, Endpoint
from headgate.upstream.life import Life

FIRST, GROWTH, LONGEST = 1.0, 1.5, 20.0
"""Seconds before the first look, what the pause grows by, and the longest one."""
PATIENCE = 30.0
"""Seconds that one look may take."""
GONE = frozenset({404, 410})


def request_for(endpoint: Endpoint, path: str, method: str = "GET") -> HttpRequest:
    """`path`: the response's id and what follows it."""
    return HttpRequest(
        origin=endpoint.origin,
        method=method,
        target=f"{endpoint.base_path}/responses/{path}",
        headers=endpoint.headers,
    )


class _Followed(msgspec.Struct, eq=False):
    id: str
    life: Life
    account: Account
    deployment: Deployment
    endpoint: Endpoint
    until: float
    task: asyncio.Task[None] | None = None


class Background:
    """What this process has begun and does not know the end of."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, _Followed] = {}

    @property
    def running(self) -> list[str]:
        """Their ids."""
        return list(self._running)

    def follow(self, life: Life, account: Account, deployment: Deployment, endpoint: Endpoint, id: str) -> None:
        """Takes over the books of an attempt. Its cost is not known to the request, which may end."""
        life.trace.cost_unknown = True
        life.keeps(id, account.view.model, deployment)
        followed = _Followed(id, life, account, deployment, endpoint, account.started + deployment.timeouts.total)
        self._running[id] = followed
        followed.task = asyncio.get_running_loop().create_task(self._watch(followed))

    def heard(self, id: str, facts: Facts) -> None:
        """What the provider has just said of it to somebody who asked."""
        followed = self._running.get(id)
        if followed is not None and _is_an_end(facts):
            self._end(followed, facts)

    def close(self) -> None:
        """The house closes: what still runs is booked as `unknown`."""
        for followed in list(self._running.values()):
            self._end(followed, None)

    async def _watch(self, followed: _Followed) -> None:
        pause = FIRST
        try:
            while (left := followed.until - self._clock.monotonic()) > 0:
                await self._clock.sleep(min(pause, left))
                pause = min(pause * GROWTH, LONGEST)
                facts = await self._look(followed)
                if facts is not None and _is_an_end(facts):
                    self._end(followed, facts)
                    return
            followed.life.event("background_lost", response=followed.id, deployment=followed.deployment.name)
        finally:
            self._end(followed, None)  # whatever ends the watch, a defect included: no reservation outlives it

    async def _look(self, followed: _Followed) -> Facts | None:
        """None where nothing could be heard now."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        http = request_for(followed.endpoint, followed.id)
        try:
            answer = await followed.life.transport.send(http, followed.deployment.limits, deadline)
            try:
                body = await answer.read()
            finally:
                await answer.aclose()
        except (TransportError, TimeoutError):
            return None
        if answer.status in GONE:
            return Facts(terminal=True)
        return (
            followed.endpoint.dialect.inspect_answer(body, followed.endpoint.quirks) if answer.status == 200 else None
        )

    def _end(self, followed: _Followed, facts: Facts | None) -> None:
        """Usage, where the provider tells one, is what it cost; else it is unknown, and charged as that is."""
        if self._running.pop(followed.id, None) is None:
            return
        if followed.task is not None and followed.task is not asyncio.current_task():
            followed.task.cancel()
        facts = facts or Facts()
        outcome = "failed" if facts.error is not None else "ok" if facts.finish is not None else "cancelled"
        followed.account.close(outcome, usage=facts.usage, fault=facts.error, upstream_id=followed.id)
        trace = followed.life.trace
        trace.cost_unknown = any(attempt.cost is None for attempt in trace.attempts)


def _is_an_end(facts: Facts) -> bool:
    """The provider's own word that it is over; what cannot be read (a proxy's page, half a body) is none."""
    return not facts.pending and (facts.error is None or facts.error.kind != "invalid_answer")
