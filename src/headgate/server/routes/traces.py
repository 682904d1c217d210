"""`GET /v1/traces/{id}`: one of the caller's own requests, decision by decision. `POST /v1/feedback`: what it was worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.core.errors import InvalidRequest, NotFound
from headgate.core.records import RequestRecord
from headgate.core.trace import Trace
from headgate.dialects.jsonio import check_text
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder

if TYPE_CHECKING:
    from headgate.server.app import DataPlane


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    principal = plane.house.governor.authenticate(plane.credentials(request))
    found = await plane.house.find(match.id or "", None if principal.admin else principal.key_id)
    if found is None:
        raise NotFound("there is no such trace")
    await responder.reply(200, [*JSON, ("x-request-id", request_id)], msgspec.json.encode(trace_view(*found)))


def trace_view(trace: Trace, record: RequestRecord) -> dict[str, Any]:
    """The `headgate` object, and with it the decisions and the request's own facts."""
    out = trace.details(overhead_ms=record.overhead * 1000)
    out["request"] = {
        "id": record.id,
        "at": record.at,
        "door": record.door,
        "stream": record.stream,
        "status": record.status,
        "error": record.error,
        "latency_ms": round(record.latency * 1000, 2),
        "ttft_ms": None if record.ttft is None else round(record.ttft * 1000, 2),
        "usage": None if record.usage is None else msgspec.to_builtins(record.usage),
        "tags": list(record.tags),
    }
    out["decisions"] = [msgspec.to_builtins(decision) for decision in trace.decisions]
    return out


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """score in 0..1, or thumbs up | down."""

    trace: str
    score: float | None = None
    thumbs: str | None = None
    comment: str | None = None


async def feedback(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    principal = plane.house.governor.authenticate(plane.credentials(request))
    check_text(request.body)
    try:
        given = msgspec.json.decode(request.body, type=Feedback)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise InvalidRequest(f"feedback: {error}") from error
    if given.thumbs not in (None, "up", "down") or (given.score is None) == (given.thumbs is None):
        raise InvalidRequest("feedback needs either score (0 to 1) or thumbs (up or down)", param="score")
    if given.score is not None and not 0 <= given.score <= 1:
        raise InvalidRequest("score must be between 0 and 1", param="score")
    found = await plane.house.find(given.trace, None if principal.admin else principal.key_id)
    if found is None:
        raise NotFound(
            "there is no such trace: another key's, too old to be kept, or of a request that is not over yet"
        )
    score = given.score if given.score is not None else float(given.thumbs == "up")
    await plane.house.keep_feedback(found[0], found[1], score, (given.comment or "")[:2000])
    await responder.reply(200, JSON, b'{"status":"recorded"}')
