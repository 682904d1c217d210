"""`POST /v1/explain`: the same request, no model called: what would be chosen, why, at what predicted cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.core.money import dollars
from headgate.engine.pipeline import Prepared, prepare
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder

if TYPE_CHECKING:
    from headgate.server.app import DataPlane


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house = plane.house
    inbound = plane.inbound(request, match, request_id)
    principal = house.governor.authenticate(inbound.credentials)
    prepared = prepare(house, inbound, principal, house.clock.monotonic(), house.clock.time())
    await responder.reply(200, [*JSON, ("x-request-id", request_id)], msgspec.json.encode(explanation(prepared)))


def explanation(prepared: Prepared) -> dict[str, Any]:
    """The `headgate` object without attempts, with what the plan predicts."""
    plan, trace = prepared.plan, prepared.run.trace
    out = trace.details()
    order = plan.order
    if order:
        info = prepared.run.model(order[0])
        out["chosen"] = {
            "model": order[0],
            "provider": info.provider if info else None,
            "because": plan.reasons.get(order[0], ""),
        }
    others = [name for name in [*order[1:], *(n for n in plan.reasons if n not in order)]]
    if others:
        out["alternatives"] = [{"model": name, "because": plan.reasons.get(name, "")} for name in others]
    out["predicted"] = {
        "cost_usd": None if plan.predicted_cost is None else dollars(plan.predicted_cost),
        "latency_ms": None if plan.predicted_latency is None else round(plan.predicted_latency * 1000, 1),
        "worst_case_usd": None if plan.worst_case is None else dollars(plan.worst_case),
    }
    out["decisions"] = [msgspec.to_builtins(decision) for decision in trace.decisions]
    return out
