"""Answers as bytes: status lines, header blocks, chunks."""

from __future__ import annotations

import http
from email.utils import formatdate

from headgate.core.clock import SYSTEM
from headgate.server.http import Headers


def _line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


_LINES = {status: _line(status) for status in range(100, 600)}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n"
"""Of the length and the data, which must not be empty."""
LAST_CHUNK = b"0\r\n\r\n"
_date: tuple[int, bytes] = (0, b"")


def head(status: int, headers: Headers, framing: bytes) -> bytes:
    """A whole head. `framing` holds whole lines: how the body ends and whether the connection stays.
    Raises ValueError for a header that would break out of its line."""
    block = "\r\n".join([*map(": ".join, headers), ""])
    if block.count("\n") != len(headers) or block.count("\r") != len(headers) or "\0" in block:
        raise ValueError("a response header holds a line break")
    return b"%s%s%s%s\r\n" % (_LINES[status], block.encode("latin-1"), framing, date_line())


def date_line() -> bytes:
    """`date: ...`, rendered once a second."""
    global _date
    now = int(SYSTEM.time())
    if now != _date[0]:
        _date = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
    return _date[1]


def without_body(method: str, status: int) -> bool:
    """Answers that have no body, whatever their headers say."""
    return method == "HEAD" or status == 204 or status == 304 or status < 200
