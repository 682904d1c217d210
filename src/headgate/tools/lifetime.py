"""How long what calls share is kept: a server, a pool of workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager


async def end_each(endings: Mapping[str, Awaitable[None]]) -> None:
    """Ends what the names stand for, each whatever becomes of the others. Raises ExceptionGroup of what was raised, which
    says of whom."""
    ended = await asyncio.gather(*endings.values(), return_exceptions=True)
    failed = {name: error for name, error in zip(endings, ended, strict=True) if isinstance(error, Exception)}
    if failed:
        raise ExceptionGroup(f"not ended: {', '.join(failed)}", list(failed.values()))


class Lifetime:
    """Until it is closed, or retired and not in use: a reload takes the configuration away under runs that go on. A call
    that comes later still may begin it anew; it ends with that call. `close` may be called again and again."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        self._users = 0
        self._retired = False
        self._ending: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._retired and not self._users:
                # Whoever leaves (a client that is gone, perhaps) does not wait for it.
                self._ending = asyncio.ensure_future(self._end())

    async def retire(self) -> None:
        self._retired = True
        await self._end()

    async def _end(self) -> None:
        if not self._users:
            await self._close()
