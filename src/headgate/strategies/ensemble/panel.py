"""Who sits on the panel, and what it can cost at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Plan, Run
from headgate.strategies.ensemble import fuse
from headgate.strategies.ensemble.cost import Cost, total
from headgate.strategies.ensemble.judge import Judge
from headgate.strategies.fit import unfit


class Member(msgspec.Struct, frozen=True):
    """`role`: incumbent, peer (cannot be the incumbent) or None."""

    name: str
    weight: float = 1.0
    role: str | None = None


def incumbent_of(members: Sequence[Member]) -> Member:
    """The highest weight unless a role says so; among equals the first."""
    named = next((member for member in members if member.role == "incumbent"), None)
    if named is not None:
        return named
    free = [member for member in members if member.role is None] or list(members)
    return max(free, key=lambda member: member.weight)


class Panel(msgspec.Struct):
    """`seats`: incumbent first, then by weight. `extra`: judge and fuser."""

    seats: list[Member]
    plans: list[Plan]
    reasons: dict[str, str]
    extra: Cost

    @property
    def worst_case(self) -> int | None:
        return total([self.extra.most, *(plan.worst_case for plan in self.plans)])

    @property
    def known_cost(self) -> int:
        """As `worst_case`, of those whose prices are known."""
        return (self.extra.most or 0) + sum(plan.worst_case or 0 for plan in self.plans)

    @property
    def predicted_cost(self) -> int | None:
        return total([self.extra.likely, *(plan.predicted_cost for plan in self.plans)])

    def facts(self) -> list[dict[str, Any]]:
        return [
            {"model": member.name, "worst_case_usd": None if plan.worst_case is None else dollars(plan.worst_case)}
            for member, plan in zip(self.seats, self.plans, strict=True)
        ]


def seat(
    members: Sequence[Member],
    incumbent: Member,
    request: Request,
    run: Run,
    *,
    judge: Judge | None,
    pairwise: bool,
    fuses: bool,
    limit: int | None,
) -> Panel:
    """All who can serve it; then the lightest leave until the worst case fits `limit` (nano-US$) or one is left. Raises the
    client's error where nobody is there who could, for what the request asks for."""
    panel, unfits = Panel([], [], {}, Cost(0, 0)), list[HeadgateError]()
    for member in sorted(members, key=lambda m: (m is not incumbent, -m.weight)):
        info = run.model(member.name)
        if info is not None and not info.usable:
            panel.reasons[member.name] = info.reason
            continue
        if info is not None and (problem := unfit(request, info)) is not None:
            panel.reasons[member.name] = problem.message
            unfits.append(problem)
            continue
        try:
            panel.plans.append(run.plan(member.name, request))
        except HeadgateError as error:
            panel.reasons[member.name] = error.message
            continue
        panel.seats.append(member)
        role = "incumbent" if member is incumbent else "member"
        panel.reasons[member.name] = f"{role} with weight {member.weight:g}"

    if not panel.seats and unfits:
        raise unfits[0]

    def extra() -> Cost:
        count = len(panel.seats)
        judging = judge.cost(request, run, count, pairwise=pairwise) if judge is not None else Cost(0, 0)
        return judging + (fuse.cost(request, run, incumbent.name, count) if fuses else Cost(0, 0))

    panel.extra = extra()
    while limit is not None and panel.known_cost > limit and len(panel.seats) > 1:
        dropped = panel.seats.pop()
        panel.plans.pop()
        panel.reasons[dropped.name] = "left out: the panel's worst case would not fit the budget"
        panel.extra = extra()
    return panel
