"""Prompts of the log for people to label, where the store keeps bodies: what `headgate train --labels` is fitted to.

Nothing in the log says which task was the right one (feedback says what an answer was worth), so the label is left open,
and what the classifier said is a guess beside it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.ports import Store
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.engine.archive import bodies_of, unpack
from headgate.providers.registry import dialect_of

PAGE = 1000
DIALECTS = {
    "chat": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
    "gemini": "gemini",
}
"""By door. Requests of the house's own (judges, shadows) have others."""


class Prompt(msgspec.Struct, frozen=True):
    """The last turn of a routed request, redacted as the store keeps it. `source`: the team, else the key."""

    prompt: str
    label: None
    source: str
    guess: str
    confidence: float
    trace: str


class Collected(msgspec.Struct, frozen=True):
    """`prompts`: the least sure first, none twice. `looked_at`: routed requests of that time; `kept`: those of them with a
    body; `unread`: of those, what was cut or is none of a conversation."""

    prompts: list[Prompt]
    looked_at: int
    kept: int
    unread: int


async def collect(store: Store, *, since: float, until: float, looked_at: int, most: int) -> Collected:
    """From the newest `looked_at` requests of that time, at most `most` prompts."""
    found: dict[bytes, Prompt] = {}
    looked = kept = unread = 0
    async for record in _newest(store, since, until, looked_at):
        if record.task is None or record.door not in DIALECTS:
            continue
        looked += 1
        body = (bodies_of(record) or {}).get("request")
        if body is None:
            continue
        kept += 1
        if (last := _last_turn(record, body)) is None:
            unread += 1
            continue
        confidence = (unpack(record).facts.get("task") or {}).get("confidence", 0.0)
        source = record.team or record.key_id
        prompt = Prompt(last, None, source, record.task, confidence, record.trace)
        found.setdefault(hashlib.blake2b(last.encode("utf-8", "replace"), digest_size=16).digest(), prompt)
    prompts = sorted(found.values(), key=lambda one: (one.guess != "unknown", one.confidence))
    return Collected(prompts[:most], looked, kept, unread)


async def _newest(store: Store, since: float, until: float, most: int) -> AsyncIterator[RequestRecord]:
    before, seen = until, 0
    while seen < most:
        page = await store.requests(limit=min(PAGE, most - seen), before=before)
        for record in page:
            if record.at < since:
                return
            seen += 1
            yield record
        if len(page) < PAGE:
            return
        before = page[-1].at


def _last_turn(record: RequestRecord, body: str) -> str | None:
    dialect, data = dialect_of(DIALECTS[record.door]), body.encode("utf-8", "replace")
    try:
        peek = dialect.peek(data, model=record.requested, stream=record.stream)
        request = Request(op="chat", dialect=dialect, body=data, peek=peek)
        last = request.asked().last.strip()
    except HeadgateError:
        return None
    return last or None
