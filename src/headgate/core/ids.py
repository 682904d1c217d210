"""Ids of ours: sortable, unguessable enough to name things; and the secrets of virtual keys. The only place with
randomness for names."""

from __future__ import annotations

import os
import re
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [one + two for one in _ALPHABET for two in _ALPHABET]
_LETTERS = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
"""Five bits of each random byte, as a letter."""
_PART = re.compile(".{16}")
_pool: list[str] = []
"""Random parts made together from one system call; names only, never secrets."""
_last: tuple[int, str] = (0, "")


def new_id(prefix: str) -> str:
    """`tr_01JD...`: prefix and a ULID (48 bits of milliseconds, 80 random bits, Crockford base 32)."""
    ms = time.time_ns() // 1_000_000
    began, spelled = _last
    if began != ms >> 10:
        spelled = _spell(ms >> 10)
    return f"{prefix}_{spelled}{_PAIRS[ms & 1023]}{_pool.pop() if _pool else _refill()}"


def new_secret(prefix: str) -> str:
    """`hg-...`: prefix and 160 random bits in 32 characters that survive being read aloud. Unlike an id it is a secret:
    shown once, never stored."""
    luck = int.from_bytes(os.urandom(20))
    return prefix + "".join(_ALPHABET[luck >> shift & 31] for shift in range(0, 160, 5)).lower()


def _refill() -> str:
    luck = os.urandom(16 * 128).translate(_LETTERS).decode("ascii")
    _pool.extend(_PART.findall(luck))
    return _pool.pop()


os.register_at_fork(after_in_child=_pool.clear)  # two processes must not draw the same names


def _spell(value: int) -> str:
    """Eight characters; kept, for they are needed 1,024 ms long."""
    global _last  # a cache of one
    spelled = "".join(_PAIRS[value >> shift & 1023] for shift in (30, 20, 10, 0))
    _last = (value, spelled)
    return spelled
