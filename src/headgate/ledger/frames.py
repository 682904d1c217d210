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
_KINDS: dict[type, int] = {AttemptIntent: 1, AttemptOutcome: 2, RequestRecord: 3}
_DECODERS = {number: msgspec.msgpack.Decoder(kind) for kind, number in _KINDS.items()}
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
    at, size = 0, len(data)
    while at < size and len(out.entries) < most:
        end = _end_of(data, at, size)
        if end is None:  # not whole yet
            if not ended:
                break
            following = data.find(MARK, at + 1)
        elif (entry := _entry(data, at, end)) is not None:
            out.entries.append(entry)
            at = end
            continue
        else:
            following = data.find(MARK, at + 1)
        skip_to = following if following >= 0 else size
        out.skipped += skip_to - at
        at = skip_to
    out.used = at
    return out


def _end_of(data: bytes, at: int, size: int) -> int | None:
    """Where the frame at `at` ends; None where that is beyond the data; `at` where there is no frame."""
    if size - at < HEAD.size:
        return None if data[at : at + 2] in (MARK, MARK[:1]) else at
    mark, kind, length, _ = HEAD.unpack_from(data, at)
    if mark != MARK or kind not in _DECODERS or length > LARGEST:
        return at
    end = at + HEAD.size + length
    return end if end <= size else None


def _entry(data: bytes, at: int, end: int) -> JournalEntry | None:
    if end == at:
        return None
    _, kind, _, check = HEAD.unpack_from(data, at)
    body = data[at + HEAD.size : end]
    if crc32(body, kind) != check:
        return None
    try:
        return _DECODERS[kind].decode(body)
    except msgspec.DecodeError:
        return None
