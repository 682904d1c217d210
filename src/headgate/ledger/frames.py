"""Journal entries as bytes: a mark, the kind, length and checksum, then MessagePack. What is torn or damaged is told from
what is whole, and reading goes on after it."""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

from headgate.core.records import AttemptIntent, AttemptOutcome, JournalEntry, RequestRecord

MARK = b"\xabH"
HEAD = struct.Struct("<2sBII")
LARGEST = 16_000_000
"""No entry is as large; a length beyond it is damage."""
HEAD_SIZE = HEAD.size
_unpack = HEAD.unpack_from
_KINDS: dict[type, int] = {AttemptIntent: 1, AttemptOutcome: 2, RequestRecord: 3}
_DECODERS = {number: msgspec.msgpack.Decoder(kind).decode for kind, number in _KINDS.items()}
_encode = msgspec.msgpack.Encoder().encode


def frame(entry: JournalEntry) -> bytes:
    kind = _KINDS[type(entry)]
    body = _encode(entry)
    return HEAD.pack(MARK, kind, len(body), crc32(body, kind)) + body


class Read(msgspec.Struct):
    """`used` bytes were read; `skipped` of them held no whole entry."""

    entries: list[JournalEntry]
    used: int
    skipped: int


def read_frames(data: bytes, *, most: int, ended: bool) -> Read:
    """Up to `most` entries from the start of `data`. A frame that is not whole yet is left for later, unless the file has
    `ended`: then it is a torn tail and is skipped."""
    out = Read([], 0, 0)
    entries, at, size = out.entries, 0, len(data)
    while at < size and len(entries) < most:
        body_at = at + HEAD_SIZE
        if body_at <= size:
            mark, kind, length, check = _unpack(data, at)
            end = body_at + length
            if mark == MARK and end <= size and kind in _DECODERS:
                body = data[body_at:end]
                if crc32(body, kind) == check and (entry := _decode(kind, body)) is not None:
                    entries.append(entry)
                    at = end
                    continue
        if not ended and _may_grow(data, at, size):
            break
        following = data.find(MARK, at + 1)
        skip_to = following if following >= 0 else size
        out.skipped += skip_to - at
        at = skip_to
    out.used = at
    return out


def _may_grow(data: bytes, at: int, size: int) -> bool:
    """Whether what begins at `at` can become a frame when more is written."""
    if size - at < HEAD_SIZE:
        return data[at : at + 2] in (MARK, MARK[:1])
    mark, kind, length, _ = _unpack(data, at)
    return mark == MARK and kind in _DECODERS and length <= LARGEST and at + HEAD_SIZE + length > size


def _decode(kind: int, body: bytes) -> JournalEntry | None:
    try:
        return _DECODERS[kind](body)
    except msgspec.DecodeError:
        return None
