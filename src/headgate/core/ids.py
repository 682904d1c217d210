"""Ids of ours: sortable, unguessable enough to name things; and the secrets of virtual keys. The only place with
randomness for names."""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [one + two for one in _ALPHABET for two in _ALPHABET]
_pool: list[bytes] = []
"""Random bytes got in one system call for many names; names only, never secrets."""
_last: tuple[int, str] = (0, "")


def new_id(prefix: str) -> str:
    """`tr_01JD...`: prefix and a ULID (48 bits of milliseconds, 80 random bits, Crockford base 32)."""
    luck = int.from_bytes(_pool.pop() if _pool else _refill())
    p = _PAIRS
    return (
        f"{prefix}_{_time_part(time.time_ns() // 1_000_000)}{p[luck >> 70]}{p[luck >> 60 & 1023]}{p[luck >> 50 & 1023]}"
        f"{p[luck >> 40 & 1023]}{p[luck >> 30 & 1023]}{p[luck >> 20 & 1023]}{p[luck >> 10 & 1023]}{p[luck & 1023]}"
    )


def new_secret(prefix: str) -> str:
    """`hg-...`: prefix and 160 random bits in 32 characters that survive being read aloud. Unlike an id it is a secret:
    shown once, never stored."""
    luck = int.from_bytes(os.urandom(20))
    return prefix + "".join(_ALPHABET[luck >> shift & 31] for shift in range(0, 160, 5)).lower()


def _refill() -> bytes:
    luck = os.urandom(10 * 128)
    _pool.extend(luck[at : at + 10] for at in range(10, len(luck), 10))
    return luck[:10]


os.register_at_fork(after_in_child=_pool.clear)  # two processes must not draw the same names


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
