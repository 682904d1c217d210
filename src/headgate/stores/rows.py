"""Records as rows and back. The order of the columns is the order of the tables in stores/migrations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.records import AttemptIntent, AttemptOutcome, AuditRecord, KeyRecord, RequestRecord, TeamRecord
from headgate.core.usage import Usage
from headgate.stores.booking import LARGEST, Entry, tags_text

ATTEMPT_COLUMNS = (
    "id", "request_id", "trace", "at", "admitted", "holder", "expires", "model", "provider", "deployment", "upstream",
    "key_id", "user_name", "team", "tags", "role", "reserved", "price_version", "state", "swept", "charged", "closed",
    "outcome", "error", "cost", "input", "output", "cached_input", "cache_write", "reasoning", "audio_input",
    "audio_output", "estimated", "ttft", "latency", "upstream_id", "status",
)  # fmt: skip
CLOSING_COLUMNS = ("model", "deployment", *ATTEMPT_COLUMNS[18:])
"""What changes when an attempt is closed."""
REQUEST_COLUMNS = (
    "trace", "id", "at", "door", "requested", "strategy", "model", "provider", "key_id", "user_name", "team", "tags",
    "task", "stream", "status", "error", "attempts", "input", "output", "cached_input", "cache_write", "reasoning",
    "audio_input", "audio_output", "estimated", "cost", "saved", "ttft", "latency", "overhead", "trace_json",
)  # fmt: skip
DIMENSIONS: Mapping[str, str] = {
    "day": "day",
    "key": "key_id",
    "user": "user_name",
    "team": "team",
    "model": "model",
    "provider": "provider",
    "deployment": "deployment",
    "role": "role",
    "tag": "tag",
    "error": "error",
}
"""What usage can be summed by or limited to, and its column. `tag` stands for each of a row's tags."""
REQUEST_FILTERS: Mapping[str, str] = {
    "key": "key_id",
    "user": "user_name",
    "team": "team",
    "model": "model",
    "provider": "provider",
    "door": "door",
    "requested": "requested",
    "strategy": "strategy",
    "task": "task",
    "error": "error",
    "tag": "tag",
    "id": "id",
    "status": "status",
    "name": "name",
    "failed": "failed",
    "search": "search",
}
"""What lists of requests can be limited to. `name`: asked for or served; `failed`: any value; `search`: a part of model,
name, error, trace or id."""
MIX_DIMENSIONS: Mapping[str, str] = {
    "day": "day",
    "task": "task",
    "model": "model",
    "requested": "requested",
    "strategy": "strategy",
    "key": "key_id",
    "team": "team",
}
"""What requests can be counted by, and its column."""
_NO_USAGE = (None,) * 8


def closing_row(entry: Entry) -> tuple[Any, ...]:
    """CLOSING_COLUMNS."""
    return (entry.intent.model, entry.intent.deployment, *_state_row(entry))


def _state_row(entry: Entry) -> tuple[Any, ...]:
    outcome = entry.outcome
    if outcome is None:
        return ("intent", 0, 0, *(None,) * 16)
    return (
        outcome.state,
        int(entry.swept),
        entry.charged,
        outcome.at,
        outcome.outcome,
        outcome.error,
        None if outcome.cost is None else min(outcome.cost, LARGEST),
        *usage_row(outcome.usage),
        outcome.ttft,
        outcome.latency,
        outcome.upstream_id,
        outcome.status,
    )


def attempt_row(entry: Entry) -> tuple[Any, ...]:
    """ATTEMPT_COLUMNS."""
    intent = entry.intent
    return (
        intent.id,
        intent.request_id,
        intent.trace,
        intent.at,
        intent.admitted or intent.at,
        entry.holder,
        intent.expires,
        intent.model,
        intent.provider,
        intent.deployment,
        intent.upstream,
        intent.key_id,
        intent.user,
        intent.team,
        tags_text(intent.tags),
        intent.role,
        None if intent.reserved is None else min(intent.reserved, LARGEST),
        intent.price_version,
        *_state_row(entry),
    )


def entry_of(row: Sequence[Any]) -> Entry:
    """From ATTEMPT_COLUMNS."""
    intent = AttemptIntent(
        id=row[0],
        request_id=row[1],
        trace=row[2],
        at=row[3],
        admitted=row[4],
        expires=row[6],
        model=row[7],
        provider=row[8],
        deployment=row[9],
        upstream=row[10],
        key_id=row[11],
        user=row[12],
        team=row[13],
        tags=_tags(row[14]),
        role=row[15],
        reserved=row[16],
        price_version=row[17],
    )
    outcome = None
    if row[18] != "intent":
        outcome = AttemptOutcome(
            id=row[0],
            at=row[21],
            state=row[18],
            outcome=row[22],
            error=row[23],
            cost=row[24],
            usage=usage_of(row[25:33]),
            ttft=row[33],
            latency=row[34],
            upstream_id=row[35],
            status=row[36],
        )
    return Entry(intent, row[5], outcome=outcome, charged=row[20], swept=bool(row[19]))


def request_row(record: RequestRecord) -> tuple[Any, ...]:
    """REQUEST_COLUMNS."""
    return (
        record.trace,
        record.id,
        record.at,
        record.door,
        record.requested,
        record.strategy,
        record.model,
        record.provider,
        record.key_id,
        record.user,
        record.team,
        tags_text(record.tags),
        record.task,
        int(record.stream),
        record.status,
        record.error,
        record.attempts,
        *usage_row(record.usage),
        None if record.cost is None else min(record.cost, LARGEST),
        None if record.saved is None else max(min(record.saved, LARGEST), -LARGEST),
        record.ttft,
        record.latency,
        record.overhead,
        record.trace_json,
    )


def request_of(row: Sequence[Any]) -> RequestRecord:
    """From REQUEST_COLUMNS."""
    return RequestRecord(
        trace=row[0],
        id=row[1],
        at=row[2],
        door=row[3],
        requested=row[4],
        strategy=row[5],
        model=row[6],
        provider=row[7],
        key_id=row[8],
        user=row[9],
        team=row[10],
        tags=_tags(row[11]),
        task=row[12],
        stream=bool(row[13]),
        status=row[14],
        error=row[15],
        attempts=row[16],
        usage=usage_of(row[17:25]),
        cost=row[25],
        saved=row[26],
        ttft=row[27],
        latency=row[28],
        overhead=row[29],
        trace_json=row[30],
    )


def usage_row(usage: Usage | None) -> tuple[Any, ...]:
    if usage is None:
        return _NO_USAGE
    counts = (
        usage.input,
        usage.output,
        usage.cached_input,
        usage.cache_write,
        usage.reasoning,
        usage.audio_input,
        usage.audio_output,
    )
    if max(counts) > LARGEST:  # a provider's word, and no database's integer
        counts = tuple(min(count, LARGEST) for count in counts)
    return (*counts, int(usage.estimated))


def usage_of(row: Sequence[Any]) -> Usage | None:
    if row[0] is None:
        return None
    return Usage(
        input=row[0],
        output=row[1],
        cached_input=row[2],
        cache_write=row[3],
        reasoning=row[4],
        audio_input=row[5],
        audio_output=row[6],
        estimated=bool(row[7]),
    )


def _tags(text: str) -> tuple[str, ...]:
    return () if text == "[]" else msgspec.json.decode(text, type=tuple[str, ...])


def check_names(names: Sequence[str], allowed: Mapping[str, str], what: str) -> None:
    """Raises ValueError: names of columns come from closed tables, never from a caller."""
    for name in names:
        if name not in allowed:
            raise ValueError(f"there is no {what} {name[:60]!r}; there are {', '.join(allowed)}")


def matches(record: RequestRecord, where: Mapping[str, str]) -> bool:
    """REQUEST_FILTERS, on a row in memory."""
    for name, value in where.items():
        if name == "name":
            fits = value in (record.requested, record.model)
        elif name == "failed":
            fits = record.status >= 400
        elif name == "tag":
            fits = value in record.tags
        elif name == "search":
            fields = (record.requested, record.model, record.error, record.trace, record.id)
            fits = any(value.lower() in (field or "").lower() for field in fields)
        else:
            fits = str(getattr(record, "key_id" if name == "key" else name)) == value
        if not fits:
            return False
    return True


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)


def teams_of(bodies: Iterable[str | bytes]) -> list[TeamRecord]:
    """A row that cannot be read defines no team: keys that name it are refused, and told of, as those of any team that is
    missing."""
    found: list[TeamRecord] = []
    for body in bodies:
        with contextlib.suppress(*_UNREADABLE):
            found.append(msgspec.json.decode(body, type=TeamRecord))
    return found


def audit_of(at: float, body: str | bytes) -> AuditRecord:
    """A row that cannot be read is told as such, at its time, among the others."""
    with contextlib.suppress(*_UNREADABLE):
        return msgspec.json.decode(body, type=AuditRecord)
    return AuditRecord(at=at, actor="", action="(damaged)", target="", detail="the row cannot be read")


def key_of(id: str, body: str | bytes) -> KeyRecord:
    """One whose row cannot be read, or speaks of another key, is a key all the same, with a hash that no secret has:
    refused, shown as damaged, and not in the way of the others."""
    with contextlib.suppress(*_UNREADABLE):
        found = msgspec.json.decode(body, type=KeyRecord)
        if found.id == id:
            return found
    return KeyRecord(id=id, hash=f"unreadable: {id}", hint="", name="(cannot be read)", created=0.0)
