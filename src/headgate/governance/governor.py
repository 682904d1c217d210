"""The governor of a plane with keys: what the store says of them, kept in memory, a poll behind at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Grant, Store
from headgate.core.principal import LOCAL, Principal
from headgate.governance.keys import KeyRing
from headgate.governance.open import FREE

POLL = 1.0
"""Seconds between looks at the store's version: a revoked key ends on every replica within two of them."""

Event = Callable[[str, dict[str, object]], None]


class KeyedGovernor:
    """`local`: the plane is bound to loopback, where it is open as long as no key was ever made. `internal`: keys of our
    own (the console's playground), as secret -> principal."""

    def __init__(
        self,
        store: Store,
        *,
        local: bool = True,
        internal: Mapping[str, Principal] | None = None,
        clock: Clock = SYSTEM,
        on_event: Event = lambda kind, facts: None,
    ) -> None:
        self._store = store
        self._local = local
        self._internal = internal
        self._clock = clock
        self._on_event = on_event
        self._version: int | None = None
        self._lost = False
        self.ring = KeyRing(internal=internal)
        self.open = local

    # -- keys --------------------------------------------------------------------------------------------------------
    def authenticate(self, credentials: Sequence[str]) -> Principal:
        if self.open:
            return LOCAL
        found = self.ring.find(credentials, self._clock.time())
        return found if isinstance(found, Principal) else found.principal

    async def refresh(self) -> bool:
        """Loads keys and teams where they have changed; says whether they had. Raises StorageUnavailable."""
        version = await self._store.version()
        if version == self._version:
            return False
        keys, teams = await self._store.keys(), await self._store.teams()
        self.ring = KeyRing(keys, teams, internal=self._internal)
        self.open = self._local and not self.ring.keys
        self._version = version  # read before the keys: a change in between is seen at the next look
        return True

    async def watch(self) -> None:
        """Runs for ever. Without the store, the keys of the last look go on."""
        while True:
            await self._clock.sleep(POLL)
            try:
                await self.refresh()
            except StorageUnavailable as error:
                if not self._lost:
                    self._lost = True
                    self._on_event("store_lost", {"detail": error.detail or error.message})
            else:
                if self._lost:
                    self._lost = False
                    self._on_event("store_back", {})

    # -- admission ---------------------------------------------------------------------------------------------------
    async def admit(
        self,
        principal: Principal,
        *,
        model: str,
        door: str,
        tags: Sequence[str],
        input_tokens: int,
        output_tokens: int,
        worst_case: int | None,
    ) -> Grant:
        return FREE
