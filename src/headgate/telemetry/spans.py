"""A request and its attempts as spans of OTLP's JSON form: one span for the request, one below it per attempt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from headgate.core.money import NANO
from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Decision, Trace
from headgate.core.usage import Usage
from headgate.telemetry import semconv

SERVER, CLIENT = 2, 3
"""Kinds of spans, as OTLP numbers them."""
ERROR = 2
MOST_EVENTS = 64
LONGEST = 500
"""Characters of one attribute's text."""
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
Pair = dict[str, Any]


class Done(msgspec.Struct, frozen=True):
    """What is kept of a request until it is told: no words of it. Seconds; `began` is Unix time; cost in nano-US$."""

    trace: str
    parent: str
    began: float
    latency: float
    overhead: float
    door: str
    requested: str
    strategy: str
    model: str | None
    provider: str | None
    key_id: str
    task: str | None
    stream: bool
    status: int
    error: str | None
    usage: Usage | None
    cost: int | None
    attempts: Sequence[AttemptView]
    decisions: Sequence[Decision]


def done(record: RequestRecord, trace: Trace) -> Done:
    return Done(
        record.trace, trace.parent, record.at, record.latency, record.overhead, record.door, record.requested,
        record.strategy, record.model, record.provider, record.key_id, record.task, record.stream, record.status,
        record.error, record.usage, record.cost, trace.attempts, trace.decisions,
    )  # fmt: skip


def spans(one: Done) -> list[dict[str, Any]]:
    """Empty where the caller's own trace is not sampled."""
    trace_id, parent, sampled = _context(one)
    if not sampled:
        return []
    root_id = _id(one.trace, 8)
    root = _span(trace_id, root_id, parent, SERVER, f"{semconv.operation(one.door)} {one.requested}", one.began)
    root |= {
        "endTimeUnixNano": _nanos(one.began + one.latency),
        "attributes": pairs(_of_request(one)),
        "events": [_event(decision, one.began) for decision in one.decisions[:MOST_EVENTS]],
    }
    if one.error is not None:
        root["status"] = {"code": ERROR, "message": one.error}
    return [root, *(_attempt(one, view, trace_id, root_id) for view in one.attempts)]


def _context(one: Done) -> tuple[str, str, bool]:
    """(trace id, parent's span id or "", sampled). A `traceparent` that is none is as good as no word."""
    found = _PARENT.fullmatch(one.parent)
    if found is None or not int(found[1], 16) or not int(found[2], 16):
        return _id(one.trace, 16), "", True
    return found[1], found[2], bool(int(found[3], 16) & 1)


def _of_request(one: Done) -> dict[str, Any]:
    out: dict[str, Any] = {
        semconv.OPERATION: semconv.operation(one.door),
        semconv.REQUEST_MODEL: one.requested,
        semconv.STATUS: one.status,
        "headgate.trace": one.trace,
        "headgate.door": one.door,
        "headgate.strategy": one.strategy,
        "headgate.stream": one.stream,
        "headgate.attempts": len(one.attempts),
        "headgate.overhead": round(one.overhead, 6),
        "headgate.model": one.model,
        "headgate.provider": one.provider,
        "headgate.key": one.key_id or None,
        "headgate.task": one.task,
        semconv.ERROR: one.error,
    }
    if one.cost is not None:
        out["headgate.cost_usd"] = one.cost / NANO
    if one.usage is not None:  # not gen_ai.usage: the attempts have that, and a backend would add the two up
        out |= {"headgate.usage.input_tokens": one.usage.input, "headgate.usage.output_tokens": one.usage.output}
    return out


def _attempt(one: Done, view: AttemptView, trace_id: str, parent: str) -> dict[str, Any]:
    began = one.began + view.at_ms / 1000
    name = f"{semconv.operation(one.door)} {view.model}"
    out = _span(trace_id, _id(view.id or f"{one.trace}/{view.at_ms}/{view.deployment}", 8), parent, CLIENT, name, began)
    out["endTimeUnixNano"] = _nanos(began + (view.latency_ms or 0.0) / 1000)
    facts: dict[str, Any] = {
        semconv.OPERATION: semconv.operation(one.door),
        semconv.PROVIDER: semconv.provider(view.provider),
        semconv.REQUEST_MODEL: view.model,
        semconv.STATUS: view.status,
        semconv.ERROR: view.error,
        "headgate.deployment": view.deployment,
        "headgate.outcome": view.outcome,
        "headgate.role": view.role,
        "headgate.attempt": view.id or None,
    }
    if view.ttft_ms is not None:
        facts[semconv.FIRST_CHUNK] = view.ttft_ms / 1000
    if view.cost is not None:
        facts["headgate.cost_usd"] = view.cost / NANO
    if (usage := view.usage) is not None:
        facts |= {semconv.INPUT_TOKENS: usage.input, semconv.OUTPUT_TOKENS: usage.output}
        if usage.cached_input:
            facts[semconv.CACHE_READ] = usage.cached_input
        if usage.cache_write:
            facts[semconv.CACHE_CREATION] = usage.cache_write
    out["attributes"] = pairs(facts)
    if view.outcome == "failed":
        out["status"] = {"code": ERROR, "message": view.error or view.outcome}
    return out


def _span(trace_id: str, id: str, parent: str, kind: int, name: str, began: float) -> dict[str, Any]:
    out = {"traceId": trace_id, "spanId": id, "kind": kind, "name": _text(name), "startTimeUnixNano": _nanos(began)}
    return {**out, "parentSpanId": parent} if parent else out


def _event(decision: Decision, began: float) -> dict[str, Any]:
    facts = {
        "headgate.chosen": None if decision.chosen is None else str(decision.chosen),
        "headgate.over": ", ".join(map(str, decision.over)) or None,
        "headgate.because": decision.because,
    }
    at = _nanos(began + decision.at)
    return {"timeUnixNano": at, "name": f"headgate.{decision.kind}", "attributes": pairs(facts)}


def pairs(facts: dict[str, Any]) -> list[Pair]:
    """Attributes as OTLP writes them; what is None is left out."""
    return [{"key": key, "value": _value(value)} for key, value in facts.items() if value is not None]


def _value(value: Any) -> Pair:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}  # 64 bits are a string in protobuf's JSON
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": _text(str(value))}


def _text(text: str) -> str:
    """Cut, and without halves of surrogate pairs, which a client may have escaped and UTF-8 cannot say."""
    return text[:LONGEST].encode("utf-8", "replace").decode()


def _id(text: str, size: int) -> str:
    """The same for the same request or attempt, in whatever process it is asked."""
    return blake2b(text.encode(), digest_size=size).hexdigest()


def _nanos(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)


def encoded(one: Done) -> list[msgspec.Raw]:
    return [msgspec.Raw(msgspec.json.encode(span)) for span in spans(one)]


def packed(resource: list[Pair], scope: Pair, of: list[msgspec.Raw]) -> bytes:
    """Body of a request to `/v1/traces`."""
    body = {
        "resourceSpans": [
            {"resource": {"attributes": resource}, "schemaUrl": semconv.SCHEMA,
             "scopeSpans": [{"scope": scope, "spans": of}]}
        ]
    }  # fmt: skip
    return msgspec.json.encode(body)
