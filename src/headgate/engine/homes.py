"""Which deployment holds an object that its provider keeps: a stored response, a file, a batch.

Known at once to the process that saw it made; told to the store a moment later, so that other processes and later lives
find it there. The store is asked only for what this process has never seen."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import HeadgateError, NotFound
from headgate.core.ports import Store
from headgate.core.records import HomeRow
from headgate.engine.snapshot import Snapshot
from headgate.upstream.deployment import Deployment

HOMES = 50_000
"""Objects of which memory holds the home, and as many that wait for a store that is away."""
DAY = 86_400.0
KEPT = {"resp_": 30 * DAY}
"""How long a provider keeps objects whose ids begin so (OpenAI: responses for 30 days, platform.openai.com/docs/guides/
your-data); others, files and batches, until somebody deletes them."""
LONGEST = 3650 * DAY
SOON, SOMETIME = 0.05, 1.0
"""Seconds until the store is told: where other processes may be asked about it next, and where only a later life may."""
PATIENCE = (0.05, 0.15, 0.4, 1.0, 1.5, 2.0)
"""Waits between looks for what another process may just be writing down, a store that first refuses it (AGAIN) included: to
be told that one's own response does not exist is worse than to wait for one that does not."""
AGAIN = 1.0

Home = tuple[str, Deployment]
"""(entry or direct address, deployment)."""


class UnknownHome(NotFound):
    """Nobody is known to hold this object for this key."""

    def __init__(self, message: str, *, object_id: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.object_id = object_id


class Homes:
    """`shared`: other processes write to the same store."""

    def __init__(
        self, store: Store | None, snapshot: Callable[[], Snapshot], *, shared: bool = False, clock: Clock = SYSTEM
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._shared = shared
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Home] = OrderedDict()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._untold: OrderedDict[tuple[str, str], HomeRow] = OrderedDict()
        self._news = asyncio.Event()

    def remember(self, key_id: str, object_id: str, model: str, deployment: Deployment, *, size: int = 0) -> None:
        """`size`: tokens of what a request that refers to it will be read with."""
        self._keep(key_id, object_id, (model, deployment))
        if size:
            self._sizes[key_id, object_id] = size
            if len(self._sizes) > HOMES:
                self._sizes.popitem(last=False)
        if self._store is None:
            return
        seconds = next((kept for start, kept in KEPT.items() if object_id.startswith(start)), LONGEST)
        self._untold[key_id, object_id] = HomeRow(
            key_id=key_id,
            object_id=object_id,
            model=model,
            provider=deployment.provider,
            deployment=_hashed(deployment.key),
            expires=self._clock.time() + seconds,
        )
        if len(self._untold) > HOMES:
            self._untold.popitem(last=False)
        self._news.set()

    def of(self, object_id: str, key_id: str) -> Home | None:
        """What this process knows; other keys' objects do not exist."""
        return self._known.get((key_id, object_id))

    def size(self, object_id: str, key_id: str) -> int:
        """As far as this process saw it made."""
        return self._sizes.get((key_id, object_id), 0)

    async def find(self, object_id: str, key_id: str) -> Home | None:
        """As `of`, and what the store knows. Raises StorageUnavailable: it cannot be told whether the object exists."""
        for wait in (*(PATIENCE if self._shared else ()), None):
            if (home := self.of(object_id, key_id)) is not None or self._store is None:
                return home
            await self.look([object_id], key_id)
            if (home := self.of(object_id, key_id)) is not None or wait is None:
                return home
            await self._clock.sleep(wait)
        return None

    async def look(self, object_ids: Sequence[str], key_id: str) -> None:
        """Learns from the store which of these are the key's. Raises StorageUnavailable."""
        unknown = [id for id in object_ids if (key_id, id) not in self._known]
        if self._store is None or not unknown:
            return
        for row in await self._store.homes(unknown, key_id=key_id):
            if (home := self._resolved(row)) is not None:
                self._keep(key_id, row.object_id, home)

    async def check(self, object_ids: Sequence[str], key_id: str) -> None:
        """Raises NotFound where one of these is another key's; StorageUnavailable where that cannot be told."""
        unknown = {id for id in object_ids if (key_id, id) not in self._known}
        if not unknown:
            return
        here = self._known if self._store is None else self._untold
        owners = [(id, owner) for owner, id in here if id in unknown]
        if self._store is not None:
            owners += [(row.object_id, row.key_id) for row in await self._store.homes(list(unknown), key_id=None)]
        mine = {id for id, owner in owners if owner == key_id}
        if other := next((id for id, _ in owners if id not in mine), None):
            raise NotFound(f"there is no file {other[:100]!r}", param="file_id")

    def _resolved(self, row: HomeRow) -> Home | None:
        """The deployment as it is configured here and now. One whose key or address has changed since is taken for the
        same where its provider has no other in that entry."""
        snapshot = self._snapshot()
        for model in snapshot.models():
            for deployment in model.deployments:
                if _hashed(deployment.key) == row.deployment:
                    return row.model if snapshot.model(row.model) is not None else model.name, deployment
        model = snapshot.model(row.model)
        left = [d for d in (model.deployments if model else ()) if d.provider == row.provider]
        return (row.model, left[0]) if len(left) == 1 else None

    def _keep(self, key_id: str, object_id: str, home: Home) -> None:
        self._known[key_id, object_id] = home
        if len(self._known) > HOMES:
            self._known.popitem(last=False)

    async def run(self) -> None:
        """For ever: tells the store what is new. What a store that is away was not told is told when it is back."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._clock.sleep(SOON if self._shared else SOMETIME)
            if not await self.flush():
                await self._clock.sleep(AGAIN)
                self._news.set()

    async def flush(self) -> bool:
        """False where the store could not be told now."""
        if self._store is None or not self._untold:
            return True
        rows = dict(self._untold)
        try:
            await self._store.put_homes(list(rows.values()))
        except HeadgateError:
            return False  # the ledger's tail says that the store is away
        for name, row in rows.items():
            if self._untold.get(name) is row:
                del self._untold[name]
        return True


def _hashed(fingerprint: str) -> str:
    """Base URLs and accounts stay at home."""
    return hashlib.blake2b(fingerprint.encode(), digest_size=12).hexdigest()
