"""Counters and histograms as metrics of OTLP's JSON form, cumulative since the process began."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from headgate.telemetry import semconv
from headgate.telemetry.spans import Done, Pair, pairs
from headgate.telemetry.tally import Spread, Tally

CUMULATIVE = 2
UNITS = {"_seconds": "s", "_usd": "{USD}"}


class Operations:
    """The two metrics that the GenAI conventions have for clients, counted from attempts."""

    def __init__(self) -> None:
        common = (semconv.OPERATION, semconv.PROVIDER, semconv.REQUEST_MODEL)
        self.duration = Spread(
            semconv.DURATION_METRIC, "Calls to providers", (*common, semconv.ERROR), semconv.SECONDS, unit="s"
        )
        self.tokens = Spread(
            semconv.TOKENS_METRIC, "Tokens of a call", (*common, semconv.TOKEN_TYPE), semconv.TOKENS, unit="{token}"
        )

    def count(self, one: Done, known: Any) -> None:
        """`known(name)` tells which models have a label of their own."""
        operation = semconv.operation(one.door)
        for view in one.attempts:
            common = (operation, semconv.provider(view.provider), view.model if known(view.model) else "other")
            if view.latency_ms is not None:
                self.duration.observe((*common, view.error or ""), view.latency_ms / 1000)
            if (usage := view.usage) is not None:
                self.tokens.observe((*common, "input"), usage.input)
                self.tokens.observe((*common, "output"), usage.output)


def packed(resource: list[Pair], scope: Pair, of: Iterable[Tally | Spread], *, began: str, now: str) -> bytes:
    """Body of a request to `/v1/metrics`; times in Unix nanoseconds."""
    metrics = [_metric(one, began, now) for one in of]
    body = {
        "resourceMetrics": [
            {"resource": {"attributes": resource}, "schemaUrl": semconv.SCHEMA,
             "scopeMetrics": [{"scope": scope, "metrics": metrics}]}
        ]
    }  # fmt: skip
    return msgspec.json.encode(body)


def _metric(one: Tally | Spread, began: str, now: str) -> dict[str, Any]:
    unit = one.unit or next((unit for ending, unit in UNITS.items() if one.name.endswith(ending)), "1")
    out: dict[str, Any] = {"name": one.name, "description": one.help, "unit": unit}
    times = {"startTimeUnixNano": began, "timeUnixNano": now}
    if isinstance(one, Spread):
        points = [
            {**times, "attributes": _labels(one, labels), "count": str(sum(counts)), "sum": total,
             "bucketCounts": [str(count) for count in counts], "explicitBounds": list(one.bounds)}
            for labels, counts, total in one.points()
        ]  # fmt: skip
        return {**out, "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points}}
    points = [{**times, "attributes": _labels(one, labels), "asDouble": value} for labels, value in one.points()]
    if one.gauge:
        return {**out, "gauge": {"dataPoints": points}}
    return {**out, "sum": {"aggregationTemporality": CUMULATIVE, "isMonotonic": True, "dataPoints": points}}


def _labels(one: Tally | Spread, values: tuple[str, ...]) -> list[Pair]:
    """An empty label is one that does not apply."""
    return pairs({name: value or None for name, value in zip(one.labels, values, strict=True)})
