"""Traces as the store keeps them: the decisions and figures of a request; what models said only if asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.records import RequestRecord
from headgate.core.trace import AttemptView, Decision, Trace

LARGEST = 256_000
"""Bytes of one stored trace; what is larger keeps its attempts and choice only."""
CONTENTS = frozenset(
    {"result", "what", "query", "text", "content", "output", "answer", "final_answer", "comment", "reason", "fallback"}
)
"""Names in a strategy's facts that hold words of prompts and answers."""


class Stored(msgspec.Struct, omit_defaults=True):
    chosen: dict[str, Any] | None = None
    alternatives: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    decisions: list[Decision] = []
    attempts: list[AttemptView] = []
    lossy: list[str] = []
    cost_unknown: bool = False
    bodies: Mapping[str, str] | None = None
    """`request` and `answer`, where the store is asked to keep them: redacted already."""


_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(Stored).decode


def pack(trace: Trace, *, contents: bool = False, bodies: Mapping[str, str] | None = None) -> bytes:
    facts = trace.facts
    if not contents and any(isinstance(value, dict) for value in facts.values()):
        facts = _without_contents(facts)
    stored = Stored(
        trace.chosen,
        trace.alternatives,
        facts,
        trace.decisions,
        trace.attempts,
        trace.lossy,
        trace.cost_unknown,
        bodies,
    )
    data = _encode(stored)
    if len(data) > LARGEST:
        stored.alternatives, stored.decisions = [], []
        stored.facts = {"truncated": True}
        data = _encode(stored)
    return data


def unpack(record: RequestRecord) -> Trace:
    """The trace of a stored request; empty but for the row's own facts where none was kept."""
    trace = Trace(record.trace, requested=record.requested, started=0.0, started_at=record.at, request_id=record.id)
    trace.key_id = record.key_id
    trace.strategy = record.strategy
    trace.tags = record.tags
    if record.trace_json is not None:
        stored = _decode(record.trace_json)
        trace.chosen = stored.chosen
        trace.alternatives = stored.alternatives
        trace.facts = stored.facts
        trace.decisions = stored.decisions
        trace.attempts = stored.attempts
        trace.lossy = stored.lossy
        trace.cost_unknown = stored.cost_unknown
    return trace


def bodies_of(record: RequestRecord) -> Mapping[str, str] | None:
    return None if record.trace_json is None else _decode(record.trace_json).bodies


def _without_contents(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_contents(inner) for key, inner in value.items() if key not in CONTENTS}
    if isinstance(value, list | tuple):
        return [_without_contents(inner) for inner in value]
    return value
