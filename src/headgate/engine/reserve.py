"""Taking from limits and budgets what a plan may cost at most, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.core.errors import BudgetExceeded
from headgate.core.ports import Grant
from headgate.core.request import Request
from headgate.engine.house import House
from headgate.engine.run import RequestRun

if TYPE_CHECKING:
    from headgate.engine.pipeline import Inbound, Prepared

SMALLEST_CAP = 256
"""Output tokens below which a request is refused rather than cut short."""


async def reserve(house: House, inbound: Inbound, prepared: Prepared) -> Grant:
    """Limits and the plan's worst case, all or nothing. Where budgets do not cover it, a route plans anew with what its
    rule allows for that (`downgrade`), and a maximum of our own making is lowered."""
    while True:
        peek = prepared.request.peek
        try:
            return await house.governor.admit(
                prepared.principal,
                model=prepared.name,
                door=inbound.door,
                tags=prepared.run.trace.tags,
                input_tokens=peek.input_bound,
                output_tokens=(peek.max_tokens or 0) * peek.n,
                worst_case=prepared.plan.worst_case,
                at=prepared.run.trace.started_at,
            )
        except BudgetExceeded as refused:
            cap = prepared.cap if prepared.cap is not None and prepared.cap > SMALLEST_CAP else None
            if _is_downgraded(prepared, refused.left, whole=cap is not None):
                continue
            if cap is None:
                raise
        prepared.cap = max(cap // 4, SMALLEST_CAP)
        trace = prepared.run.trace
        trace.decisions.clear()  # those of the plan that is made anew
        prepared.request = capped(prepared.request, prepared.run, prepared.cap)
        prepared.plan = prepared.snapshot.strategy(prepared.name).plan(prepared.request, prepared.run)
        trace.facts.update(prepared.plan.facts)


def _is_downgraded(prepared: Prepared, left: int | None, *, whole: bool) -> bool:
    """Plans anew for what the budgets still cover, where the entry's own rules say with what (a route's `downgrade`).
    `whole`: not by a plan that leaves some of the tasks out which may yet be named."""
    if left is None or not prepared.plan.downgrades:
        return False
    options = msgspec.structs.replace(prepared.request.options, covered=left)
    request = prepared.request.under(options)
    plan = prepared.snapshot.strategy(prepared.name).plan(request, prepared.run)
    before = prepared.plan.worst_case
    if plan.worst_case is None or plan.worst_case > min(left, (before or 1) - 1) or (whole and plan.is_partial):
        return False
    prepared.request, prepared.plan = request, plan
    prepared.run.trace.facts.update(plan.facts)
    return True


def capped(request: Request, run: RequestRun, cap: int) -> Request:
    run.decide("max_tokens", cap, because="a hard budget applies and the request names no maximum")
    return request.edited(max_tokens=cap)
