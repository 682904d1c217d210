"""Prometheus metrics: bounded labels, base units, counted from records off the request's path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from headgate.core.money import NANO
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Trace

CONTENT_TYPE = CONTENT_TYPE_LATEST
BATCH = 0.25
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1)


class Metrics:
    """Labels hold names of the configuration and closed words only: never a key, a user, a request's own model string."""

    def __init__(self, *, version: str, entries: Callable[[], Any]) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=True)
        self._entries = entries
        self._waiting: list[tuple[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        names = ("route", "door", "status_class")
        self._requests = Counter("headgate_requests", "Requests by entry, door and outcome", names, registry=registry)
        self._duration = Histogram(
            "headgate_request_duration_seconds", "Whole requests", ("door",), registry=registry, buckets=_SECONDS
        )
        self._overhead = Histogram(
            "headgate_overhead_seconds",
            "Our share: without the providers' time",
            ("door",),
            registry=registry,
            buckets=_OVERHEAD,
        )
        self._first = Histogram(
            "headgate_time_to_first_byte_seconds",
            "Until the first content",
            ("door",),
            registry=registry,
            buckets=_SECONDS,
        )
        attempt = ("model", "provider", "outcome", "error_type")
        self._attempts = Counter("headgate_upstream_attempts", "Calls to providers", attempt, registry=registry)
        self._tokens = Counter("headgate_tokens", "Tokens by kind", ("model", "type"), registry=registry)
        self._cost = Counter("headgate_cost_usd", "US$ spent, known prices only", ("model",), registry=registry)
        self._failovers = Counter("headgate_failovers", "Moves to another target", ("kind",), registry=registry)
        self._shed = Counter("headgate_shed", "Requests refused under load", ("reason",), registry=registry)
        self._inflight = Gauge("headgate_inflight", "Requests under way", registry=registry)
        self._breaker = Gauge(
            "headgate_breaker_state", "0 closed, 1 half-open, 2 open", ("model", "deployment"), registry=registry
        )
        Gauge("headgate_build_info", "Version", ("version",), registry=registry).labels(version).set(1)

    def attempt(self, view: AttemptView, trace: Trace) -> None:
        self._later("attempt", view)

    def request(self, record: RequestRecord, trace: Trace) -> None:
        self._later("request", record)

    def event(self, kind: str, facts: dict[str, object]) -> None:
        if kind in ("failover", "fallback", "rescue", "hedge"):
            self._failovers.labels(kind).inc()
        elif kind == "shed":
            self._shed.labels(str(facts.get("reason", "load"))).inc()

    def render(self) -> bytes:
        self._flush()
        house = self._entries()
        self._inflight.set(house.inflight)
        state = {"closed": 0, "half_open": 1, "open": 2}
        for model in house.snapshot.models():
            for deployment in model.deployments:
                self._breaker.labels(model.name, deployment.name).set(state[deployment.vitals.health.view().state])
        return generate_latest(self._registry)

    def _later(self, kind: str, value: Any) -> None:
        self._waiting.append((kind, value))
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(BATCH, self._flush)
            except RuntimeError:
                self._flush()

    def _flush(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for kind, value in waiting:
            if kind == "attempt":
                self._count_attempt(value)
            else:
                self._count_request(value)

    def _count_attempt(self, view: AttemptView) -> None:
        model = self._bounded(view.model)
        self._attempts.labels(model, view.provider, view.outcome, view.error or "").inc()
        if view.usage is not None:
            for kind in ("input", "output", "cached_input", "reasoning"):
                if (count := getattr(view.usage, kind)) > 0:
                    self._tokens.labels(model, kind).inc(count)
        if view.cost:
            self._cost.labels(model).inc(view.cost / NANO)

    def _count_request(self, record: RequestRecord) -> None:
        route = self._bounded(record.requested)
        self._requests.labels(route, record.door, f"{record.status // 100}xx").inc()
        self._duration.labels(record.door).observe(record.latency)
        self._overhead.labels(record.door).observe(record.overhead)
        if record.ttft is not None:
            self._first.labels(record.door).observe(record.ttft)

    def _bounded(self, name: str) -> str:
        """Names that the configuration does not hold are clients' inventions: one label for all of them."""
        return name if name in self._entries().snapshot.entries else "other"
