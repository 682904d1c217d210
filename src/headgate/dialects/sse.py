"""Server-sent events: bytes in any packets → whole frames, kept as they were sent; frames → data."""

from __future__ import annotations

import re

from headgate.core.errors import fault

PING = b": ping\n\n"
MAX_FRAME = 16 * 1024 * 1024
# A blank line in any of the three line endings that the standard knows, mixed or not.
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n|\n\r(?!\n)|\r\n\r(?!\n)")
_LONGEST_END = 4


class SseSplitter:
    """core.dialect.FrameSplitter. A frame keeps its blank line; blank lines before a frame travel with it."""

    __slots__ = ("_max", "_pieces", "_size", "_tail")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._pieces: list[bytes] = []  # of the unfinished frame; joined only once its end is there
        self._tail = b""  # the last bytes of the pieces: an end mark may be cut by a packet's edge
        self._size = 0
        self._max = max_frame

    def feed(self, data: bytes) -> list[bytes]:
        """Raises an invalid_answer fault where one frame grows beyond the cap."""
        if not self._pieces:
            size = len(data)
            if data.find(b"\n\n") == size - 2 and b"\r" not in data and 2 < size <= self._max:
                return [data]  # one packet, one frame: the common case
        if self._pieces and _END.search(self._tail + data) is None:
            return self._keep(data)
        buffer = b"".join((*self._pieces, data)) if self._pieces else data
        frames: list[bytes] = []
        start = 0
        search = max(self._size - _LONGEST_END, 0)
        while (end := _END.search(buffer, search)) is not None:
            stop = end.end()
            if stop == len(buffer) and buffer.endswith(b"\r"):
                break  # a \n may follow: the frame is cut there, not before
            if buffer[start:stop].strip(b"\r\n"):
                frames.append(buffer[start:stop])
                start = stop
            search = stop
        self._pieces, self._tail, self._size = [], b"", 0
        self._keep(buffer[start:])
        return frames

    def _keep(self, data: bytes) -> list[bytes]:
        if data:
            self._pieces.append(data)
            self._size += len(data)
            self._tail = (self._tail + data[-_LONGEST_END:])[-_LONGEST_END:]
            if self._size > self._max:
                raise fault("invalid_answer", "the provider sent a stream frame that is too large")
        return []

    def close(self) -> bytes:
        """What is left when the stream has ended: an unfinished frame, or one whose blank line never came."""
        rest = b"".join(self._pieces)
        self._pieces, self._tail, self._size = [], b"", 0
        return rest


def data_of(frame: bytes) -> bytes | None:
    """The joined `data:` lines, None where there are none (a comment, a retry hint)."""
    if frame.startswith(b"data: ") and frame.endswith(b"\n\n") and frame.count(b"\n") == 2 and b"\r" not in frame:
        return frame[6:-2]  # the common case: one line
    lines = [
        line[6:] if line.startswith(b"data: ") else line[5:] for line in _lines(frame) if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None


def event_of(frame: bytes) -> str | None:
    """The `event:` name, None where there is none."""
    for line in _lines(frame):
        if line.startswith(b"event:"):
            return line[6:].strip().decode("utf-8", "replace")
    return None


def closed(frames: bytes) -> bytes:
    """With the blank line that ends the last of them, where a provider's last words lack it."""
    if not frames.strip() or frames.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
        return frames
    return frames.rstrip(b"\r\n") + b"\n\n"


def _lines(frame: bytes) -> list[bytes]:
    return frame.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def frame(data: bytes, event: str | None = None) -> bytes:
    """One frame; data of several lines gets as many `data:` lines."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
