"""Carries what strategies have learned over restarts, and from one replica to the others, through the store.

Each process writes its own part under its own name, and reads those of the others. A part whose process has ended, or has
not been heard of for DEAD seconds, is adopted by one of those that live: read, added to its own and replaced, in one
transaction, so that nothing counts twice. Saved is every EVERY seconds, and before a client is told that its feedback is
recorded: a kill loses implicit signs of the last EVERY seconds, never a word that was given.

Where the answer to a commit is lost (StorageUnsure), nobody knows what the store has: before the next write it is asked,
once that commit has ended, and what it has done is done here too."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import HeadgateError, StorageUnavailable, StorageUnsure
from headgate.core.ports import Store
from headgate.core.records import LearnedRow
from headgate.core.strategy import Knowledge

EVERY = 20.0
DEAD = 180.0
SHARE, LONGEST = 0.05, 1.0
"""Saves that are asked for may take this share of the time (a part may have some hundred kilobytes), with at most so many
seconds between them."""


class Unanswered(NamedTuple):
    """A write whose end is not known: the row that was to be ours, and those of the dead that it was to replace."""

    row: LearnedRow
    dead: Sequence[LearnedRow]


class Keeper:
    """`look` and `save` on the serving loop; both raise StorageUnavailable. Entries that the configuration does not have
    (any more) keep their rows."""

    def __init__(
        self, store: Store, known: Callable[[], dict[str, Knowledge]], *, holder: str, clock: Clock = SYSTEM
    ) -> None:
        self._store = store
        self._known = known
        self._holder = holder
        self._clock = clock
        self._written: set[str] = set()
        """Entries of which the store has a row of ours."""
        self._unsure: dict[str, Unanswered] = {}
        """By entry: under way, or lost in the commit, or given up by whoever waited for it."""
        self._saved_at = -1e9
        self._took = 0.0
        self._writing = asyncio.Lock()
        """Held from the packing of a part until the store has it: a later part is never replaced by an earlier one."""
        self._next: asyncio.Task[None] | None = None
        """A save that has not begun yet."""
        self.problem: str | None = None

    async def look(self) -> None:
        """Adopts what dead processes left, and hears what the living ones know."""
        rows: dict[str, list[LearnedRow]] = defaultdict(list)
        for row in await self._store.learned():
            if row.holder != self._holder:
                rows[row.entry].append(row)
        oldest = self._clock.time() - DEAD
        for entry, knowledge in self._known().items():
            found = [row for row in rows[entry] if _is_readable(row, knowledge)]
            dead = [row for row in found if row.at < oldest]
            heard = [row.body for row in found if row.at >= oldest]
            if dead and await self._adopt(entry, knowledge, dead):
                dead = []
            knowledge.hear([*heard, *(row.body for row in dead)])

    async def _adopt(self, entry: str, knowledge: Knowledge, dead: list[LearnedRow]) -> bool:
        packs = [row.body for row in dead]
        async with self._writing:
            await self._settle()
            row = LearnedRow(entry=entry, holder=self._holder, at=self._clock.time(), body=knowledge.merged(packs))
            if not await self._swap(row, dead):
                return False  # another one was quicker, or we were thought dead: the next look tells
            knowledge.adopt(packs)
            return True

    async def save(self, *, last: bool = False) -> None:
        """Also where nothing is new: that is how others know that this process lives. `last`: it ends, and says so."""
        async with self._writing:
            self._next = None  # from now on it is too late for this one
            began = self._clock.monotonic()
            await self._settle()
            for entry, knowledge in self._known().items():
                at = 0.0 if last else self._clock.time()
                row = LearnedRow(entry=entry, holder=self._holder, at=at, body=knowledge.pack())
                if not await self._swap(row):
                    self._written.discard(entry)
                    knowledge.forget()
            self._saved_at = self._clock.monotonic()
            self._took = self._saved_at - began

    async def _swap(self, row: LearnedRow, dead: Sequence[LearnedRow] = ()) -> bool:
        """Puts our row in the place of our last one and of those of the dead. Until that is known to be done or not, it is
        unsure, also where whoever waits is cancelled."""
        mine = [self._holder] if row.entry in self._written else []
        self._unsure[row.entry] = Unanswered(row, dead)
        try:
            done = await self._store.swap_learned(row, over=[*mine, *(one.holder for one in dead)])
        except HeadgateError as error:
            if not isinstance(error, StorageUnsure):
                del self._unsure[row.entry]  # nothing has happened
            raise
        del self._unsure[row.entry]
        if done:
            self._written.add(row.entry)
        return done

    async def _settle(self) -> None:
        """Finds out what became of writes whose end is not known. Raises StorageUnavailable."""
        known = self._known()
        if not self._unsure.keys() & known.keys():
            return
        rows: dict[str, list[LearnedRow]] = defaultdict(list)
        for row in await self._store.learned(settled=True):
            rows[row.entry].append(row)
        for entry in self._unsure.keys() & known.keys():
            self._settle_one(self._unsure.pop(entry), known[entry], rows[entry])

    def _settle_one(self, unanswered: Unanswered, knowledge: Knowledge, rows: Sequence[LearnedRow]) -> None:
        entry = unanswered.row.entry
        others = [row for row in rows if row.holder != self._holder]
        if len(others) < len(rows):  # a row of ours is there: this one, or that of before
            self._written.add(entry)
            if unanswered.dead and unanswered.row in rows:
                knowledge.adopt([row.body for row in unanswered.dead])
                knowledge.hear([row.body for row in others if _is_readable(row, knowledge)])
            return
        # Nobody takes over a row before it is DEAD seconds old: a first one that is away sooner was never there.
        is_old = self._clock.time() - unanswered.row.at > DEAD
        may_be_taken = is_old and others and not any(row in rows for row in unanswered.dead)
        if entry in self._written or may_be_taken:
            self._written.discard(entry)
            knowledge.forget()

    async def ready(self) -> None:
        """Before something is learned that must not be lost: a process that slept finds out whether others thought it dead
        and took its part over. Raises StorageUnavailable."""
        if self._clock.monotonic() - self._saved_at > DEAD / 2:
            await self.save()

    async def kept(self) -> None:
        """Returns once the store has all that was learned before. Those who ask while one has to wait share a save. Raises
        StorageUnavailable."""
        if self._next is None:
            self._next = asyncio.create_task(self._save_soon())
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())  # its waiters may have left
        await asyncio.shield(self._next)

    async def _save_soon(self) -> None:
        pause = min(self._took * (1 / SHARE - 1), LONGEST)
        if (wait := self._saved_at + pause - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        await self.save()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self.tend()

    async def tend(self) -> None:
        """One save, which tells whether our part was taken over, and one look; a store that is away is tried again the next
        time."""
        try:
            await self.save()
            await self.look()
        except StorageUnavailable as error:
            self.problem = error.message
        except HeadgateError as error:
            self.problem = error.detail or error.message
        else:
            self.problem = None

    async def end(self) -> None:
        """The last words, within the life of the store."""
        try:
            await self.save(last=True)
        except HeadgateError as error:
            self.problem = error.message


def _is_readable(row: LearnedRow, knowledge: Knowledge) -> bool:
    """A release with another form of it leaves such rows alone."""
    try:
        knowledge.merged([row.body])
    except (msgspec.DecodeError, ValueError):
        return False
    return True
