"""An ordered chain: the first target that answers, with health, rescue and every step visible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, partial
from itertools import takewhile
from typing import Literal

import msgspec

from headgate.core.answer import Answer
from headgate.core.errors import (
    AllModelsUnavailable,
    DeadlineExceeded,
    HeadgateError,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    UnsupportedFeature,
    UpstreamFault,
    fault,
)
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.strategies.failed import FINAL, Failure, all_failed
from headgate.strategies.fit import unfit
from headgate.strategies.resuming import Asked, Rescue, asked_of, resuming
from headgate.strategies.schema import asks_for_json, breaks_schema, misfit_of_events
from headgate.strategies.single import NO_OUTLOOK, Outlook, outlook
from headgate.upstream.attempt import Policy

Cooling = Literal["ask", "wait", "fail"]
# What a target can fail with, in the words of `move_on:`, and the fault kinds that each word covers.
MOVE_ON: dict[str, frozenset[str]] = {
    "timeout": frozenset({"timeout"}),
    "unavailable": frozenset(
        {
            "connect",
            "unavailable",
            "overloaded",
            "invalid_answer",
            "stream_broken",
            "auth",
            "tls",
            "quota",
            "budget",
            "not_found",
        }
    ),
    "rate_limit": frozenset({"rate_limit"}),
    "context_length": frozenset({"context_length"}),
    "invalid_output": frozenset({"invalid_output"}),
    "content_policy": frozenset({"content_policy"}),
    "bad_request": frozenset({"bad_request", "not_found"}),
}
DEFAULT_MOVE_ON = ("timeout", "unavailable", "rate_limit", "context_length", "invalid_output")


@cache
def _kinds(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(MOVE_ON[word] for word in words))


class Target(msgspec.Struct, frozen=True):
    name: str
    timeout: float | None = None
    """Seconds for this target's whole attempt."""


class Fallback:
    kind = "fallback"

    def __init__(
        self,
        name: str,
        order: Iterable[Target],
        *,
        move_on: Iterable[str] = DEFAULT_MOVE_ON,
        retries: int = 2,
        rescue: Rescue = "continue",
        when_all_cooling: Cooling = "ask",
    ) -> None:
        self.name = name
        self.order = tuple(order)
        self.move_on = _kinds(tuple(move_on))
        self.retries = retries
        self.rescue: Rescue = rescue
        self.when_all_cooling: Cooling = when_all_cooling

    def refs(self) -> Iterable[Ref]:
        return [Ref(target.name) for target in self.order]

    def plan(self, request: Request, run: Run, *, costs: bool = True) -> Plan:
        """Healthy targets first, in order; after them the cooling ones, the one that recovers first before the others;
        those that cannot serve the request left out. Without `costs` for whoever knows already what it can cost."""
        costs = costs or request.options.covered is not None
        well: list[str] = []
        cooling: list[tuple[float, str]] = []
        reasons: dict[str, str] = {}
        outlooks: dict[str, Outlook] = {}
        worst: int | None = 0
        unfits: list[HeadgateError] = []
        for target in self.order:
            info = run.model(target.name)
            if info is not None and (why := unfit(request, info)) is not None:
                reasons[target.name] = why.message
                unfits.append(why)
                continue
            if info is not None and not info.usable:
                reasons[target.name] = info.reason
                continue
            try:
                told = costs or info is None
                found = outlooks[target.name] = outlook(target.name, info, request, run) if told else NO_OUTLOOK
            except (ModelNotFound, PermissionDenied, UnsupportedFeature) as error:
                reasons[target.name] = error.message
                continue
            if info is None or info.health > 0:
                well.append(target.name)
                reasons[target.name] = "in order"
            else:
                cooling.append((info.recovers_in, target.name))
                why = f" ({info.reason}; {info.recovers_in:.1f} s more)" if info.reason else ""
                reasons[target.name] = f"cooling down: asked only if nothing else is left{why}"
            worst = None if worst is None or found.worst is None else worst + found.worst
        if not well and not cooling and unfits:
            raise unfits[0]
        order = well + [name for _, name in sorted(cooling, key=lambda pair: pair[0])]
        covered, downgrades = request.options.covered, any(found.downgrades for found in outlooks.values())
        if downgrades and covered is not None:
            order, worst = _covered(order, covered, outlooks, reasons)
            well = [name for name in well if name in order]
        first = outlooks[order[0]] if order else None
        return Plan(
            strategy=self.kind,
            order=order,
            reasons=reasons,
            worst_case=worst,
            downgrades=downgrades,
            is_partial=any(outlooks[name].is_partial for name in order),
            data=len(well),
            predicted_cost=first.cost if first is not None else None,
            predicted_latency=first.latency if first is not None else None,
            tags=first.tags if first is not None else (),
        )

    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        for name in (target.name for target in self.order if target.name not in plan.order):
            run.decide("skip", name, because=plan.reasons[name])
        for name in self._passed_over(plan):
            run.decide("skip", name, because=plan.reasons[name])
        if not plan.order:
            raise all_failed(self.name, [], run, said=[f"{name}: {why}" for name, why in plan.reasons.items()])
        return await self._from(request, run, plan.order, plan.data)

    def _passed_over(self, plan: Plan) -> Iterable[str]:
        """Cooling targets that would have been asked before the first one that is well."""
        if not 0 < plan.data < len(plan.order):
            return ()
        before = takewhile(lambda target: target.name != plan.order[0], self.order)
        return [target.name for target in before if target.name in plan.order]

    async def _from(
        self, asked: Asked, run: Run, order: list[str], well: int, *, broken: Failure | None = None
    ) -> Answer:
        failures: list[Failure] = [broken] if broken else []
        too_long = _context(run, broken[0]) if broken and _why(broken[1]) == "context_length" else None
        calls_before = run.trace.calls
        for place, name in enumerate(order):
            if place == well:
                calls_before = run.trace.calls
            elif place > well and run.trace.calls > calls_before:
                run.decide("skip", name, because="cooling down, and one that is has been asked")
                continue
            if too_long is not None and not _has_more_room(run, name, too_long):
                run.decide("skip", name, because="the request is too long for a target with no larger context")
                continue
            try:
                request = asked_of(asked, run, name)
                sequel = request is not asked
                answer = await self._ask(
                    request, run, name, last=place + 1 >= well, cooling=place >= well, sequel=sequel
                )
            except FINAL:
                raise
            except (UpstreamFault, Overloaded, AllModelsUnavailable, UnsupportedFeature) as error:
                kind = error.kind if isinstance(error, UpstreamFault | AllModelsUnavailable) else None
                if kind is not None and kind not in self.move_on:
                    raise
                if kind == "context_length":
                    too_long = _context(run, name)
                failures.append((name, error))
                run.decide("fallback", _after(order, place), over=[name], because=f"{name}: {_why(error)}")
                continue
            return self._rescuable(answer, asked, run, order[place + 1 :], max(0, well - place - 1))
        raise all_failed(self.name, failures, run)

    async def _ask(self, request: Request, run: Run, name: str, *, last: bool, cooling: bool, sequel: bool) -> Answer:
        """`last`: none that is well comes after it, so it may be retried. `cooling`: none that is well is left. `sequel`:
        to what another has said, and no whole answer."""
        target = next(t for t in self.order if t.name == name)
        checks = asks_for_json(request) and not sequel and "invalid_output" in self.move_on
        if run.model(name) is None:
            answer = await _nested(request, run.child(keep=self.rescue != "error"), target)
        else:
            policy = Policy(
                retries=self.retries if last else 0,
                timeout=target.timeout,
                panic=cooling and self.when_all_cooling == "ask",
                wait=cooling and self.when_all_cooling == "wait",
                keep=self.rescue != "error",
                misfit=partial(misfit_of_events, request.content()) if checks and request.stream else None,
            )
            answer = await run.attempt(name, request, policy=policy)
        if request.stream or not checks:
            return answer
        if (problem := breaks_schema(request.content(), await answer.read())) is None:
            return answer
        await answer.aclose()
        raise fault("invalid_output", f"{name}'s answer does not fit the requested schema: {problem}")

    def _rescuable(self, answer: Answer, asked: Asked, run: Run, rest: list[str], well: int) -> Answer:
        async def go_on(following: Asked, error: UpstreamFault) -> Answer:
            return await self._from(following, run.child(role="rescue"), rest, well, broken=(answer.model, error))

        return resuming(answer, asked, run, rest, go_on, rescue=self.rescue, move_on=self.move_on)


async def _nested(request: Request, run: Run, target: Target) -> Answer:
    """A strategy as target: its time is an envelope of its own, and the end of that is no end of the request."""
    if target.timeout is None:
        return await run.ask(target.name, request)
    ends = run.clock.monotonic() + target.timeout
    try:
        return await run.ask(target.name, request, envelope=run.envelope.child(deadline=ends))
    except DeadlineExceeded as error:
        if run.envelope.remaining(run.clock.monotonic()) <= 0:
            raise
        raise fault("timeout", f"{target.name} gave no answer within {target.timeout:g} s") from error


def _covered(
    order: list[str], covered: int, outlooks: Mapping[str, Outlook], reasons: dict[str, str]
) -> tuple[list[str], int | None]:
    """Of an order what budgets cover together, the first ones first, and the worst of that; all of it where they cover
    nothing: that is refused."""
    kept: list[str] = []
    spare = covered
    for name in order:
        worst = outlooks[name].worst
        if worst is not None and worst <= spare:
            kept.append(name)
            spare -= worst
    if not kept:
        return order, None
    reasons |= {name: "budgets do not cover it beside the others" for name in order if name not in kept}
    return kept, covered - spare


def _after(order: list[str], place: int) -> str | None:
    return order[place + 1] if place + 1 < len(order) else None


def _context(run: Run, name: str) -> int:
    info = run.model(name)
    return (info.max_context or 0) if info else 0


def _has_more_room(run: Run, name: str, than: int) -> bool:
    info = run.model(name)
    return info is None or info.max_context is None or info.max_context > than


def _why(error: HeadgateError) -> str:
    return error.kind if isinstance(error, UpstreamFault) else error.code
