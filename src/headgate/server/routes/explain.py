"""`POST /v1/explain`: the same request, no model called: what would be chosen, why, at what predicted cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.money import dollars
from headgate.core.strategy import Plan
from headgate.engine.pipeline import Prepared, prepare_anywhere
from headgate.server.doors import Match
from headgate.server.http import JSON, Request, Responder
from headgate.strategies.route.needs import needs_of

if TYPE_CHECKING:
    from headgate.server.app import DataPlane


async def answer(plane: DataPlane, request: Request, responder: Responder, match: Match, request_id: str) -> None:
    house = plane.house
    inbound = plane.inbound(request, match, request_id)
    principal = house.governor.authenticate(inbound.credentials)
    found = await prepare_anywhere(house, inbound, principal, house.clock.monotonic(), house.clock.time())
    await responder.reply(200, [*JSON, ("x-request-id", request_id)], msgspec.json.encode(explanation(found)))


def explanation(prepared: Prepared) -> dict[str, Any]:
    """The `headgate` object without attempts, with what the plan predicts."""
    plan, trace = prepared.plan, prepared.run.trace
    out = trace.details()
    if "task" in out:
        out["task"] = {**out["task"], "needs": needs_of(prepared.request.asked(), prepared.request)}
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
    out["candidates"] = _candidates(prepared)
    baseline = trace.facts.get("baseline")
    saved = None if baseline is None or not order else _saved(prepared, baseline)
    out["predicted"] = {
        "cost_usd": _dollars(plan.predicted_cost),
        "latency_ms": _milliseconds(plan.predicted_latency),
        "worst_case_usd": _dollars(plan.worst_case),
        "saved_usd": _dollars(saved),
    }
    out["decisions"] = [msgspec.to_builtins(decision) for decision in trace.decisions]
    return out


def _saved(prepared: Prepared, baseline: str) -> int | None:
    """Nano-US$, for the same tokens at the baseline: what the prices alone say of both, moved as the prediction was
    moved by what such requests did cost."""
    run, plan = prepared.run, prepared.plan
    best, mine = (run.plan(name, prepared.request).predicted_cost for name in (baseline, plan.order[0]))
    if best is None or mine is None or plan.predicted_cost is None:
        return None
    return round((best - mine) * plan.predicted_cost / mine) if mine else best


def _candidates(prepared: Prepared) -> list[dict[str, Any]]:
    """Every entry that the plan considered, those that would be asked first; `out`: the filter that keeps it out. What the
    strategy itself knows of a candidate (a route's quality and score, a panel's bounded cost) is part of its row."""
    plan, run = prepared.plan, prepared.run
    own = {row["model"]: row for row in (run.trace.facts.get(plan.strategy) or {}).get("candidates", ())}
    out: list[dict[str, Any]] = []
    for name in dict.fromkeys([*plan.order, *plan.reasons]):
        strategy, info = run.strategy(name), run.model(name)
        row: dict[str, Any] = {"model": name, "strategy": strategy.kind}
        row["because" if name in plan.order else "out"] = plan.reasons.get(name, "")
        if info is not None:
            row["provider"], row["health"] = info.provider, round(info.health, 2)
        if (child := _planned(prepared, name)) is not None:
            row["cost_usd"], row["worst_case_usd"] = _dollars(child.predicted_cost), _dollars(child.worst_case)
            row["latency_ms"] = _milliseconds(child.predicted_latency)
            if child.strategy != "single":
                row["order"] = child.order
        more = own.get(name, {})
        if name in plan.order:  # the default is asked, also where a rule's filter keeps it out
            more = {key: value for key, value in more.items() if key != "out"}
        out.append({**row, **more})
    return out


def _planned(prepared: Prepared, name: str) -> Plan | None:
    """None for an entry that cannot take the request at all: its row says why."""
    try:
        return prepared.run.plan(name, prepared.request)
    except HeadgateError:
        return None


def _dollars(amount: int | None) -> str | None:
    return None if amount is None else dollars(amount)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
