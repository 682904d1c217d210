"""The key of a plane that others can reach while there is none: of all processes one makes it, and it is shown once."""

from __future__ import annotations

from headgate.core.clock import SYSTEM, Clock
from headgate.core.ports import Store
from headgate.core.records import AuditRecord, KeyRecord
from headgate.governance.governor import KeyedGovernor
from headgate.governance.keys import NewKey, make_key


class FirstKey:
    """`is_due`: whether there is one, and whose, has still to be found out. `make` is to be called until it is not."""

    def __init__(self, store: Store, governor: KeyedGovernor, *, is_due: bool, clock: Clock = SYSTEM) -> None:
        self._store = store
        self._governor = governor
        self._clock = clock
        self._made: NewKey | None = None
        """Given to the store, whose answer has not come (yet). It is the one that is given again: a commit whose answer was
        lost may have made it the first key, and nobody else knows its secret."""
        self.is_due = is_due

    @property
    def is_unsure(self) -> bool:
        return self.is_due and self._made is not None

    async def make(self) -> str | None:
        """The secret, where the first key is this process's: once, whoever calls. Raises StorageUnavailable."""
        if not self.is_due:
            return None
        if self._made is None:
            await self._governor.refresh()
            if self._governor.ring.keys:
                self.is_due = False
                return None
            record = KeyRecord(id="", hash="", hint="", name="first key", created=self._clock.time())
            self._made = make_key(record)
        record = self._made.record
        note = AuditRecord(
            at=record.created, actor="first start", action="key.create", target=record.id, detail=record.name
        )
        is_ours = await self._store.put_first_key(record, note=note)
        self.is_due = False
        return self._made.secret if is_ours else None
