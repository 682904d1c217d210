"""Ids of ours: sortable, unguessable enough to name things, never secrets. The only place with randomness for names."""

from __future__ import annotations

import os
import time
from base64 import b32hexencode

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD = bytes.maketrans(b"0123456789ABCDEFGHIJKLMNOPQRSTUV", _ALPHABET.encode())
_last: tuple[int, str] = (0, "")


def new_id(prefix: str) -> str:
    """`tr_01JD...`: prefix and a ULID (48 bits of milliseconds, 80 random bits, Crockford base 32)."""
    luck = b32hexencode(os.urandom(10)).translate(_CROCKFORD).decode()
    return f"{prefix}_{_time_part(time.time_ns() // 1_000_000)}{luck}"


def _time_part(ms: int) -> str:
    """Ten characters; made once a millisecond."""
    global _last  # a cache of one
    if _last[0] != ms:
        out = [""] * 10
        value = ms
        for place in range(9, -1, -1):
            out[place] = _ALPHABET[value & 31]
            value >>= 5
        _last = (ms, "".join(out))
    return _last[1]
