"""Putting the journal on the disk, for all entries written so far at once."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from headgate.core.errors import StorageUnavailable


class Syncer:
    """A thread that calls fdatasync(2) at most every `every` seconds, and only when something was written."""

    def __init__(self, fd: int, *, every: float) -> None:
        self._fd = fd
        self._every = every
        self._wanted = 0
        self.synced = 0
        """Bytes that are on the disk."""
        self.delay = 0.0
        """Seconds added to each sync: a bench plays a slow disk with it."""
        self._old: list[int] = []
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._idle = True
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def dirty(self, written: int) -> None:
        """`written` bytes are in the file. Costs next to nothing while the thread is busy."""
        self._wanted = written
        if self._idle:
            self._idle = False
            self._wake.set()

    def change(self, old: int, new: int) -> None:
        """Another file from now on; the old one is synced once more and closed."""
        with self._guard:
            self._old.append(old)
            self._fd = new

    async def reached(self, written: int) -> None:
        """Returns when so many bytes are on the disk. Raises StorageUnavailable where the disk fails."""
        if self.synced >= written:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._guard:
            self._waiting.append((written, loop, done))
        self.dirty(max(written, self._wanted))
        await done

    def close(self) -> None:
        """Syncs what is left. The file itself is its owner's to close."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._wanted > self.synced or self._old:
                self._sync()
                if self._every and not self._closed:
                    time.sleep(self._every)
            if self._closed:
                return
            self._idle = True
            if self._wanted > self.synced:  # written between the last look and the flag
                self._idle = False
                self._wake.set()

    def _sync(self) -> None:
        with self._guard:
            old, self._old = self._old, []
            fd, target = self._fd, self._wanted
        failed: OSError | None = None
        for each in (*old, fd):
            try:
                os.fdatasync(each)
            except OSError as error:
                failed = error
            if each != fd:
                os.close(each)
        if self.delay:
            time.sleep(self.delay)
        if failed is None:
            self.synced = target
        else:
            time.sleep(0.1)  # and once more: what a disk could not keep is still in the page cache for the store
        with self._guard:
            due = [waiting for waiting in self._waiting if waiting[0] <= target]
            self._waiting = [waiting for waiting in self._waiting if waiting[0] > target]
        for _, loop, done in due:
            loop.call_soon_threadsafe(_tell, done, failed)


def _tell(done: asyncio.Future[None], failed: OSError | None) -> None:
    if done.done():
        return
    if failed is None:
        done.set_result(None)
    else:
        done.set_exception(StorageUnavailable("the ledger's disk fails", detail=repr(failed)))
