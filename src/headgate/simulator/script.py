"""What one answer does on the wire, as data: bytes, pauses and endings in order.

A script is any iterable of steps; a generator is asked for its next step only when the one before is done, so it may
watch the world while it answers. `wire` plays scripts on sockets; nothing here touches one. A script that stops before
its body has ended closes the connection, which is what a cut answer looks like.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

Headers = Sequence[tuple[str, str]]
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"


class Head(msgspec.Struct, frozen=True):
    """Status line and headers. `framing` says how the body's end is known; with "length" the declared figure is
    `length`, true or not; "none" writes no framing header at all."""

    status: int = 200
    headers: Headers = ()
    framing: Literal["chunked", "length", "close", "none"] = "chunked"
    length: int = 0


class Body(msgspec.Struct, frozen=True):
    """One piece of the body, sent as one write (one chunk where the framing is chunked)."""

    data: bytes


class End(msgspec.Struct, frozen=True):
    """The body is complete; the connection may serve the next request."""


class Raw(msgspec.Struct, frozen=True):
    """Bytes on the socket exactly as they are."""

    data: bytes


class Pause(msgspec.Struct, frozen=True):
    seconds: float


class Wait(msgspec.Struct, frozen=True):
    """Goes on when somebody sets the event: silence without guessing how long."""

    event: asyncio.Event


class Hang(msgspec.Struct, frozen=True):
    """Silence until the client leaves."""


class Reset(msgspec.Struct, frozen=True):
    """RST: the client sees `connection reset by peer`; what is still unread may be lost."""


class HalfClose(msgspec.Struct, frozen=True):
    """FIN in our direction only."""


class Close(msgspec.Struct, frozen=True):
    """FIN and no more reading."""


Step = Head | Body | End | Raw | Pause | Wait | Hang | Reset | HalfClose | Close
Script = Iterable[Step]


# -- answers that are fine ---------------------------------------------------------------------------------------


def reply(status: int, body: bytes, headers: Headers = (), content_type: str | None = JSON) -> list[Step]:
    """A complete answer with its true content-length."""
    typed = (("content-type", content_type), *headers) if content_type else tuple(headers)
    return [Head(status, typed, "length", len(body)), Body(body), End()]


def reply_json(status: int, value: Any, headers: Headers = ()) -> list[Step]:
    return reply(status, msgspec.json.encode(value), headers)


def stream(frames: Iterable[bytes], *, every: float = 0, headers: Headers = (), content_type: str = SSE) -> Script:
    """A chunked answer, one chunk per frame, `every` seconds apart."""
    yield Head(200, (("content-type", content_type), ("cache-control", "no-cache"), *headers))
    for frame in frames:
        yield Body(frame)
        if every:
            yield Pause(every)
    yield End()


def sliced(data: bytes, cuts: Sequence[int] | int, *, every: float = 0) -> Iterator[Step]:
    """`data` in pieces: cut at these offsets, or every so many bytes."""
    offsets = list(range(cuts, len(data), cuts)) if isinstance(cuts, int) else sorted({c for c in cuts if c > 0})
    start = 0
    for end in [*(o for o in offsets if o < len(data)), len(data)]:
        if end > start:
            yield Body(data[start:end])
            if every:
                yield Pause(every)
        start = end


# -- answers that are not ----------------------------------------------------------------------------------------


def drip(body: bytes, *, every: float = 1.0, content_type: str = JSON) -> Script:
    """One byte at a time, each after a pause."""
    yield Head(200, (("content-type", content_type),), "length", len(body))
    for index in range(len(body)):
        yield Pause(every)
        yield Body(body[index : index + 1])
    yield End()


def short(body: bytes, *, missing: int = 100, content_type: str = JSON) -> list[Step]:
    """A content-length that promises more than comes before the close."""
    return [Head(200, (("content-type", content_type),), "length", len(body) + missing), Body(body), Close()]


def cut_chunked(frames: Iterable[bytes], *, ending: Step | None = None, content_type: str = SSE) -> Script:
    """A chunked answer without its last chunk, ended by `ending` (Close by default, or Reset, Hang, HalfClose)."""
    yield Head(200, (("content-type", content_type),))
    for frame in frames:
        yield Body(frame)
    yield ending or Close()


def bad_chunk_size() -> list[Step]:
    """Chunked framing whose sizes are not hexadecimal."""
    return [Head(200, (("content-type", JSON),)), Raw(b"zz\r\n{}\r\n0\r\n\r\n"), Close()]


def both_lengths(body: bytes) -> list[Step]:
    """Content-Length and Transfer-Encoding together, which must not be trusted."""
    return [
        Head(200, (("content-type", JSON), ("content-length", str(len(body)))), "chunked"),
        Body(body),
        End(),
        Close(),
    ]


def not_http() -> list[Step]:
    """Bytes that are no HTTP answer."""
    return [Raw(b"SSH-2.0-OpenSSH_9.2\r\n"), Close()]


def redirect(location: str, status: int = 302) -> list[Step]:
    return reply(status, b"", (("location", location),), None)


def gzip_bomb(size: int = 1 << 30) -> Script:
    """A small gzip body that unpacks to `size` zero bytes."""
    yield Head(200, (("content-type", JSON), ("content-encoding", "gzip")))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    for _ in range(max(1, size >> 20)):
        packed = packer.compress(block)
        if packed:
            yield Body(packed)
    yield Body(packer.flush())
    yield End()


def flood(block: bytes = b"a" * 65536, size: int = 10 << 30, *, content_type: str = JSON) -> Script:
    """`size` bytes of body, made as they are sent."""
    yield Head(200, (("content-type", content_type),))
    for _ in range(max(1, size // len(block))):
        yield Body(block)
    yield End()


def flood_of_headers(count: int = 10_000) -> Script:
    yield Head(200, tuple((f"x-filler-{n}", "y" * 64) for n in range(count)), "length", 2)
    yield Body(b"{}")
    yield End()


def html(status: int = 200, title: str = "Sign in") -> list[Step]:
    """A captive portal's or a proxy's page where JSON was due."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return reply(status, page.encode(), content_type="text/html; charset=utf-8")


def with_headers(steps: Script, headers: Mapping[str, str]) -> Iterator[Step]:
    """The same script with these headers set on its head, replacing others of the name."""
    names = {name.lower() for name in headers}
    for step in steps:
        if isinstance(step, Head):
            kept = [(n, v) for n, v in step.headers if n.lower() not in names]
            yield Head(step.status, (*kept, *headers.items()), step.framing, step.length)
        else:
            yield step
