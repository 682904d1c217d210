"""Prompts whose answers' worth is known, and what the ones that are near say of a new one.

A prompt is kept as a vector of hashed words and word pairs, never as text. Only near neighbours speak: far ones teach a
router the average of something else, which loses on traffic that it has not seen.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from zlib import crc32

SIZE = 512
KEPT = 4000
NEAR = 0.5
"""Least cosine of a neighbour."""
MOST = 32
SHRINK = 8.0
"""Effective neighbours at which half of what they say is believed."""
READ = 600
"""Characters that are looked at: enough to know a prompt again, little enough to cost nothing."""
_WORDS = bytes(ord(chr(c).lower()) if chr(c).isalnum() or c == 95 else 32 for c in range(128)) + bytes(range(128, 256))
_PUNCTUATION = re.compile(rb"\xe2[\x80\x81].|\xe3\x80.|\xef\xbc[\x80-\x8f\x9a-\xa0]|\xc2[\xa0-\xbf]|\xd8[\x8c\x9b\x9f]")
"""In UTF-8: general (“ ” ‘ ’ – …), Chinese and Japanese, of full width, Latin (« » ¿ ¡) and Arabic."""
PAIRED = 2_654_435_761
"""Knuth's multiplicative constant (2**32 divided by the golden ratio): the hash of a pair tells its order."""
Features: TypeAlias = "array[int]"
"""CRC-32 of the words, in order: the same in every process."""


class Neighbours:
    """A ring of the last KEPT scored prompts. `add` and `corrections` take tenths of a millisecond."""

    def __init__(self, *, near: float = NEAR, shrink: float = SHRINK, kept: int = KEPT) -> None:
        self._near, self._shrink, self._kept = near, shrink, kept
        self._vectors: Any = None
        self._worth: list[Mapping[str, float]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._worth)

    def add(self, seen: Features, worth: Mapping[str, float]) -> None:
        """`worth`: model → how much better (or worse) than believed its answer was."""
        self.add_vector(vector(seen), worth)

    def add_vector(self, seen: Any, worth: Mapping[str, float]) -> None:
        import numpy

        if self._vectors is None:
            self._vectors = numpy.zeros((self._kept, SIZE), dtype=numpy.float32)
        place = self._next
        self._vectors[place] = seen
        if place < len(self._worth):
            self._worth[place] = worth
        else:
            self._worth.append(worth)
        self._next = (place + 1) % self._kept

    def corrections(self, asked: Features, models: Sequence[str]) -> dict[str, float]:
        """What to add to the believed quality of each model; nothing where no neighbour is near."""
        import numpy

        count = len(self._worth)
        if not count:
            return {}
        near = self._vectors[:count] @ vector(asked)
        places = numpy.flatnonzero(near >= self._near)
        if not len(places):
            return {}
        if len(places) > MOST:
            places = places[numpy.argpartition(-near[places], MOST)[:MOST]]
        out: dict[str, float] = {}
        for model in models:
            rows = [(float(near[i]), self._worth[i][model]) for i in places if model in self._worth[i]]
            weight = sum(w for w, _ in rows)
            if weight:
                effective = weight**2 / sum(w * w for w, _ in rows)
                mean = sum(w * value for w, value in rows) / weight
                out[model] = mean * effective / (effective + self._shrink)
        return out


def features(text: str) -> Features:
    """No text is kept with them. Every routed request pays for this, so each step is one call."""
    read = text[:READ]
    written = read.encode() if read.isascii() else _PUNCTUATION.sub(b" ", read.lower().encode("utf-8", "replace"))
    return array("I", map(crc32, written.translate(_WORDS).split()))


def vector(found: Features) -> Any:
    """Of words and word pairs, of unit length; the sign of each by its hash, so that collisions cancel."""
    import numpy

    out = numpy.zeros(SIZE, dtype=numpy.float32)
    alone = numpy.array(found, dtype=numpy.uint32)
    pairs = alone[:-1] * PAIRED + alone[1:]
    for digest, count in Counter([*found, *pairs.tolist()]).items():
        out[digest % SIZE] += (1.0 if digest & 0x10000 else -1.0) * count**0.5
    length = float(numpy.sqrt(out @ out))
    return out / length if length else out


def pressed(found: Any) -> bytes:
    """A unit vector in SIZE bytes."""
    import numpy

    return numpy.rint(found * 127).astype(numpy.int8).tobytes()


def unpressed(data: bytes) -> Any:
    import numpy

    out = numpy.frombuffer(data, dtype=numpy.int8).astype(numpy.float32)
    length = float(numpy.sqrt(out @ out))
    return out / length if length else out
