"""What was just appended to the journal, handed to the tail in memory: while it keeps up, nothing is read back."""

from __future__ import annotations

from collections import deque

from headgate.core.records import JournalEntry

MOST = 6000
"""Entries kept for the tail. Behind by more (a slow store), it reads the file."""
MOST_BYTES = 32_000_000
"""Of them in the file: rows that hold bodies are large."""


class Recent:
    """One thread puts, one takes: each step is a single operation on a deque, and each count has one that writes it."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes_put = 0  # written by the one that puts
        self._bytes_taken = 0  # written by the one that takes
        self._entries: deque[tuple[int, int, int, JournalEntry]] = deque()

    def put(self, number: int, start: int, end: int, entry: JournalEntry) -> None:
        """`entry` stands in segment `number` from `start` to `end`. Not kept where there are too many already."""
        kept = self._bytes_put - self._bytes_taken
        if len(self._entries) < self._most and kept < self._most_bytes:
            self._bytes_put += end - start
            self._entries.append((number, start, end, entry))

    def take(self, number: int, offset: int, most: int) -> tuple[list[JournalEntry], int]:
        """The entries that follow one another from `offset` on, and where they end. None of them where the next one is
        only in the file. Those that were read from there meanwhile are forgotten."""
        taken: list[JournalEntry] = []
        entries = self._entries
        while entries and len(taken) < most:
            where, start, end, entry = entries[0]
            if (where, start) > (number, offset):
                break
            entries.popleft()
            self._bytes_taken += end - start
            if (where, start) == (number, offset):
                taken.append(entry)
                offset = end
        return taken, offset
