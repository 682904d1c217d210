"""multipart/form-data as bytes (RFC 7578): small fields read, one field replaced. Linear in the body, bounded in parts.

The boundary is taken from the body's own first line, and the provider is told that one; a preamble, which nobody sends,
is not accepted. What a parser of another hand may read otherwise is refused: the provider would be asked for what nobody
has checked.
"""

from __future__ import annotations

import re

from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import FORBIDDEN

LONGEST_BOUNDARY = 70
"""RFC 2046."""
MOST_PARTS = 100
LONGEST_HEAD = 4096
LONGEST_FIELD = 64 * 1024
"""Larger parts are files: never read here."""
_ONCE = frozenset({"model", "n", "response_format", "stream", *FORBIDDEN})
"""What we read must be what the provider reads."""
_BOUNDARY = re.compile(rb"--[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046's characters."""
_PLAIN = re.compile(r"[0-9A-Za-z'+_.-]+")
"""Of them those that need no quotation marks in a header."""
_BROKEN = re.compile(rb"^[ \t]|[\r\n]")
"""A header's line that goes on, or ends in half a line's end."""
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data((?:[ \t]*;[^\r\n]*)?)", re.IGNORECASE)
_PARAMETER = re.compile(
    rb'[ \t]*;[ \t]*(name|filename|filename\*)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*', re.IGNORECASE
)


def looks_like(body: bytes) -> bool:
    return body.startswith(b"--")


def fields(body: bytes) -> tuple[dict[str, bytes], list[memoryview], int]:
    """Fields by name, large ones left out, the files, and how many bytes the fields have with the large ones. Raises
    InvalidRequest where it is no complete form."""
    found: dict[str, bytes] = {}
    files: list[memoryview] = []
    size = 0
    for name, is_file, start, end in _parts(body):
        if name in _ONCE and (name in found or is_file or end - start > LONGEST_FIELD):
            what = f"has two {name} fields" if name in found else f"has a {name} that is a file, or as long as one"
            raise InvalidRequest(f"the form {what}", param=name)
        if is_file:
            files.append(memoryview(body)[start:end])
            continue
        size += end - start
        if end - start <= LONGEST_FIELD:
            found[name] = body[start:end]
    return found, files, size


def content_type(body: bytes) -> str:
    """Of a form that `fields` has read."""
    boundary = body[2 : body.find(b"\r\n")].decode("ascii")
    told = boundary if _PLAIN.fullmatch(boundary) else f'"{boundary}"'
    return f"multipart/form-data; boundary={told}"


def with_field(body: bytes, name: str, value: str) -> bytes:
    """The form with one field's value replaced, or added in front where it has none."""
    for found, _, start, end in _parts(body):
        if found == name:
            return b"%b%b%b" % (body[:start], value.encode(), body[end:])
    line = body[: body.find(b"\r\n")]
    return b'%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n%b' % (
        line,
        name.encode(),
        value.encode(),
        body,
    )


def _parts(body: bytes) -> list[tuple[str, bool, int, int]]:
    """(name, whether it is a file, start and end of its content) of every part."""
    line_end = body.find(b"\r\n", 0, LONGEST_BOUNDARY + 4)
    if line_end < 0 or _BOUNDARY.fullmatch(body, 0, line_end) is None:
        raise InvalidRequest("the form's boundary is missing, too long or badly spelt")
    mark = b"\r\n" + body[:line_end]
    found: list[tuple[str, bool, int, int]] = []
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
        found.append((*_named(head), start, end))
        at = end + len(mark)
        if body[at : at + 2] == b"--":
            return found


def _named(head: bytes) -> tuple[str, bool]:
    """(name, whether it is a file) by a part's headers."""
    lines = head.split(b"\r\n")[1:]
    told = [line for line in lines if line[:19].lower() == b"content-disposition"]
    found = _DISPOSITION.fullmatch(told[0]) if len(told) == 1 else None
    if found is None or any(_BROKEN.search(line) for line in lines):
        raise InvalidRequest("a part of the form has no name")
    said: dict[bytes, bytes] = {}
    rest, at = found[1], 0
    while at < len(rest):
        one = _PARAMETER.match(rest, at)
        if one is None or (key := one[1].lower()) in said:
            raise InvalidRequest("a part of the form has a content-disposition that can be read in several ways")
        said[key] = one[3] if one[2] is None else one[2]
        at = one.end()
    if b"name" not in said or b"\\" in said[b"name"]:
        raise InvalidRequest("a part of the form has no name, or one with a backslash")
    return said[b"name"].decode("utf-8", "replace"), len(said) > 1
