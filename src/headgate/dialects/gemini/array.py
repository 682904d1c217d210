"""The bytes of a stream → frames, whichever of its two forms the provider chose."""

from __future__ import annotations

import re

from headgate.core.errors import fault
from headgate.dialects import sse

_MARKS = re.compile(rb'["{}]')
_STRING_MARKS = re.compile(rb'["\\]')


class Splitter:
    """core.dialect.FrameSplitter. SSE is split as it is; the objects of a JSON array (a provider or proxy that does not
    know `alt=sse`) become SSE frames of one object each, so that all that follows sees one form."""

    def __init__(self, max_frame: int = sse.MAX_FRAME) -> None:
        self._sse = sse.SseSplitter(max_frame)
        self._max = max_frame
        self._head = b""
        self._array: bool | None = None
        self._pieces: list[bytes] = []  # of the object that is not complete yet
        self._size = 0
        self._depth = 0
        self._in_string = self._escaped = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises an invalid_answer fault where one frame grows beyond the cap."""
        if self._array is None:
            self._head += data
            start = self._head.lstrip(b"\xef\xbb\xbf \t\r\n")
            if not start:
                return []
            self._array = start[:1] in b"[{"
            data, self._head = (start if self._array else self._head), b""
        return self._objects(data) if self._array else self._sse.feed(data)

    def close(self) -> bytes:
        if not self._array:
            return self._head + self._sse.close()
        rest, self._pieces, self._size = b"".join(self._pieces), [], 0
        return b"data: " + rest if rest else b""

    def _objects(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        frames: list[bytes] = []
        start = 0 if self._depth else -1
        at = 1 if self._escaped else 0
        self._escaped = False
        while (mark := (_STRING_MARKS if self._in_string else _MARKS).search(data, at)) is not None:
            at = mark.end()
            match mark[0]:
                case b"\\":
                    self._escaped = at == len(data)
                    at += 1
                case b'"':
                    self._in_string = not self._in_string and self._depth > 0
                case b"{":
                    if not self._depth:
                        start = mark.start()
                    self._depth += 1
                case _ if self._depth:
                    self._depth -= 1
                    if not self._depth:
                        frames.append(self._frame(data[start:at]))
        if self._depth:
            self._pieces.append(data[start:])
            self._size += len(data) - start
            if self._size > self._max:
                raise fault("invalid_answer", "the provider sent a stream frame that is too large")
        return frames

    def _frame(self, end: bytes) -> bytes:
        whole = b"".join((*self._pieces, end))
        self._pieces, self._size = [], 0
        # Line breaks can only stand between JSON's tokens; in an SSE line they cannot stand.
        return b"data: %b\r\n\r\n" % whole.replace(b"\r", b" ").replace(b"\n", b" ")
