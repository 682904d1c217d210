"""Counters and histograms that cost a dictionary entry and a bisection; prometheus_client only renders them.

The library's own children take a lock and several calls per increment: ten microseconds a request, measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import repeat

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Tally(Collector):
    """One counter or gauge. Not thread-safe: counted and rendered on one loop."""

    unit = ""

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), *, gauge: bool = False) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self.gauge = gauge
        self._values: defaultdict[Labels, float] = defaultdict(float)
        if not labels:
            self._values[()] = 0.0

    def add(self, labels: Labels = (), by: float = 1.0) -> None:
        self._values[labels] += by

    def set(self, labels: Labels, value: float) -> None:
        self._values[labels] = value

    def clear(self) -> None:
        """Before a gauge is set anew whose labels come and go."""
        self._values.clear()

    def points(self) -> list[tuple[Labels, float]]:
        return list(self._values.items())

    def collect(self) -> Iterator[Metric]:
        kind = GaugeMetricFamily if self.gauge else CounterMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Spread(Collector):
    """One histogram. `bounds` are upper bounds, inclusive, in the metric's unit."""

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float], unit: str = "") -> None:
        self.name, self.help, self.labels, self.unit = name, help, tuple(labels), unit
        self.bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: defaultdict[Labels, float] = defaultdict(float)

    def observe(self, labels: Labels, value: float) -> None:
        self._cells(labels)[bisect_left(self.bounds, value)] += 1
        self._sums[labels] += value

    def observe_all(self, labels: Labels, values: Sequence[float]) -> None:
        if not values:
            return
        cells = self._cells(labels)
        for cell, times in Counter(map(bisect_left, repeat(self.bounds), values)).items():
            cells[cell] += times
        self._sums[labels] += sum(values)

    def _cells(self, labels: Labels) -> list[int]:
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self.bounds) + 1)
        return counts

    def points(self) -> list[tuple[Labels, list[int], float]]:
        """(labels, count per bucket, sum)."""
        return [(labels, counts, self._sums[labels]) for labels, counts in self._counts.items()]

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, counts in self._counts.items():
            buckets: list[tuple[str, float]] = []
            total = 0
            for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
            family.add_metric(labels, buckets, self._sums[labels])
        yield family
