"""The log as replay reads it: what was asked, what was chosen, with which chances, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.money import per_mtok
from headgate.core.ports import Store
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace
from headgate.core.usage import Usage
from headgate.engine.archive import unpack
from headgate.providers.registry import dialect_of

PAGE = 1000
MOST_SCORES = 1_000_000


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `route`: the entry that routed it, if one did; `action`: what that chose first, whatever answered in the
    end; `propensities`: the chances of what it could have chosen, where chance had a part in it."""

    record: RequestRecord
    task: str | None
    confidence: float
    labels: Mapping[str, float]
    route: str | None
    action: str | None
    propensities: Mapping[str, float]
    needs: frozenset[str]
    input_bound: int
    max_tokens: int | None
    room: int | None
    usage: Usage | None
    """Of the answer that was served."""
    score: float | None
    body: bytes | None = None
    """A recorded chat request with its words, instead of what a log keeps of one."""


async def read_log(store: Store, *, since: float, until: float, limit: int) -> list[Logged]:
    """The newest `limit` requests of that time, oldest first, with the last word on each answer."""
    said = {row.trace: row.score for row in await store.feedback(limit=MOST_SCORES, since=since)}
    found: list[Logged] = []
    before = until
    while len(found) < limit:
        page = await store.requests(limit=min(PAGE, limit - len(found)), before=before)
        rows = [record for record in page if record.at >= since]
        found += [logged(record, said.get(record.trace)) for record in rows]
        if len(rows) < len(page) or len(page) < PAGE:
            break
        before = page[-1].at
    return found[::-1]


def logged(record: RequestRecord, score: float | None) -> Logged:
    trace = unpack(record)
    task, route = trace.facts.get("task") or {}, trace.facts.get("route") or {}
    chosen = next((d.chosen for d in reversed(trace.decisions) if d.kind == "route"), None)
    shares = {row["model"]: row["propensity"] for row in route.get("candidates", ()) if row.get("propensity")}
    asked = route.get("asked") or {}
    usage = _usage(record, trace)
    return Logged(
        record=record,
        task=record.task,
        confidence=task.get("confidence", 0.0),
        labels=task.get("labels", {}),
        route=route.get("entry"),
        action=chosen,
        propensities=shares if chosen in shares else {} if chosen is None else {chosen: 1.0},
        needs=frozenset(asked.get("needs", ())),
        input_bound=asked.get("input_bound", 4 * usage.input // 3 if usage is not None else 0),
        max_tokens=asked.get("max_tokens"),
        room=None if asked.get("room_usd") is None else per_mtok(asked["room_usd"]),
        usage=usage,
        score=score,
    )


def read_recorded(path: Path) -> list[Logged]:
    """Chat bodies (`{"model": ..., "messages": [...]}`), one a line. Raises ValueError with the line of what is wrong."""
    rows: list[Logged] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                peek = dialect_of("openai_chat").peek(line, model=None, stream=None)
            except HeadgateError as error:
                raise ValueError(f"{path}:{number}: {error.message}") from error
            record = RequestRecord(
                id=f"line {number}",
                trace=f"line {number}",
                at=0.0,
                door="chat",
                requested=peek.model,
                strategy="",
                model=None,
                provider=None,
                key_id="local",
            )
            rows.append(msgspec.structs.replace(logged(record, None), body=line.strip()))
    return rows


def _usage(record: RequestRecord, trace: Trace) -> Usage | None:
    served = next((a for a in reversed(trace.attempts) if a.model == record.model and a.usage is not None), None)
    return served.usage if served is not None else record.usage
