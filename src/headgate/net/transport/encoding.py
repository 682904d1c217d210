"""Bodies that come compressed although nobody asked. gzip is undone, in bounded steps; anything else is refused."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from headgate.net.transport.protocol import BodyTooLarge, ConnectionLost, ProtocolViolation

STEP = 256 * 1024
"""Most bytes that one step gives: a bomb is noticed before it has gone off."""
_GZIP = 16 + zlib.MAX_WBITS


class Gunzip:
    """Incremental. `feed` gives bytes to decode; `step` returns up to STEP decoded ones, b"" where more must be fed."""

    __slots__ = ("_decoder", "_given", "_limit", "_pending")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._given = 0
        self._pending = b""
        self._decoder = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> None:
        self._pending += data

    def step(self) -> bytes:
        while self._pending:
            if self._decoder.eof:  # another member follows
                self._decoder = zlib.decompressobj(_GZIP)
            try:
                out = self._decoder.decompress(self._pending, STEP)
            except zlib.error as error:
                raise ProtocolViolation(f"the body is not the gzip it claims to be: {error}") from error
            self._pending = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            if out:
                self._given += len(out)
                if self._given > self._limit:
                    raise BodyTooLarge(f"the body decodes to more than {self._limit} bytes")
                return out
        return b""

    def finish(self) -> None:
        """The body has ended. Raises where the compressed stream has not."""
        if not self._decoder.eof:
            raise ConnectionLost("the compressed body is cut short")


def decoder_for(codings: Sequence[bytes], limit: int) -> Gunzip | None:
    """What undoes the Content-Encoding headers' values; None for identity."""
    listed = [name.strip().lower() for value in codings for name in value.split(b",")]
    named = [name for name in listed if name and name != b"identity"]
    if not named:
        return None
    if len(named) > 1 or named[0] not in (b"gzip", b"x-gzip"):
        raise ProtocolViolation(f"content-encoding {named!r} was not asked for")
    return Gunzip(limit)
