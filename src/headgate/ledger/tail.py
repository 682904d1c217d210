"""Carries the journal into the store: batches of the live one, all of the dead ones, and the store's housekeeping.

A thread with an event loop of its own. Whatever the store does (slow, down, full), the serving loop goes on; the journal
keeps what the store does not have yet."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from headgate.core import failpoints
from headgate.core.background import give_way
from headgate.core.clock import SYSTEM, Clock
from headgate.core.errors import StorageUnavailable
from headgate.core.ports import Store
from headgate.core.records import JournalEntry
from headgate.ledger.frames import frame
from headgate.ledger.journal import Journal
from headgate.ledger.segments import DeadHolder, SegmentReader, dead_holders, segment_path

EVERY = 0.2
BATCH = 2000
TEND_EVERY = 1.0
SWEEP_EVERY = 30.0
PRUNE_EVERY = 3600.0
SLOWEST_RETRY = 5.0
OLD = 60.0
"""Seconds after which an idle segment is put away: the store has it all."""

Listener = Callable[[str, dict[str, object]], None]


class TailOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`charge_unknown`: attempts that nobody can settle any more cost their reservation. `retention`: seconds, None for
    ever."""

    charge_unknown: bool = True
    retention: float | None = None
    every: float = EVERY


class Tail:
    """`start` before serving; `stop` after the last request. Listeners are called on the serving loop."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        options: TailOptions,
        *,
        clock: Clock = SYSTEM,
        on_event: Listener | None = None,
    ) -> None:
        self._journal = journal
        self._store = store
        self._options = options
        self._clock = clock
        self._on_event = on_event
        self._reader: SegmentReader | None = None
        self._number = 1
        self._stopping = False
        self._give_up = float("inf")
        self._main: asyncio.AbstractEventLoop | None = None
        self.recovered = threading.Event()
        """Set once the journals of dead processes are in the store."""
        self._said: set[tuple[str, str]] = set()
        self.applied_entries = 0
        self.quarantined = 0
        self.store_error: str | None = None
        """What the store last said, until a batch is booked again."""
        self.is_clean = False
        """After `stop`: the store has everything that this process wrote."""
        self._thread = threading.Thread(target=self._run, name="ledger-tail", daemon=True)

    def start(self) -> None:
        """From the serving loop's thread."""
        self._main = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self, grace: float = 10.0) -> None:
        """Carries over what is left, for at most `grace` seconds; then closes the journal. What the store did not take
        stays in the files for the next start."""
        self._give_up = self._clock.monotonic() + grace
        self._stopping = True
        await asyncio.to_thread(self._thread.join)
        self._journal.close(forget=self.is_clean)

    # -- the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        give_way()
        asyncio.run(self._live())

    async def _live(self) -> None:
        await self._recover()
        tended = swept = idle_since = self._clock.monotonic()
        pruned = tended - PRUNE_EVERY
        pruning: asyncio.Task[None] | None = None
        while not self._stopping:
            now = self._clock.monotonic()
            try:
                carried = await self._carry()
            except Exception as error:  # noqa: BLE001 - the files may be read again when their disk can
                carried = True
                self._fail("carry", error)
            if carried:
                idle_since = now
            if now - tended >= TEND_EVERY:
                tended = now
                self._tend(now - idle_since >= OLD)
                if now - idle_since >= OLD:
                    idle_since = now
            if now - swept >= SWEEP_EVERY:
                swept = now
                await self._sweep()
            if self._options.retention is not None and now - pruned >= PRUNE_EVERY:
                pruned = now
                if pruning is None or pruning.done():  # whatever time it takes, the journal is carried on
                    pruning = asyncio.create_task(self._prune(self._options.retention))
            await asyncio.sleep(self._options.every)
        if pruning is not None:
            pruning.cancel()  # the next start goes on with it
        await self._finish()

    async def _carry(self) -> bool:
        """Books what is in the journal, batch by batch. Returns whether there was anything."""
        found = False
        while self._journal.written > self._journal.applied:
            ended = self._number < self._journal.number
            if self._reader is None:
                self._reader = SegmentReader(segment_path(self._journal.directory, self._journal.holder, self._number))
            reader, before = self._reader, self._reader.offset
            entries, end = self._journal.recent.take(self._number, before, BATCH)
            if entries:
                reader.handed(end)
            else:
                entries = reader.read(BATCH, ended=ended)
            if entries:
                found = True
                failpoints.reached("tail.read")
                if not await self._book(entries, self._journal.holder):
                    return found
            reader.done()
            self._journal.applied += reader.offset - before
            if not entries:
                if not ended:
                    break  # a frame that is being written
                self._put_away(reader)
        if self._reader is not None and self._number < self._journal.number and not self._journal.behind:
            self._put_away(self._reader)
        return found

    def _put_away(self, reader: SegmentReader) -> None:
        """A whole segment is in the store."""
        if reader.skipped:
            self._tell("journal_damaged", file=reader.path.name, bytes=reader.skipped)
        reader.close()
        self._reader = None
        self._number += 1
        failpoints.reached("segment.done")
        reader.path.unlink(missing_ok=True)  # one that stays is replayed by the next start, and changes nothing

    async def _book(self, entries: Sequence[JournalEntry], holder: str) -> bool:
        """False where it was given up: stopping, and the store does not take it."""
        pause = 0.1
        while True:
            try:
                await self._store.apply(entries, holder=holder)
            except StorageUnavailable as error:
                if self.store_error is None:
                    self._tell("store_unavailable", message=error.message, detail=error.detail)
                self.store_error = error.message
                if self._clock.monotonic() + pause >= self._give_up:
                    return False
                await asyncio.sleep(pause)
                pause = min(pause * 2, SLOWEST_RETRY)
            except Exception as error:  # noqa: BLE001 - one bad entry must not end the ledger
                return await self._one_by_one(entries, holder, error)
            else:
                if self.store_error is not None:
                    self.store_error = None
                    self._tell("store_available")
                failpoints.reached("store.committed")
                self.applied_entries += len(entries)
                return True

    async def _one_by_one(self, entries: Sequence[JournalEntry], holder: str, error: Exception) -> bool:
        """What the store refuses for its content is set aside, the rest is booked."""
        if len(entries) > 1:
            for entry in entries:
                if not await self._book([entry], holder):
                    return False
            return True
        self.quarantined += 1
        self._tell("entry_refused", id=getattr(entries[0], "id", ""), error=repr(error))
        _set_aside(self._journal.directory / "refused.log", entries[0])
        return True

    async def _recover(self) -> None:
        """The journals of processes that died: booked, then what they left open is closed and their leases end."""
        for dead in dead_holders(self._journal.directory):
            try:
                whole = await self._replay(dead)
            except Exception as error:  # noqa: BLE001 - its files stay for the next start, ours are carried on
                self._fail("replay", error)
                dead.close(forget=False)
                continue
            dead.close(forget=whole)
            if not whole:
                break
        self.recovered.set()

    async def _replay(self, dead: DeadHolder) -> bool:
        """False where the store would not, and we are told to stop."""
        booked = skipped = 0
        for path in dead.segments():
            with contextlib.closing(SegmentReader(path)) as reader:
                while entries := reader.read(BATCH, ended=True):
                    if not await self._book(entries, dead.holder):
                        return False
                    failpoints.reached("replay.half")
                    reader.done()
                    booked += len(entries)
                reader.done()
                skipped += reader.skipped
        return await self._bury(dead.holder, dead.rebooted, booked, skipped)

    async def _bury(self, holder: str, rebooted: bool, booked: int, skipped: int) -> bool:
        """False where the store would not, and we are told to stop."""
        charge = rebooted and self._journal.durability == "crash"
        while True:
            try:
                unknown = await self._store.sweep(
                    self._clock.time(), holder=holder, charge=self._options.charge_unknown
                )
                charged = await self._store.end_holder(holder, charge=charge)
            except StorageUnavailable as error:
                self.store_error = error.message
                if self._stopping:
                    return False
                await asyncio.sleep(1.0)
            else:
                self._tell(
                    "journal_replayed",
                    holder=holder,
                    entries=booked,
                    unknown=unknown,
                    torn_bytes=skipped,
                    leases_charged_nano_usd=charged,
                )
                return True

    async def _finish(self) -> None:
        """The last batches, and the end of this holder's leases."""
        await self._carry()
        if self._journal.behind:
            return
        with contextlib.suppress(StorageUnavailable):
            await self._store.sweep(
                self._clock.time(), holder=self._journal.holder, charge=self._options.charge_unknown
            )
            await self._store.end_holder(self._journal.holder, charge=False)
            self.is_clean = True
            if self._reader is not None:
                self._reader.close()
            for path in _files(self._journal.directory, self._journal.holder):
                path.unlink(missing_ok=True)

    # -- housekeeping --------------------------------------------------------------------------------------------------
    def _tend(self, old: bool) -> None:
        """What must happen in the journal's own thread."""
        assert self._main is not None
        with contextlib.suppress(RuntimeError):  # the serving loop has ended
            self._main.call_soon_threadsafe(self._tend_journal, old)

    def _tend_journal(self, old: bool) -> None:
        self._journal.retry()
        if old:
            with contextlib.suppress(OSError):  # a full disk says so at the next write
                self._journal.rotate_if_idle()

    async def _sweep(self) -> None:
        """Once more at the next sweep, which finds the same rows, where the store would not."""
        try:
            count = await self._store.sweep(self._clock.time(), holder=None, charge=self._options.charge_unknown)
        except StorageUnavailable:
            return  # told by _book
        except Exception as error:  # noqa: BLE001 - the journal has to be carried on
            self._fail("sweep", error)
            return
        if count:
            self._tell("attempts_lost", count=count)

    async def _prune(self, retention: float) -> None:
        try:
            days = await self._store.prune(self._clock.time() - retention)
        except StorageUnavailable:
            return  # told by _book
        except Exception as error:  # noqa: BLE001 - in an hour again
            self._fail("prune", error)
            return
        if days:
            self._tell("rows_pruned", days=days)

    def _fail(self, what: str, error: Exception) -> None:
        """What nobody expected: said once, whatever becomes of it, and tried again."""
        if (what, repr(error)) not in self._said:
            self._said.add((what, repr(error)))
            self._tell("ledger_failed", what=what, error=repr(error))

    def _tell(self, kind: str, **facts: object) -> None:
        if self._on_event is not None and self._main is not None:
            with contextlib.suppress(RuntimeError):  # the serving loop has ended
                self._main.call_soon_threadsafe(self._on_event, kind, facts)


def _files(directory: Path, holder: str) -> list[Path]:
    return sorted(directory.glob(f"{holder}.*.log"))


def _set_aside(path: Path, entry: JournalEntry) -> None:
    with open(path, "ab") as file:
        file.write(frame(entry))
