"""The journal's directory: whose files they are, whether their process lives, in which life of the machine they began.

HOLDER.alive        locked while the process lives; holds the boot id
HOLDER.000001.log   segments, in order; deleted once the store has them
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from headgate.core.clock import SYSTEM
from headgate.core.records import JournalEntry
from headgate.ledger.frames import read_frames

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CHUNK = 256 * 1024
_ALIVE = re.compile(r"(ho_\w+)\.alive")
_SEGMENT = re.compile(r"(ho_\w+)\.(\d{6})\.log")


def boot_id() -> str:
    """Changes when the machine starts anew: then the page cache, and with it unsynced rows, are gone."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:  # no Linux: the time of the start, coarse enough for small corrections of the clock
        return f"started-{round((SYSTEM.time() - SYSTEM.monotonic()) / 100)}"


class Alive:
    """The lock that says that a holder lives. It goes with the process, whatever kills it."""

    def __init__(self, directory: Path, holder: str) -> None:
        """Takes it for a new holder. Raises OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        self.holder = holder
        self._path = directory / f"{holder}.alive"
        unborn = directory / f"{holder}.unborn"
        self._fd = os.open(unborn, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._fd, boot_id().encode())
        unborn.rename(self._path)  # seen by others only once it is locked

    def end(self, *, forget: bool) -> None:
        """`forget`: nothing of this holder is left to be replayed."""
        if forget:
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


class DeadHolder:
    """A holder whose process is gone, locked by us while its journal is replayed."""

    def __init__(self, directory: Path, holder: str, fd: int | None) -> None:
        self.holder = holder
        self._directory = directory
        self._fd = fd
        self.boot = "" if fd is None else os.pread(fd, 200, 0).decode("ascii", "replace")

    @property
    def rebooted(self) -> bool:
        """The machine has been started anew since: rows that were not on the disk are lost."""
        return self.boot != boot_id()

    def segments(self) -> list[Path]:
        return segments(self._directory, self.holder)

    def close(self, *, forget: bool) -> None:
        if forget:
            for path in self.segments():
                path.unlink()
            for kind in ("spare", "alive"):
                (self._directory / f"{self.holder}.{kind}").unlink(missing_ok=True)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def dead_holders(directory: Path) -> Iterator[DeadHolder]:
    """Each holder with files here whose process no longer lives; processes that live keep theirs."""
    names = [entry.name for entry in directory.iterdir()] if directory.is_dir() else []
    holders = sorted({match[1] for name in names if (match := _ALIVE.fullmatch(name) or _SEGMENT.fullmatch(name))})
    for holder in holders:
        path = directory / f"{holder}.alive"
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield DeadHolder(directory, holder, None)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        yield DeadHolder(directory, holder, fd)


def segment_path(directory: Path, holder: str, number: int) -> Path:
    return directory / f"{holder}.{number:06d}.log"


def segments(directory: Path, holder: str) -> list[Path]:
    return sorted(directory.glob(f"{holder}.*.log"))


class SegmentReader:
    """Reads one segment from its start; also while it is still written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.skipped = 0
        """Bytes of torn or damaged frames."""
        self._next = 0
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives as long as the reader

    def read(self, most: int, *, ended: bool) -> list[JournalEntry]:
        """The next entries, none at the end. They count as read only after `done`: a batch that could not be booked is
        read again."""
        size = CHUNK
        while True:
            data = os.pread(self._file.fileno(), size, self.offset)
            found = read_frames(data, most=most, ended=ended and len(data) < size)
            if found.used or len(data) < size:
                break
            size *= 4  # one entry larger than the chunk
        self._next = self.offset + found.used
        self._torn = found.skipped
        return found.entries

    def handed(self, end: int) -> None:
        """What stands up to `end` came another way; it counts after `done`."""
        self._next, self._torn = end, 0

    def done(self) -> None:
        self.offset = self._next
        self.skipped += self._torn
        self._torn = 0

    def close(self) -> None:
        self._file.close()
