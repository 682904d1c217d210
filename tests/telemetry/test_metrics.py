"""Metrics as Prometheus reads them, from records as the pipeline writes them."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from headgate.core.clock import SYSTEM
from headgate.core.pulse import Pulse
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Trace
from headgate.core.usage import Usage
from headgate.telemetry.metrics import Metrics
from headgate.upstream.deployment import Vitals


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, values in the alphabetical order of their labels) → value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def house() -> SimpleNamespace:
    snapshot = SimpleNamespace(entries={"auto": None, "claude": None}, models=list)
    return SimpleNamespace(inflight=3, snapshot=snapshot, pulse=Pulse())


def record(requested: str, status: int, latency: float) -> RequestRecord:
    return RequestRecord(
        id="req_1", trace="tr_1", at=0.0, door="chat", requested=requested, strategy="route", model="claude",
        provider="anthropic", key_id="local", status=status, latency=latency, ttft=0.02,
    )  # fmt: skip


def test_requests_attempts_and_money_are_counted_once_under_bounded_labels():
    metrics = Metrics(version="1", entries=house)
    trace = Trace("tr_1", requested="auto", started=0.0, started_at=0.0)
    metrics.request(record("auto", 200, 0.3), trace)
    metrics.request(record("auto", 503, 7.0), trace)
    metrics.request(record("a name of the client's own", 404, 0.001), trace)
    usage = Usage(input=10, output=4, reasoning=2)
    view = AttemptView(model="claude", deployment="d", provider="anthropic", outcome="ok", usage=usage, cost=2_000_000)
    metrics.attempt(view, trace)
    metrics.event("failover", {})
    found = samples(metrics)
    assert found["headgate_requests_total", ("chat", "auto", "2xx")] == 1
    assert found["headgate_requests_total", ("chat", "auto", "5xx")] == 1
    assert found["headgate_requests_total", ("chat", "other", "4xx")] == 1
    assert found["headgate_upstream_attempts_total", ("", "claude", "ok", "anthropic")] == 1
    assert found["headgate_tokens_total", ("claude", "input")] == 10
    assert found["headgate_tokens_total", ("claude", "reasoning")] == 2
    assert ("headgate_tokens_total", ("claude", "cached_input")) not in found
    assert found["headgate_cost_usd_total", ("claude",)] == 0.002
    assert found["headgate_failovers_total", ("failover",)] == 1
    assert found["headgate_inflight", ()] == 3


def test_deployments_that_clients_have_named_are_one_label():
    deployment = SimpleNamespace(name="anthropic/claude-4", vitals=Vitals(SYSTEM, None))
    known = SimpleNamespace(deployments=[deployment], name="claude")
    made = house()
    made.snapshot.models = lambda: [known]
    metrics = Metrics(version="1", entries=lambda: made)
    names = [f"openai/invented-{number}" for number in range(50)]
    for name in ("anthropic/claude-4", *names):
        metrics.event("health", {"deployment": name, "state": "open"})
        model = "claude" if name == "anthropic/claude-4" else name
        metrics.event("misconfigured", {"model": model, "deployment": name, "error": "auth"})
    found = samples(metrics)
    assert not [key for key in found if any("invented" in label for label in key[1])]
    assert found["headgate_health_changes_total", ("anthropic/claude-4", "open")] == 1
    assert found["headgate_health_changes_total", ("other", "open")] == 50
    assert found["headgate_misconfigured_total", ("anthropic/claude-4", "auth", "claude")] == 1
    assert found["headgate_misconfigured_total", ("other", "auth", "other")] == 50


def test_histograms_are_cumulative_and_bounds_belong_to_their_bucket():
    metrics = Metrics(version="1", entries=house)
    trace = Trace("tr_1", requested="auto", started=0.0, started_at=0.0)
    for latency in (0.005, 0.006, 400.0):
        metrics.request(record("auto", 200, latency), trace)
    found = samples(metrics)
    name = "headgate_request_duration_seconds"
    assert found[f"{name}_bucket", ("chat", "0.005")] == 1
    assert found[f"{name}_bucket", ("chat", "0.01")] == 2
    assert found[f"{name}_bucket", ("chat", "300.0")] == 2
    assert found[f"{name}_bucket", ("chat", "+Inf")] == 3
    assert found[f"{name}_count", ("chat",)] == 3
    assert abs(found[f"{name}_sum", ("chat",)] - 400.011) < 1e-9
