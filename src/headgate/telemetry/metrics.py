"""Prometheus metrics: bounded labels, base units, counted from records off the request's path."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from headgate.core.money import NANO
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.telemetry.tally import Spread, Tally

CONTENT_TYPE = CONTENT_TYPE_LATEST
BATCH = 0.25
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_CLASSES = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")
_OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1)
_kind_of_attempt = attrgetter("model", "provider", "outcome", "error")
_kind_of_request = attrgetter("requested", "door", "status")
_model_of, _usage_of, _cost_of = attrgetter("model"), attrgetter("usage"), attrgetter("cost")
_door_of, _latency_of, _overhead_of = attrgetter("door"), attrgetter("latency"), attrgetter("overhead")
_ttft_of = attrgetter("ttft")
_TOKENS = tuple((kind, attrgetter(kind)) for kind in ("input", "output", "cached_input", "reasoning"))


class Metrics:
    """Labels hold names of the configuration and closed words only: never a key, a user, a request's own model string."""

    def __init__(self, *, version: str, entries: Callable[[], Any]) -> None:
        self._entries = entries
        self._attempted: list[AttemptView] = []
        self._requested: list[RequestRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        door = ("door",)
        self._requests = Tally(
            "headgate_requests", "Requests by entry, door and outcome", ("route", "door", "status_class")
        )
        self._duration = Spread("headgate_request_duration_seconds", "Whole requests", door, _SECONDS)
        self._overhead = Spread("headgate_overhead_seconds", "Our share: without the providers' time", door, _OVERHEAD)
        self._first = Spread("headgate_time_to_first_byte_seconds", "Until the first content", door, _SECONDS)
        self._attempts = Tally(
            "headgate_upstream_attempts", "Calls to providers", ("model", "provider", "outcome", "error_type")
        )
        self._tokens = Tally("headgate_tokens", "Tokens by kind", ("model", "type"))
        self._cost = Tally("headgate_cost_usd", "US$ spent, known prices only", ("model",))
        self._failovers = Tally(
            "headgate_failovers", "Moves to another target, and where there was none (gave_up)", ("kind",)
        )
        self._health = Tally(
            "headgate_health_changes",
            "Deployments that began to cool (open) or were well again",
            ("deployment", "state"),
        )
        self._misconfigured = Tally(
            "headgate_misconfigured", "Faults that an operator has to mend", ("model", "deployment", "error_type")
        )
        self._shed = Tally("headgate_shed", "Requests refused under load", ("reason",))
        self._inflight = Tally("headgate_inflight", "Requests under way", gauge=True)
        self._breaker = Tally(
            "headgate_breaker_state", "0 closed, 1 half-open, 2 open", ("model", "deployment"), gauge=True
        )
        self._recovers = Tally(
            "headgate_breaker_recovers_seconds",
            "Until a cooling deployment may be asked again, by what it failed with",
            ("model", "deployment", "error_type"),
            gauge=True,
        )
        self._concurrency = Tally(
            "headgate_concurrency",
            "Calls under way, calls that wait for a slot, and the limit found for a deployment",
            ("model", "deployment", "what"),
            gauge=True,
        )
        self._lag = Tally(
            "headgate_loop_lag_seconds", "How late the loop was at worst since the last scrape", gauge=True
        )
        build = Tally("headgate_build_info", "Version", ("version",), gauge=True)
        build.set((version,), 1)
        self._ledger = Tally(
            "headgate_ledger", "The ledger behind the requests: bytes and counts", ("what",), gauge=True
        )
        self.ledger: Callable[[], dict[str, float]] | None = None
        """Its figures, where there is a ledger that outlives the process."""
        self._alerts = Tally(
            "headgate_alerts", "Alerts for the webhook: sent, failed, dropped", ("outcome",), gauge=True
        )
        self.alerts: Callable[[], Mapping[str, int]] | None = None
        self._otlp = Tally(
            "headgate_otlp",
            "Requests told to the OpenTelemetry collector or not, and spans that it rejected",
            ("outcome",),
            gauge=True,
        )
        self.otlp: Callable[[], Mapping[str, int]] | None = None
        self._registry = CollectorRegistry()
        self._all = (
            self._requests, self._duration, self._overhead, self._first, self._attempts, self._tokens, self._cost,
            self._failovers, self._health, self._misconfigured, self._shed, self._inflight, self._breaker, self._ledger,
            self._recovers, self._concurrency, self._lag, self._alerts, self._otlp, build,
        )  # fmt: skip
        for metric in self._all:
            self._registry.register(metric)

    def attempt(self, view: AttemptView, trace: Trace) -> None:
        self._attempted.append(view)
        if self._timer is None:
            self._later()

    def request(self, record: RequestRecord, trace: Trace) -> None:
        self._requested.append(record)
        if self._timer is None:
            self._later()

    def event(self, kind: str, facts: dict[str, object]) -> None:
        if kind in ("failover", "fallback", "rescue", "stand_in", "hedge", "gave_up"):
            self._failovers.add((kind,))
        elif kind == "health":
            self._health.add((self._known(str(facts["deployment"])), str(facts["state"])))
        elif kind == "misconfigured":
            model, deployment = self._bounded(str(facts["model"])), self._known(str(facts["deployment"]))
            self._misconfigured.add((model, deployment, str(facts["error"])))
        elif kind == "shed":
            self._shed.add((str(facts.get("reason", "load")),))

    def render(self) -> bytes:
        """The text format of Prometheus."""
        self.figures()
        return generate_latest(self._registry)

    def figures(self) -> Iterable[Tally | Spread]:
        """All of them, as they are now."""
        self._flush()
        house = self._entries()
        self._inflight.set((), house.inflight)
        for what, value in self.ledger().items() if self.ledger is not None else ():
            self._ledger.set((what,), value)
        for outcome, count in self.alerts().items() if self.alerts is not None else ():
            self._alerts.set((outcome,), count)
        for outcome, count in self.otlp().items() if self.otlp is not None else ():
            self._otlp.set((outcome,), count)
        self._lag.set((), house.pulse.take_worst())
        self._recovers.clear()
        for model in house.snapshot.models():
            for deployment in model.deployments:
                self._show(model.name, deployment.name, deployment.vitals)
        return self._all

    def _show(self, model: str, deployment: str, vitals: Any) -> None:
        health, gate = vitals.health.view(), vitals.gate
        self._breaker.set((model, deployment), {"closed": 0, "half_open": 1, "open": 2}[health.state])
        if health.recovers_in is not None:
            self._recovers.set((model, deployment, health.error or ""), health.recovers_in)
        for what, value in (("busy", gate.busy), ("waiting", gate.waiting), ("limit", gate.limit)):
            self._concurrency.set((model, deployment, what), value)

    def _later(self) -> None:
        try:
            self._timer = asyncio.get_running_loop().call_later(BATCH, self._flush)
        except RuntimeError:
            self._flush()

    def _flush(self) -> None:
        """Counts all that waits at once: no step of ours for each of them but where it must be."""
        self._timer = None
        views, self._attempted = self._attempted, []
        records, self._requested = self._requested, []
        for (model, provider, outcome, error), times in Counter(map(_kind_of_attempt, views)).items():
            self._attempts.add((self._bounded(model), provider, outcome, error or ""), times)
        for name, served in _grouped(views, _model_of).items():
            self._count_use(self._bounded(name), served)
        for (name, door, status), times in Counter(map(_kind_of_request, records)).items():
            self._requests.add((self._bounded(name), door, _CLASSES[status // 100]), times)
        for door, asked in _grouped(records, _door_of).items():
            self._duration.observe_all((door,), [*map(_latency_of, asked)])
            self._overhead.observe_all((door,), [*map(_overhead_of, asked)])
            self._first.observe_all((door,), [ttft for ttft in map(_ttft_of, asked) if ttft is not None])

    def _count_use(self, model: str, views: Sequence[AttemptView]) -> None:
        """Tokens and money of one model's attempts."""
        usages = [*filter(None, map(_usage_of, views))]
        for kind, count_of in _TOKENS:
            if (count := sum(map(count_of, usages))) > 0:
                self._tokens.add((model, kind), count)
        if cost := sum(filter(None, map(_cost_of, views))):
            self._cost.add((model,), cost / NANO)

    def _bounded(self, name: str) -> str:
        """Names that the configuration does not hold are clients' inventions: one label for all of them."""
        return name if name in self._entries().snapshot.entries else "other"

    def _known(self, deployment: str) -> str:
        """The same of deployments, which direct addresses make."""
        models = self._entries().snapshot.models()
        return deployment if any(one.name == deployment for model in models for one in model.deployments) else "other"


T = TypeVar("T")


def _grouped(items: Sequence[T], key: Callable[[T], str]) -> dict[str, Sequence[T]]:
    """By what nearly all of a batch have in common."""
    names = set(map(key, items))
    if len(names) < 2:
        return dict.fromkeys(names, items)
    return {name: [item for item in items if key(item) == name] for name in names}
