"""How often a cascade's verifier was right, and whether that is still worth its money."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec

DECAY = 0.995
"""Weight of each verdict after one more: half a voice after about 140."""
TOLD = 4000
"""Requests whose verdict's truth somebody told, that are remembered for another word."""
PROBES = 20
"""While switched off, one request in so many still goes the cheap way, so that a better verifier is noticed."""


class Accuracy:
    """Outlives reloads, and restarts where there is a store. `right` and `total` are decayed counts of verdicts whose truth
    became known: by feedback, by a judge's sample, or because the strong model gave the answer that had been rejected; of
    all processes, as far as they have been heard. Implements core.strategy.Knowledge."""

    def __init__(self) -> None:
        self.right = 0.0
        self.total = 0.0
        self._mine = (0.0, 0.0)
        self._told: OrderedDict[str, bool] = OrderedDict()

    def tell(self, trace: str, right: bool) -> None:
        """Somebody's word on the verdict of a request: the last one counts, however often it is said."""
        before = self._told.get(trace)
        if before is None:
            self.note(right)
        else:
            self.right += right - before
            self._mine = (self._mine[0] + right - before, self._mine[1])
        self._told[trace] = right
        self._told.move_to_end(trace)
        if len(self._told) > TOLD:
            self._told.popitem(last=False)

    def note(self, right: bool) -> None:
        self.right = self.right * DECAY + right
        self.total = self.total * DECAY + 1.0
        self._mine = (self._mine[0] * DECAY + right, self._mine[1] * DECAY + 1.0)

    @property
    def value(self) -> float | None:
        """Share of right verdicts; None while nothing is known."""
        return self.right / self.total if self.total else None

    def is_under(self, floor: float, least: int) -> bool:
        """Measured often enough, and below the floor."""
        return self.total >= least and self.right / self.total < floor

    def view(self) -> dict[str, float | None]:
        return {"accuracy": None if self.value is None else round(self.value, 3), "measured": round(self.total, 1)}

    # -- kept ----------------------------------------------------------------------------------------------------------
    def pack(self) -> bytes:
        return self.merged(())

    def merged(self, packs: Sequence[bytes]) -> bytes:
        return msgspec.msgpack.encode(_sum(self._mine, packs))

    def adopt(self, packs: Sequence[bytes]) -> None:
        added = _sum((0.0, 0.0), packs)
        self._mine = (self._mine[0] + added[0], self._mine[1] + added[1])
        self.right, self.total = self.right + added[0], self.total + added[1]

    def hear(self, packs: Sequence[bytes]) -> None:
        self.right, self.total = _sum(self._mine, packs)

    def forget(self) -> None:
        self._mine = (0.0, 0.0)


def _sum(first: tuple[float, float], packs: Sequence[bytes]) -> tuple[float, float]:
    rows = [first, *(msgspec.msgpack.decode(pack, type=tuple[float, float]) for pack in packs)]
    return sum(row[0] for row in rows), sum(row[1] for row in rows)
