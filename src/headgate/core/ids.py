"""Ids of ours: sortable, unguessable enough to name things, never secrets. The only place with randomness for names."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str) -> str:
    """`tr_01JD...`: prefix and a ULID (48 bits of milliseconds, 80 random bits, Crockford base 32)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    out = [""] * 26
    for place in range(25, -1, -1):
        out[place] = _ALPHABET[value & 31]
        value >>= 5
    return f"{prefix}_{''.join(out)}"
