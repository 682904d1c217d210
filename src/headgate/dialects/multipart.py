"""multipart/form-data as bytes (RFC 7578): small fields read, one field replaced. Linear in the body, bounded in parts.

The boundary is taken from the body's own first line; a preamble, which nobody sends, is not accepted.
"""

from __future__ import annotations

import re

from headgate.core.errors import InvalidRequest

LONGEST_BOUNDARY = 70
"""RFC 2046."""
MOST_PARTS = 100
LONGEST_HEAD = 4096
LONGEST_FIELD = 64 * 1024
"""Larger parts are files: never read here."""
_ONCE = frozenset({"model", "n", "response_format"})
"""What we read must be what the provider reads."""
_NAME = re.compile(rb'content-disposition\s*:\s*form-data\s*;(?:[^\r\n]*;)?\s*name="([^"\r\n]*)"', re.IGNORECASE)


def looks_like(body: bytes) -> bool:
    return body.startswith(b"--")


def fields(body: bytes) -> tuple[dict[str, bytes], list[memoryview]]:
    """Fields by name, large ones left out, and the files. Raises InvalidRequest where it is no complete form."""
    found: dict[str, bytes] = {}
    files: list[memoryview] = []
    for name, start, end, is_file in _parts(body):
        if name in _ONCE and (name in found or is_file):
            what = f"the form's {name} is a file" if is_file else f"the form has two {name} fields"
            raise InvalidRequest(what, param=name)
        if is_file:
            files.append(memoryview(body)[start:end])
        elif end - start <= LONGEST_FIELD:
            found[name] = body[start:end]
    return found, files


def with_field(body: bytes, name: str, value: str) -> bytes:
    """The form with one field's value replaced, or added in front where it has none."""
    for found, start, end, _ in _parts(body):
        if found == name:
            return b"%b%b%b" % (body[:start], value.encode(), body[end:])
    line = body[: body.find(b"\r\n")]
    return b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n%b' % (
        line,
        name.encode(),
        value.encode(),
        body,
    )


def _parts(body: bytes) -> list[tuple[str, int, int, bool]]:
    """(name, start and end of its content, whether it is a file) of every part."""
    line_end = body.find(b"\r\n", 0, LONGEST_BOUNDARY + 4)
    if line_end < 3:
        raise InvalidRequest("the form's boundary is missing or too long")
    mark = b"\r\n" + body[:line_end]
    found: list[tuple[str, int, int, bool]] = []
    at = line_end
    while True:
        if len(found) >= MOST_PARTS:
            raise InvalidRequest(f"the form has more than {MOST_PARTS} parts")
        if body[at : at + 2] != b"\r\n":
            raise InvalidRequest("the form is malformed")
        head_end = body.find(b"\r\n\r\n", at, at + LONGEST_HEAD)
        if head_end < 0:
            raise InvalidRequest("a part of the form has no end of its headers")
        head = body[at:head_end]
        start = head_end + 4
        end = body.find(mark, start)
        if end < 0:
            raise InvalidRequest("the form has no final boundary")
        name = _NAME.search(head)
        if name is None:
            raise InvalidRequest("a part of the form has no name")
        found.append((name[1].decode("utf-8", "replace"), start, end, b"filename" in head.lower()))
        at = end + len(mark)
        if body[at : at + 2] == b"--":
            return found
