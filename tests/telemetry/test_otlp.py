"""Spans and metrics at a collector on a real port, decoded by OpenTelemetry's own messages; and fault 41: a collector that
hangs, fails or is gone keeps no request waiting and makes nothing grow."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from headgate.config.errors import ConfigError
from headgate.config.load import load_text
from headgate.config.model import Otlp
from headgate.core.money import NANO
from headgate.server.exporting import Export
from headgate.simulator import script as s
from headgate.simulator.scripted import FakeUpstream
from headgate.telemetry import otlp
from headgate.telemetry.metrics import Metrics
from support.gateway import ENV, Loop, RunningGateway
from support.served import ServedGateway
from support.virtual import MESSAGES, answer

FINE = s.reply_json(200, {})
CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
models:
  one: {provider: openai, upstream: one, price: {input: 1, output: 2}}
  two: {provider: openai, upstream: two, price: {input: 1, output: 2}}
  chain: {fallback: [one, two]}
  panel: {ensemble: {members: [one, two]}}
"""


def as_sent(body: bytes) -> Any:
    """OTLP writes ids in hex where protobuf's JSON has base64."""

    def fixed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: _hex(v) if k in ("traceId", "spanId", "parentSpanId") else fixed(v) for k, v in value.items()}
        return [fixed(one) for one in value] if isinstance(value, list) else value

    return json.dumps(fixed(json.loads(body)))


def _hex(text: str) -> str:
    return base64.b64encode(bytes.fromhex(text)).decode()


def value_of(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def facts(pairs: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in pairs}


class Told:
    """A collector, a gateway that tells it, and two providers written by the test."""

    def __init__(self, *answers: Any, **section: Any) -> None:
        self.collector = FakeUpstream()
        self.collector.on("*", *(answers or (FINE,)))
        self.provider = FakeUpstream()
        self._section = section

    async def __aenter__(self) -> Told:
        await self.collector.start()
        url = await self.provider.start()
        self.gateway = RunningGateway(CONFIG, {"openai": f"{url}/v1"}, env=ENV)
        await self.gateway.start()
        house = self.gateway.house
        metrics = Metrics(version="1", entries=lambda: house)
        house.on_attempt.append(metrics.attempt)
        house.on_request.append(metrics.request)
        section = Otlp(endpoint=f"{self.collector.base_url}/otel/", **self._section)
        self.export = Export(section, house, metrics, worker=3)
        self.counts = self.export.exporter.counts
        house.on_request.append(self.export.exporter.request)
        self._running = asyncio.ensure_future(self.export.exporter.run())
        self.client = openai.AsyncOpenAI(base_url=f"{self.gateway.url}/v1", api_key="any", max_retries=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await self.client.close()
        await self.export.transport.aclose()
        await self.gateway.stop()
        await self.provider.aclose()
        await self.collector.aclose()

    async def ask(self, model: str, **headers: str) -> Any:
        return await self.client.chat.completions.create(model=model, messages=MESSAGES, extra_headers=headers)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0.02)

    async def spans(self) -> list[Any]:
        """Of one request, the collector's own messages: the request's first."""
        await self.until(lambda: self.counts["sent"] > 0)
        [call] = [call for call in self.collector.calls if call.path.endswith("/v1/traces")]
        assert (call.method, call.path) == ("POST", "/otel/v1/traces")
        assert call.headers["content-type"] == "application/json"
        message = json_format.Parse(as_sent(call.body), ExportTraceServiceRequest())
        [resource] = message.resource_spans
        self.resource = facts(resource.resource.attributes)
        return list(resource.scope_spans[0].spans)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(otlp, "LINGER", 0.01)
    monkeypatch.setattr(otlp, "PAUSE", 0.01)


async def test_a_request_is_a_span_and_each_attempt_one_below_it():
    async with Told(headers={"Authorization": "Bearer t"}, attributes={"deployment.environment.name": "test"}) as it:
        it.provider.on("one", s.reply_json(503, {"error": {"message": "down"}}))
        it.provider.on("two", answer())
        await it.ask("chain")
        root, *attempts = await it.spans()
        trace, record = it.gateway.house.recent(1)[0]
        assert it.resource["service.name"] == "headgate"
        assert it.resource["deployment.environment.name"] == "test"
        assert it.resource["headgate.worker"] == "3"
        assert it.collector.calls[0].headers["authorization"] == "Bearer t"
        assert (root.name, root.kind, root.parent_span_id, root.status.code) == ("chat chain", 2, b"", 0)
        assert root.end_time_unix_nano - root.start_time_unix_nano == pytest.approx(record.latency * 1e9, abs=5000)
        assert root.start_time_unix_nano == pytest.approx(record.at * 1e9, abs=5000)
        found = facts(root.attributes)
        assert found["gen_ai.operation.name"] == "chat"
        assert found["gen_ai.request.model"] == "chain"
        assert found["http.response.status_code"] == 200
        assert found["headgate.trace"] == trace.id
        assert (found["headgate.strategy"], found["headgate.model"]) == ("fallback", "two")
        assert found["headgate.cost_usd"] == pytest.approx(record.cost / NANO)
        assert {event.name for event in root.events} >= {"headgate.fallback"}
        assert [span.name for span in attempts] == [f"chat {view.model}" for view in trace.attempts]
        for span, view in zip(attempts, trace.attempts, strict=True):
            assert (span.kind, span.trace_id, span.parent_span_id) == (3, root.trace_id, root.span_id)
            assert span.end_time_unix_nano >= span.start_time_unix_nano >= root.start_time_unix_nano
            said = facts(span.attributes)
            assert said["gen_ai.provider.name"] == "openai"
            assert said["headgate.outcome"] == view.outcome
            assert said.get("error.type") == view.error
            assert (span.status.code == 2) == (view.outcome == "failed")
        assert facts(attempts[-1].attributes)["gen_ai.usage.input_tokens"] == 10
        assert facts(attempts[-1].attributes)["gen_ai.usage.output_tokens"] == 5
        assert facts(attempts[0].attributes)["http.response.status_code"] == 503
        assert len({span.span_id for span in (root, *attempts)}) == len(attempts) + 1


async def test_a_failed_request_and_the_members_of_a_panel():
    async with Told() as it:
        it.provider.on("one", answer("One."))
        it.provider.on("two", s.reply_json(500, {"error": {"message": "down"}}))
        await it.ask("panel")
        _, *attempts = await it.spans()
        assert {facts(span.attributes)["headgate.role"] for span in attempts} == {"member"}
    async with Told() as it:
        it.provider.on("*", s.reply_json(500, {"error": {"message": "down"}}))
        with pytest.raises(openai.InternalServerError):
            await it.ask("chain")
        root, *_ = await it.spans()
        assert (root.status.code, root.status.message) == (2, "all_models_unavailable")
        assert facts(root.attributes)["error.type"] == "all_models_unavailable"


PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        (f"00-{PARENT}-00f067aa0ba902b7-01", True),
        (f"01-{PARENT}-00f067aa0ba902b7-01-what.comes.later", True),
        (f"ff-{PARENT}-00f067aa0ba902b7-01", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        (f"00-{PARENT.upper()}-00f067aa0ba902b7-01", False),
        ("nonsense", False),
        ("", False),
    ],
)
async def test_a_callers_trace_goes_on_and_a_malformed_one_is_none(said: str, follows: bool):
    async with Told() as it:
        it.provider.on("one", answer())
        await it.ask("one", traceparent=said)
        root, attempt = await it.spans()
        assert (root.trace_id.hex() == PARENT) == follows
        assert root.parent_span_id.hex() == ("00f067aa0ba902b7" if follows else "")
        assert attempt.trace_id == root.trace_id


async def test_a_trace_that_its_caller_does_not_sample_is_not_told():
    async with Told() as it:
        it.provider.on("one", answer())
        await it.ask("one", traceparent=f"00-{PARENT}-00f067aa0ba902b7-00")
        await it.until(lambda: it.counts["sent"] == 1)
        assert not it.collector.calls


async def test_metrics_are_those_of_the_scrape_and_of_the_conventions():
    async with Told(traces=False, every=1.0) as it:
        it.provider.on("one", answer())
        for _ in range(3):
            await it.ask("one")
        await it.until(lambda: len(it.collector.calls) >= 2)
        call = it.collector.calls[-1]
        assert call.path == "/otel/v1/metrics"
        message = json_format.Parse(as_sent(call.body), ExportMetricsServiceRequest())
        found = {metric.name: metric for metric in message.resource_metrics[0].scope_metrics[0].metrics}
        assert not [call for call in it.collector.calls if call.path.endswith("traces")]
        requests = found["headgate_requests"].sum
        assert (requests.is_monotonic, requests.aggregation_temporality) == (True, 2)
        [point] = requests.data_points
        assert (facts(point.attributes)["route"], point.as_double) == ("one", 3)
        assert point.start_time_unix_nano < point.time_unix_nano
        assert found["headgate_inflight"].WhichOneof("data") == "gauge"
        [taken] = found["gen_ai.client.operation.duration"].histogram.data_points
        assert (taken.count, sum(taken.bucket_counts)) == (3, 3)
        assert len(taken.bucket_counts) == len(taken.explicit_bounds) + 1 == 15
        assert facts(taken.attributes) == {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "one",
        }  # fmt: skip
        tokens = {
            facts(point.attributes)["gen_ai.token.type"]: point.sum
            for point in found["gen_ai.client.token.usage"].histogram.data_points
        }
        assert tokens == {"input": 30.0, "output": 15.0}


HANG = [s.Hang()]


@pytest.mark.parametrize("broken", [HANG, [s.Reset()], s.reply_json(503, {}), s.reply_json(400, {})])
async def test_41_a_collector_that_hangs_or_fails_costs_spans_and_no_request(broken: Any, monkeypatch):
    monkeypatch.setattr(otlp, "QUEUE", 20)
    monkeypatch.setattr(otlp, "BATCH", 5)
    monkeypatch.setattr(otlp, "SECONDS", 3600.0)
    async with Told(broken) as it:
        it.provider.on("one", answer())
        for _ in range(60):
            await it.ask("one")  # each is answered while nobody takes what is told of it
        assert it.gateway.house.inflight == 0
        assert len(it.export.exporter._queue) <= 20
        if broken is HANG:
            assert it.counts["dropped"] >= 60 - 20 - 5
            assert len(it.collector.calls) == 1
        else:
            await it.until(lambda: it.counts["failed"] + it.counts["dropped"] == 60)
            batches = -(-it.counts["failed"] // 5) + 12
            assert len(it.collector.calls) <= otlp.TRIES * batches
        assert it.counts["sent"] == 0


async def test_41_what_fails_for_a_while_is_told_afterwards():
    async with Told(s.reply_json(503, {}), s.reply_json(429, {}, (("retry-after", "0"),)), FINE) as it:
        it.provider.on("one", answer())
        await it.ask("one")
        await it.until(lambda: it.counts["sent"] == 1)
        assert len(it.collector.calls) == 3
        assert it.collector.calls[0].body == it.collector.calls[2].body


async def test_spans_that_the_collector_rejects_are_counted():
    partial = s.reply_json(200, {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}})
    async with Told(partial) as it:
        told: list[str] = []
        it.export.exporter.on_failure = told.append
        it.provider.on("one", answer())
        await it.ask("one")
        await it.until(lambda: it.counts["rejected"] == 2)
        assert told == ["it rejected 2 spans: too old"]


async def test_the_end_of_the_process_tells_what_is_left_and_does_not_wait_for_long(monkeypatch):
    monkeypatch.setattr(otlp, "LINGER", 3600.0)
    async with Told(every=3600.0) as it:
        it.provider.on("one", answer())
        await it.ask("one")
        it._running.cancel()
        await it.export.exporter.aclose()
        assert it.counts["sent"] == 1
        assert [call.path for call in it.collector.calls] == ["/otel/v1/traces", "/otel/v1/metrics"]
    monkeypatch.setattr(otlp, "LAST", 0.05)
    async with Told(HANG) as it:
        it.provider.on("one", answer())
        await it.ask("one")
        it._running.cancel()
        await it.export.exporter.aclose()
        assert it.counts["failed"] + it.counts["sent"] <= 1


async def test_a_name_that_utf8_cannot_say_stops_nothing():
    async with Told() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(it.gateway.url.rpartition(":")[2]))
        body = b'{"model": "\\ud800", "messages": [{"role": "user", "content": "hi"}]}'
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        writer.close()
        it.provider.on("one", answer())
        await it.ask("one")
        await it.until(lambda: it.counts["sent"] >= 1)
        assert it.counts["failed"] == 0


@pytest.mark.parametrize(
    "endpoint", ["", "collector:4318", "ftp://collector/", "http:///otel", "http://[", "http://c?x=1"]
)
def test_an_endpoint_that_is_none_is_an_error_of_the_file(endpoint: str):
    with pytest.raises(ConfigError, match=r"telemetry\.otlp\.endpoint"):
        load_text(f'telemetry: {{otlp: {{endpoint: "{endpoint}"}}}}', "x.yaml", ENV)


def test_one_with_credentials_is_an_error_at_the_start():
    """They would stand in error messages: `headers` is for them."""
    section = Otlp(endpoint="http://me:secret@collector:4318")
    with pytest.raises(ConfigError, match=r"telemetry\.otlp\.endpoint"):
        Export(section, None, Metrics(version="1", entries=lambda: None), worker=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{"x-key": "a\nb"}, {"host": "elsewhere"}, {"not a name": "x"}])
def test_headers_that_cannot_be_sent_are_an_error_at_the_start(headers: dict[str, str]):
    section = Otlp.model_validate({"endpoint": "http://collector:4318", "headers": headers})
    with pytest.raises(ConfigError, match=r"telemetry\.otlp\.headers"):
        Export(section, None, Metrics(version="1", entries=lambda: None), worker=None)  # type: ignore[arg-type]


async def test_a_defect_in_telling_metrics_is_told_and_ends_nothing(monkeypatch):
    def broken() -> Any:
        raise KeyError("a defect of ours")

    async with Told(every=1) as it:
        told: list[str] = []
        it.export.exporter.on_failure = told.append
        with monkeypatch.context() as patch:
            patch.setattr(it.export.exporter, "_figures", broken)
            await it.until(lambda: len(told) > 1)
        assert "a defect of ours" in told[0]
        assert not it._running.done()
        await it.until(lambda: any(call.path == "/otel/v1/metrics" for call in it.collector.calls))


def test_a_gateway_tells_its_collector_as_configured(tmp_path):
    """The whole process, from the file to what arrives."""
    loop = Loop()
    collector = FakeUpstream()
    collector.on("*", FINE)
    loop.run(collector.start())
    try:
        more = f"telemetry: {{otlp: {{endpoint: '{collector.base_url}', every: 1s}}}}\n"
        served = ServedGateway(tmp_path, more=more)
        assert served.chat(None)[0] == 200
        served.close()  # what is left is told
        paths = {call.path for call in collector.calls}
        assert paths == {"/v1/traces", "/v1/metrics"}
    finally:
        loop.run(collector.aclose())
        loop.close()
