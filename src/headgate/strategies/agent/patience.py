"""What becomes of a run whose client leaves: it goes on for a grace, then it ends with everything that it started."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from headgate.core.answer import Answer
from headgate.core.strategy import Run

GRACE = 30.0


class Patience:
    """One run's. A cancellation that is the client's leaving opens the grace, once; any other one (a parent's that needs
    the answer no more, the end of the process) and the end of the grace cancel at once.

    A run that ends within the grace ends in good order: it is settled and recorded, and kept for the client that comes back
    with the same Idempotency-Key."""

    def __init__(self, run: Run, grace: float) -> None:
        self._run = run
        self._grace = grace
        self._until: float | None = None

    @property
    def until(self) -> float | None:
        """The end of the grace in the loop's time; None while the client is there."""
        return self._until

    def bears(self) -> bool:
        """To be asked where the request's own task has been cancelled: whether the run goes on all the same. The caller
        must then have swallowed the cancellation."""
        task = asyncio.current_task()
        if self._until is not None or self._grace <= 0 or task is None or not self._run.client_left():
            return False
        task.uncancel()
        self._until = asyncio.get_running_loop().time() + self._grace
        self._run.decide("agent", None, because=f"the client has left: the run has {self._grace:g} s to end")
        return True

    def over(self) -> asyncio.CancelledError:
        """What ends a run whose grace has passed; to be raised."""
        self._run.decide("agent", None, because="the client has not come back: the run is cancelled")
        return asyncio.CancelledError("the client has left")

    async def see_through(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The result of `work`, which goes on for the grace when the client leaves meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        while not task.done():
            try:
                async with asyncio.timeout_at(self._until):
                    await asyncio.wait([task])
            except TimeoutError:
                await _end(task)
                raise self.over() from None
            except asyncio.CancelledError:
                if not self.bears():
                    await _end(task)
                    raise
        return task.result()


async def _end(task: asyncio.Task[Answer]) -> None:
    """Cancels, waits, and closes the answer that arrived in the same tick."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await task.result().aclose()
