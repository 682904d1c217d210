"""How often a cascade's verifier was right, and whether that is still worth its money."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.strategies.words import Said, Words

DECAY = 0.995
"""Weight of each verdict after one more: half a voice after about 140."""
PROBES = 20
"""While switched off, one request in so many still goes the cheap way, so that a better verifier is noticed."""


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """What a store keeps of an `Accuracy`. `words`: whose truth somebody told (1 right, 0 wrong), a part of the counts."""

    right: float
    total: float
    words: Said = []


class Accuracy:
    """Outlives reloads, and restarts where there is a store. `right` and `total` are decayed counts of verdicts whose truth
    became known: by feedback, by a judge's sample, or because the strong model gave the answer that had been rejected; of
    all processes, as far as they have been heard. Implements core.strategy.Knowledge."""

    def __init__(self) -> None:
        self.right = 0.0
        self.total = 0.0
        self._mine = (0.0, 0.0)
        self._words = Words()

    def tell(self, trace: str, right: bool) -> None:
        """Somebody's word on the verdict of a request: the last one counts, however often it is said."""
        before = self._words.before(trace)
        if before is None:
            self.note(right)
        else:
            self.right += right - before
            self._mine = (self._mine[0] + right - before, self._mine[1])
        self._words.say(trace, float(right))

    def note(self, right: bool) -> None:
        self.right = self.right * DECAY + right
        self.total = self.total * DECAY + 1.0
        self._mine = (self._mine[0] * DECAY + right, self._mine[1] * DECAY + 1.0)

    @property
    def value(self) -> float | None:
        """Share of right verdicts; None while nothing is known."""
        if not self.total:
            return None
        return min(max(self.right / self.total, 0.0), 1.0)  # a word that is taken back may have faded

    def is_under(self, floor: float, least: int) -> bool:
        """Measured often enough, and below the floor."""
        return self.total >= least and (self.value or 0.0) < floor

    def view(self) -> dict[str, float | None]:
        return {"accuracy": None if self.value is None else round(self.value, 3), "measured": round(self.total, 1)}

    # -- kept ----------------------------------------------------------------------------------------------------------
    def pack(self) -> bytes:
        return self.merged(())

    def merged(self, packs: Sequence[bytes]) -> bytes:
        found = [_unpacked(pack) for pack in packs]
        right, total = _sum(self._mine, found)
        return msgspec.msgpack.encode(Pack(right, total, self._words.merged(pack.words for pack in found)))

    def adopt(self, packs: Sequence[bytes]) -> None:
        found = [_unpacked(pack) for pack in packs]
        added = _sum((0.0, 0.0), found)
        self._mine = (self._mine[0] + added[0], self._mine[1] + added[1])
        self.right, self.total = self.right + added[0], self.total + added[1]
        for pack in found:
            self._words.adopt(pack.words)

    def hear(self, packs: Sequence[bytes]) -> None:
        found = [_unpacked(pack) for pack in packs]
        self.right, self.total = _sum(self._mine, found)
        self._words.hear([pack.words for pack in found])

    def forget(self) -> None:
        self._mine = (0.0, 0.0)
        self._words.forget()


def _unpacked(data: bytes) -> Pack:
    return msgspec.msgpack.decode(data, type=Pack)


def _sum(first: tuple[float, float], packs: Sequence[Pack]) -> tuple[float, float]:
    return first[0] + sum(pack.right for pack in packs), first[1] + sum(pack.total for pack in packs)
