"""What every front end refuses before a handler sees it: malformed heads, bodies of unknown length, foreign paths."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from itertools import chain, repeat
from urllib.parse import unquote_to_bytes

import msgspec

from headgate.core.errors import (
    HeadersTooLarge,
    HeadgateError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from headgate.server.http import HttpLimits, among

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_WATCHED = frozenset(("host", "content-length", "transfer-encoding", "content-encoding", "expect"))
_VERSIONS = ("1.1", "1.0")
_LONGEST_NAME = 64
_MOST_NAMES = 1000


class _Names(dict[bytes, str]):
    """Headers' names as they came -> in lower case. Clients' names are few: they are spelled out once."""

    def __missing__(self, raw: bytes) -> str:
        name = raw.lower().decode("latin-1")
        if len(raw) <= _LONGEST_NAME and len(self) < _MOST_NAMES:
            self[raw] = name
        return name


_name_of = _Names().__getitem__


class Head(msgspec.Struct):
    """A request's headers: `first` value of each name, all `pairs`; `length` of the body as announced (0
    where there is none), None where it is chunked; `expects`: the client waits to be asked for its body."""

    first: dict[str, str]
    pairs: list[tuple[str, str]]
    length: int | None
    expects: bool


def read_head(raw: Sequence[tuple[bytes, bytes]], limits: HttpLimits, version: str) -> Head:
    """Raises what a bad head deserves (RELIABILITY 12-23)."""
    if version not in _VERSIONS:
        raise InvalidRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if is_too_large(raw, limits):
        raise HeadersTooLarge("the request's headers are too large")
    raw_names, raw_values = zip(*raw, strict=True) if raw else ((), ())
    names = map(_name_of, raw_names)
    values = [*map(bytes.decode, raw_values, repeat("latin-1"))]
    if _BAD_VALUE.search(" ".join(values)):
        raise InvalidRequest("a header holds a control character")
    pairs = [*zip(names, values, strict=True)]
    first = dict(reversed(pairs))
    length, expects = _framing(among(_WATCHED, first, pairs), limits, version)
    return Head(first, pairs, length, expects)


def is_too_large(raw: Sequence[tuple[bytes, bytes]], limits: HttpLimits) -> bool:
    """Whether the headers, or those that have come of them, are too many or take too many bytes."""
    return len(raw) > limits.headers or sum(map(len, chain.from_iterable(raw))) > limits.header_bytes


def _framing(watched: Sequence[tuple[str, str]], limits: HttpLimits, version: str) -> tuple[int | None, bool]:
    """(announced length, waits to be asked for its body)."""
    said = dict(watched)
    twice = () if len(said) == len(watched) else _repeated(watched)
    if "content-encoding" in said and not _IDENTITY.issuperset(_words(watched, "content-encoding")):
        raise UnsupportedMediaType("compressed request bodies are not accepted")
    host, length, coding = said.get("host"), said.get("content-length"), said.get("transfer-encoding")
    if host is None:
        if version != "1.0":
            raise InvalidRequest("the Host header is missing or invalid")
    elif "host" in twice or not _HOST.fullmatch(host):
        raise InvalidRequest("the Host header is missing or invalid")
    if length is not None and coding is not None:
        raise InvalidRequest("a request has either Content-Length or Transfer-Encoding, not both")
    expects = "expect" in said and _words(watched, "expect")[-1] == "100-continue"
    if coding is not None:
        if version == "1.0" or _words(watched, "transfer-encoding") != ["chunked"]:
            raise InvalidRequest("the only Transfer-Encoding is chunked, in HTTP/1.1")
        return None, expects
    if length is None:
        return 0, expects
    if "content-length" in twice or not (length.isascii() and length.isdigit()):
        raise InvalidRequest("the Content-Length header is invalid")
    announced = int(length[:20])
    if announced > limits.body:
        raise too_large(limits)
    return announced, expects


_IDENTITY = frozenset(("", "identity"))


def _words(headers: Sequence[tuple[str, str]], name: str) -> list[str]:
    """All values of one name."""
    return [value.strip().lower() for key, value in headers if key == name]


def _repeated(headers: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Names that stand more than once."""
    names = [name for name, _ in headers]
    return frozenset(name for name in names if names.count(name) > 1)


def too_large(limits: HttpLimits) -> HeadgateError:
    return PayloadTooLarge(f"the request body is larger than {limits.body} bytes")


def body_seconds(limits: HttpLimits, length: int | None) -> float:
    """How long the body may take to arrive."""
    return limits.body_time + (length or 0) / 100_000


def split_target(target: bytes) -> tuple[bytes, str]:
    """(path, query) of a request target, which may name the host once more (absolute-form)."""
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            raise InvalidRequest("the request's target is not a path")
        target = b"/" + rest.partition(b"/")[2]
    if b"#" in target:
        raise InvalidRequest("the request's target holds a fragment")
    path, _, query = target.partition(b"?")
    return path, query.decode("latin-1")


@functools.lru_cache(maxsize=512)
def decode_path(raw: bytes) -> str:
    """The path, percent-decoded once. What could be read in two ways is nobody's route: NotFound."""
    path = raw.partition(b"?")[0]
    if not path.startswith(b"/") or b";" in path or len(path) > 2048:
        raise NotFound("there is nothing at this path")
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise NotFound("there is nothing at this path") from error
    segments = decoded.split("/")
    if "//" in decoded or _CONTROL.search(decoded) or any(segment in (".", "..") for segment in segments):
        raise NotFound("there is nothing at this path")
    return decoded
