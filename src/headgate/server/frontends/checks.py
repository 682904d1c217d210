"""What every front end refuses before a handler sees it: malformed heads, bodies of unknown length, foreign paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from headgate.core.errors import (
    HeadersTooLarge,
    HeadgateError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from headgate.server.http import HttpLimits

_HOST = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def check_head(headers: Sequence[tuple[bytes, bytes]], limits: HttpLimits) -> int | None:
    """Content-Length, None where the body is chunked or absent. Raises what a bad head deserves (see RELIABILITY 12-23)."""
    if len(headers) > limits.headers or sum(len(n) + len(v) for n, v in headers) > limits.header_bytes:
        raise HeadersTooLarge("the request's headers are too large")
    lengths: list[bytes] = []
    hosts: list[bytes] = []
    chunked = False
    for name, value in headers:
        if _BAD_VALUE.search(value):
            raise InvalidRequest("a header holds a control character")
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"host":
            hosts.append(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType("compressed request bodies are not accepted")
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise InvalidRequest("the Host header is missing or invalid")
    if lengths and chunked:
        raise InvalidRequest("a request has either Content-Length or Transfer-Encoding, not both")
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        raise InvalidRequest("the Content-Length header is invalid")
    if not lengths:
        return None
    length = int(lengths[0][:20])
    if length > limits.body:
        raise too_large(limits)
    return length


def too_large(limits: HttpLimits) -> HeadgateError:
    return PayloadTooLarge(f"the request body is larger than {limits.body} bytes")


def decode_path(raw: bytes) -> str:
    """The path, percent-decoded once. What could be read in two ways is nobody's route: NotFound."""
    path = raw.partition(b"?")[0]
    if not path.startswith(b"/") or b"//" in path or b";" in path or len(path) > 2048:
        raise NotFound("there is nothing at this path")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise NotFound("there is nothing at this path") from error
    segments = decoded.split("/")
    if any(segment in (".", "..") for segment in segments) or "\\" in decoded or "\x00" in decoded:
        raise NotFound("there is nothing at this path")
    return decoded


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """(first value of each name, all pairs), in latin-1 as HTTP has it."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value)
    return first, pairs
