"""The ledger of a serving process: one append to its own file per entry, and everything else in the background.

An entry is recorded once write(2) has returned: the file outlives any death of the process. A thread syncs it, another
one carries it into the store (ledger/tail.py). The serving loop waits for neither, but under `durability: power`."""

from __future__ import annotations

import errno
import os
from collections import deque
from pathlib import Path
from typing import Literal

from headgate.core import failpoints
from headgate.core.errors import StorageUnavailable
from headgate.core.ids import new_id
from headgate.core.records import AttemptIntent, AttemptOutcome, JournalEntry, RequestRecord
from headgate.ledger.frames import frame
from headgate.ledger.recent import Recent
from headgate.ledger.segments import Alive, segment_path
from headgate.ledger.sync import Syncer

SEGMENT = 8_000_000
"""Bytes after which a new file is begun: at most this much is read again after a crash."""
BACKLOG = 1_000_000_000
SPARE = 1_000_000
"""Bytes kept aside on the disk, so that attempts under way can still be closed when it is full."""
UNWRITTEN = 10_000
"""Rows of requests kept in memory while the disk is full; outcomes of attempts are never dropped."""


class Journal:
    """Implements the Ledger port. Used from one event loop's thread only."""

    def __init__(
        self,
        directory: Path,
        *,
        durability: Literal["crash", "power"] = "crash",
        backlog: int = BACKLOG,
        segment: int = SEGMENT,
        sync_every: float = 0.05,
    ) -> None:
        """Raises StorageUnavailable where the directory cannot be written."""
        self.holder = new_id("ho")
        self.directory = directory
        self.durability = durability
        self._backlog = backlog
        self._segment = segment
        try:
            self._alive = Alive(directory, self.holder)
            self.number = 1
            self._fd = self._create(1)
        except OSError as error:
            raise StorageUnavailable(
                f"the journal cannot be written in {directory}: {error.strerror}", detail=repr(error)
            ) from error
        self._size = 0
        self.recent = Recent()
        self.written = 0
        """Bytes appended so far, over all segments."""
        self.applied = 0
        """Bytes of them that the store has; set by the tail."""
        self.shed = 0
        """Attempts refused because the store is too far behind."""
        self.dropped = 0
        """Rows of requests lost because the disk stayed full."""
        self.failed: str | None = None
        """What the disk last said, until a write succeeds again."""
        self._unwritten: deque[tuple[bytes, bool]] = deque()
        self._spare = directory / f"{self.holder}.spare"
        self._keep_spare()
        self.sync = Syncer(self._fd, every=0.0 if durability == "power" else sync_every)

    # -- the port ------------------------------------------------------------------------------------------------------
    def intend(self, intent: AttemptIntent) -> None:
        if self.written - self.applied > self._backlog:
            self.shed += 1
            raise StorageUnavailable("the ledger is too far behind", retry_after=5.0)
        try:
            failpoints.reached("journal.intent.before")
            if failpoints.is_due("journal.intent.torn"):
                self._append(frame(intent)[:-9])
            failpoints.reached("journal.intent.torn")
            self._write_unwritten()
            self._append(frame(intent), intent)
            failpoints.reached("journal.intent.after")
        except OSError as error:
            self._note(error)
            raise StorageUnavailable("the ledger cannot be written", detail=repr(error), retry_after=5.0) from error

    def settle(self, outcome: AttemptOutcome) -> None:
        self._append_or_keep(outcome, needed=True)
        failpoints.reached("journal.outcome.after")

    def record(self, record: RequestRecord) -> None:
        self._append_or_keep(record, needed=False)
        failpoints.reached("journal.request.after")

    async def durable(self) -> None:
        if self.durability == "power":
            await self.sync.reached(self.written)

    # -- life ----------------------------------------------------------------------------------------------------------
    @property
    def behind(self) -> int:
        """Bytes that the store does not have yet."""
        return self.written - self.applied

    def retry(self) -> None:
        """Tries to write what the disk refused. Called now and then while `failed`."""
        if self._unwritten:
            try:
                self._write_unwritten()
            except OSError as error:
                self._note(error)

    def close(self, *, forget: bool) -> None:
        """Ends the holder. `forget`: the store has everything. Else the next start replays it."""
        self.retry()
        self.sync.close()
        os.close(self._fd)
        self._spare.unlink(missing_ok=True)
        self._alive.end(forget=forget)

    # -- writing -------------------------------------------------------------------------------------------------------
    def _append_or_keep(self, entry: AttemptOutcome | RequestRecord, *, needed: bool) -> None:
        data = frame(entry)
        try:
            if needed:
                failpoints.reached("journal.outcome.before")
            self._write_unwritten()
            self._append(data, entry)
        except OSError as error:
            self._note(error)
            if needed and self._free_spare():
                try:
                    self._append(data, entry)
                    return
                except OSError as again:
                    self._note(again)
            if needed or len(self._unwritten) < UNWRITTEN:
                self._unwritten.append((data, needed))
            else:
                self.dropped += 1

    def _write_unwritten(self) -> None:
        """Raises OSError while the disk refuses."""
        if self._unwritten:
            while self._unwritten:
                self._append(self._unwritten[0][0])
                self._unwritten.popleft()
            self._keep_spare()

    def _append(self, data: bytes, entry: JournalEntry | None = None) -> None:
        """One write(2). A part that was written before the disk was full is taken back. Raises OSError."""
        if self._size >= self._segment:
            try:
                self._rotate()
            except OSError as error:
                self._note(error)  # this file goes on
        done = os.write(self._fd, data)
        if done < len(data):
            self._take_back(done)
            raise OSError(errno.ENOSPC, "only a part could be written")
        start = self._size
        self._size += done
        if entry is not None:
            self.recent.put(self.number, start, self._size, entry)
        self.written += done
        if self.failed is not None:
            self.failed = None
        self.sync.dirty(self.written)

    def _take_back(self, done: int) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:  # readers skip a torn frame; its bytes count as written
            self._size += done
            self.written += done

    def _rotate(self) -> None:
        fd = self._create(self.number + 1)
        old, self._fd = self._fd, fd
        self.number += 1
        self._size = 0
        self.sync.change(old, fd)

    def rotate_if_idle(self) -> None:
        """Begins a new segment, so that the store's copy of this one can be forgotten. Raises OSError."""
        if self._size and self.applied == self.written and not self._unwritten:
            self._rotate()

    def _create(self, number: int) -> int:
        path = segment_path(self.directory, self.holder, number)
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _note(self, error: OSError) -> None:
        self.failed = error.strerror or repr(error)

    def _keep_spare(self) -> None:
        try:
            fd = os.open(self._spare, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._note(error)
            return
        try:
            os.posix_fallocate(fd, 0, SPARE)
        except OSError as error:
            self._note(error)
        finally:
            os.close(fd)

    def _free_spare(self) -> bool:
        try:
            self._spare.unlink()
        except OSError:
            return False
        return True
