"""One physical model: the leaf of every strategy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from headgate.core.answer import Answer
from headgate.core.errors import ModelNotFound
from headgate.core.money import upper_bound
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo, Plan, Ref, Run
from headgate.strategies.fit import unfit
from headgate.upstream.account import DEFAULT_OUTPUT

LIKELY_OUTPUT = 600
"""Tokens of an answer that nobody has seen yet."""


class Single:
    kind = "single"

    def __init__(self, name: str) -> None:
        self.name = name

    def refs(self) -> Iterable[Ref]:
        return ()

    def plan(self, request: Request, run: Run) -> Plan:
        info = run.model(self.name)
        if info is None:
            raise ModelNotFound(f"there is no model {self.name[:100]!r}")
        reason = "asked for by name" if info.usable else info.reason
        return Plan(
            strategy=self.kind,
            order=[self.name],
            reasons={self.name: reason},
            worst_case=worst_of(request, info),
            predicted_cost=predicted(request, info.price),
            predicted_latency=info.latency,
            data=info,
        )

    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        info: ModelInfo | None = plan.data
        if info is not None and (why := unfit(request, info)) is not None:
            raise why
        return await run.attempt(self.name, request)


class Outlook(NamedTuple):
    """What a plan foretells: nano-US$ at most and likely, seconds to the first content, None where not known; its tags, and
    what it says of budgets."""

    worst: int | None
    cost: int | None
    latency: float | None
    tags: tuple[str, ...] = ()
    downgrades: bool = False
    is_partial: bool = False


NO_OUTLOOK = Outlook(None, None, None)


def outlook(name: str, info: ModelInfo | None, request: Request, run: Run) -> Outlook:
    """Of an entry; of a physical model (`info`) without a plan of its own. Raises what planning it raises."""
    if info is not None:
        return Outlook(worst_of(request, info), predicted(request, info.price), info.latency)
    plan = run.plan(name, request)
    return Outlook(
        plan.worst_case,
        plan.predicted_cost,
        plan.predicted_latency,
        plan.tags,
        plan.downgrades,
        plan.is_partial,
    )


def worst_of(request: Request, info: ModelInfo) -> int | None:
    """Nano-US$ that one model's answer can cost at most; None where its price is unknown."""
    if info.price is None:
        return None
    output = request.peek.max_tokens or info.max_output or DEFAULT_OUTPUT
    return upper_bound(request.peek.input_bound, output * request.peek.n, info.price, request.peek.media)


def predicted(request: Request, price) -> int | None:
    """A likely cost in nano-US$: three quarters of the input bound, and a middling answer."""
    if price is None:
        return None
    return upper_bound(
        request.peek.input_bound * 3 // 4,
        min(request.peek.max_tokens or LIKELY_OUTPUT, LIKELY_OUTPUT),
        price,
        request.peek.media,
    )
