"""What an experiment has seen: sums per arm, which units have counted, and whether it was stopped."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from headgate.strategies.conversation import hashed

TOLD = 20_000
"""Traces whose score is remembered, so that a second word replaces the first."""
BITS, HASHES = 2**19, 3
"""Of the filter that knows which units have counted. A unit that it takes for another one counts no more: at 50,000 units
that is 1.6 % of the new ones, at 200,000 a third."""


class Sums(msgspec.Struct, array_like=True):
    """Of the values of one metric: they add up over processes."""

    n: float = 0.0
    total: float = 0.0
    square: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value
        self.square += value * value

    def revise(self, before: float, after: float) -> None:
        self.total += after - before
        self.square += after * after - before * before

    def join(self, other: Sums) -> None:
        self.n += other.n
        self.total += other.total
        self.square += other.square

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0


Cells = dict[str, dict[str, dict[str, Sums]]]
"""Phase (the shares that were in force) → arm → metric → sums. Phases are compared within themselves: pooled, a change of
the shares would mix the difference between arms with that between times."""


class Stop(msgspec.Struct, frozen=True, array_like=True):
    at: float
    because: str
    by: str
    """`guard`, or who asked for it."""
    arm: str
    """What everybody gets."""


class Record(msgspec.Struct, array_like=True):
    """`epoch`: when it was last begun anew (0: never). `began`: when the first request came."""

    epoch: float = 0.0
    began: float = 0.0
    stop: Stop | None = None
    cells: Cells = {}
    seen: bytes = b""
    """The filter, deflated."""


class Seen:
    """A Bloom filter: merges by OR, whoever saw the unit."""

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)
        self.used = False

    def add(self, name: str) -> bool:
        """False where it is there already (or is taken for one that is)."""
        value, new = int(name[:24], 16), False
        for _ in range(HASHES):
            value, place = divmod(value, BITS)
            byte, bit = place >> 3, 1 << (place & 7)
            if not self._bits[byte] & bit:
                self._bits[byte] |= bit
                new = True
        self.used = True
        return new

    def join(self, packed: bytes) -> None:
        if packed:
            other = zlib.decompress(packed)
            merged = int.from_bytes(self._bits, "big") | int.from_bytes(other, "big")
            self._bits = bytearray(merged.to_bytes(BITS // 8, "big"))
            self.used = True

    def pack(self) -> bytes:
        return zlib.compress(bytes(self._bits), 1) if self.used else b""


class Trial:
    """Of one definition of an experiment (other arms: another trial; other shares: the same). Outlives reloads, and
    restarts where there is a store. Implements core.strategy.Knowledge.

    `cells`: of all processes, as far as they have been heard; `_mine`: this one's own part."""

    def __init__(self) -> None:
        self.epoch = 0.0
        self.began = 0.0
        self.stopped: Stop | None = None
        self.cells: Cells = {}
        self._mine: Cells = {}
        self._seen, self._own_seen = Seen(), Seen()
        self._told: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    # -- what happens --------------------------------------------------------------------------------------------------
    def note(self, phase: str, arm: str, values: Mapping[str, float], *, at: float) -> None:
        """What one request was, by metric."""
        self.began = min(self.began or at, at)
        for cells in (self.cells, self._mine):
            metrics = cells.setdefault(phase, {}).setdefault(arm, {})
            for name, value in values.items():
                metrics.setdefault(name, Sums()).add(value)

    def is_first(self, unit: str) -> bool:
        """Whether this unit (a hash in hex) counts now for the first time, on any process that has been heard of."""
        new = self._seen.add(unit)
        if new:
            self._own_seen.add(unit)
        return new

    def score(self, trace: str, phase: str, arm: str, unit: str, metric: str, value: float) -> None:
        """What somebody said of an answer; a second word replaces the first."""
        before, names = self._told.get(trace, (None, ()))
        if before is None:
            names = (metric, f"unit:{metric}") if self.is_first(hashed(f"{metric}\0{unit}")) else (metric,)
        for cells in (self.cells, self._mine):
            metrics = cells.setdefault(phase, {}).setdefault(arm, {})
            for name in names:
                sums = metrics.setdefault(name, Sums())
                if before is None:
                    sums.add(value)
                else:
                    sums.revise(before, value)
        self._told[trace] = (value, names)
        if len(self._told) > TOLD:
            self._told.popitem(last=False)

    def stop(self, stop: Stop) -> Stop:
        """The first stop of an epoch stands; returned is the one that does."""
        self.stopped = self.stopped or stop
        return self.stopped

    def begin_anew(self, epoch: float) -> None:
        """Nothing that was seen counts any more, on all processes once they have heard of it."""
        self.__init__()
        self.epoch = epoch

    # -- kept ----------------------------------------------------------------------------------------------------------
    def pack(self) -> bytes:
        return self.merged(())

    def merged(self, packs: Sequence[bytes]) -> bytes:
        return msgspec.msgpack.encode(_joined([self._own(), *map(_unpacked, packs)]))

    def adopt(self, packs: Sequence[bytes]) -> None:
        records = [_unpacked(pack) for pack in packs]
        self._follow(records)
        for record in self._of_now(records):
            _join(self._mine, record.cells)
            _join(self.cells, record.cells)
            self._own_seen.join(record.seen)
            self._seen.join(record.seen)

    def hear(self, packs: Sequence[bytes]) -> None:
        records = [_unpacked(pack) for pack in packs]
        self._follow(records)
        known = _joined([self._own(), *self._of_now(records)])
        self.cells, self.began = known.cells, known.began
        self._seen.join(known.seen)

    def forget(self) -> None:
        self._mine = {}
        self._own_seen = Seen()

    def _own(self) -> Record:
        return Record(self.epoch, self.began, self.stopped, self._mine, self._own_seen.pack())

    def _of_now(self, records: Iterable[Record]) -> list[Record]:
        return [record for record in records if record.epoch == self.epoch]

    def _follow(self, records: Sequence[Record]) -> None:
        """Others have begun anew, or stopped."""
        newest = max((record.epoch for record in records), default=0.0)
        if newest > self.epoch:
            self.begin_anew(newest)
        for record in self._of_now(records):
            if record.stop is not None and (self.stopped is None or record.stop.at < self.stopped.at):
                self.stopped = record.stop


def _unpacked(data: bytes) -> Record:
    return msgspec.msgpack.decode(data, type=Record)


def _joined(records: Sequence[Record]) -> Record:
    """Of the newest epoch; the first stop in it stands."""
    epoch = max(record.epoch for record in records)
    now = [record for record in records if record.epoch == epoch]
    out, seen = Record(epoch, min((r.began for r in now if r.began), default=0.0), None, {}), Seen()
    out.stop = min((r.stop for r in now if r.stop is not None), key=lambda stop: stop.at, default=None)
    for record in now:
        _join(out.cells, record.cells)
        seen.join(record.seen)
    out.seen = seen.pack()
    return out


def _join(into: Cells, cells: Cells) -> None:
    for phase, arms in cells.items():
        for arm, metrics in arms.items():
            mine = into.setdefault(phase, {}).setdefault(arm, {})
            for name, sums in metrics.items():
                mine.setdefault(name, Sums()).join(sums)
