"""The ensemble: an incumbent answers unless enough weighted evidence says otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from headgate.core.answer import Answer, CompleteAnswer
from headgate.core.chat import ChatRequest, Text
from headgate.core.errors import DeadlineExceeded, HeadgateError, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.strategies.ensemble.candidates import AS_ASKED, Candidate, apply_rules, refused
from headgate.strategies.ensemble.canonical import as_json, canonical
from headgate.strategies.ensemble.fuse import fuse
from headgate.strategies.ensemble.judge import Judge
from headgate.strategies.ensemble.panel import Member, Panel, incumbent_of, seat
from headgate.strategies.ensemble.vote import DEFENDED, OVERRULE, agree, call_key, elect, elect_object, share_of
from headgate.strategies.failed import all_failed, all_refused
from headgate.strategies.fit import check_talk
from headgate.strategies.schema import breaks_schema
from headgate.strategies.summed import used_by

ENOUGH = 2
"""Valid answers after which stragglers get only the grace."""
MEMBER_TOKENS = 4096
_CLIENTS = ("bad_request", "context_length", "content_policy")
"""Faults that lie in the request: where all members say so, the client hears it as from a single model."""
Choice = tuple[Candidate, str, float | None]
"""(winner, the rule that chose it, share of the weight that agrees with it: None where prose cannot be compared)"""


class Ensemble:
    kind = "ensemble"

    def __init__(
        self,
        name: str,
        members: Sequence[Member],
        *,
        mode: Literal["best", "vote", "fuse"] = "best",
        temperature: float | None = None,
        judge: Judge | None = None,
        pairwise: bool = False,
        tags: frozenset[str] = frozenset(),
        max_cost: int | None = None,
        deadline: float | None = None,
        grace: float = 2.0,
        overrule: float | None = None,
    ) -> None:
        self.name = name
        self.members = tuple(members)
        self.incumbent = incumbent_of(members)
        self.mode = mode
        self.temperature = temperature
        self.judge = judge
        self.pairwise = pairwise
        self.tags = tags
        self.max_cost = max_cost
        self.deadline = deadline
        self.grace = grace
        named = any(member.role == "incumbent" for member in members)
        self.overrule = overrule if overrule is not None else DEFENDED if named else OVERRULE

    def refs(self) -> Iterable[Ref]:
        out = [Ref(member.name, "member") for member in self.members]
        return [*out, Ref(self.judge.model, "judge")] if self.judge is not None else out

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """The panel, its worst case, and whether it runs at all. Members leave, lightest first, until it fits."""
        check_talk(request, self.name, self.kind)
        if self.tags and run.envelope.depth > 0 and not self.tags & set(run.trace.tags):
            child = run.plan(self.incumbent.name, request)
            reason = "the incumbent alone: none of the tags that call the panel"
            return Plan(
                strategy=self.kind,
                order=[self.incumbent.name],
                reasons={self.incumbent.name: reason},
                worst_case=child.worst_case,
                data=None,
            )
        room = [limit for limit in (self.max_cost, run.envelope.room()) if limit is not None]
        panel = seat(
            self.members,
            self.incumbent,
            self._bounded(request),
            run,
            judge=self.judge,
            pairwise=self.pairwise,
            fuses=self.mode == "fuse",
            limit=min(room, default=None),
        )
        return Plan(
            strategy=self.kind,
            order=[member.name for member in panel.seats],
            reasons=panel.reasons,
            worst_case=panel.worst_case,
            facts={"ensemble": self._planned(panel)},
            data=panel.seats,
            predicted_cost=panel.predicted_cost,
            predicted_latency=self._latency(run, panel),
        )

    def _latency(self, run: Run, panel: Panel) -> float | None:
        """Until first content: nothing is said before the slowest member and the judge have spoken. None where one of them
        has not been timed yet."""
        spoken = [one.predicted_latency for one in panel.plans]
        judged = 0.0
        if self.judge is not None and len(panel.seats) > 1:
            info = run.model(self.judge.model)
            judged = info.latency if info is not None else None
        if not spoken or judged is None or any(one is None for one in spoken):
            return None
        return max(one for one in spoken if one is not None) + judged

    def _planned(self, panel: Panel) -> dict[str, Any]:
        """What `explain` shows of it."""
        out: dict[str, Any] = {
            "mode": self.mode,
            "incumbent": self.incumbent.name,
            "panel": [member.name for member in panel.seats],
            "candidates": panel.facts(),
            "worst_case_usd": None if panel.worst_case is None else dollars(panel.worst_case),
        }
        if self.judge is not None:
            out["judge"] = {"model": self.judge.model, "style": "pairwise" if self.pairwise else "score"}
        return out

    def _bounded(self, request: Request) -> Request:
        """Under a budget an answer needs a bound, or its worst case is the model's longest: injected where the client
        set none."""
        if self.max_cost is None or request.peek.max_tokens is not None:
            return request
        return request.edited(max_tokens=MEMBER_TOKENS)

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        if plan.data is None:
            run.decide("ensemble", self.incumbent.name, because=plan.reasons[self.incumbent.name])
            return await run.ask(self.incumbent.name, request)
        for name in (member.name for member in self.members if member not in plan.data):
            run.decide("skip", name, because=plan.reasons[name])
        ends = run.clock.monotonic() + self.deadline if self.deadline is not None else None
        inner = run.child(envelope=run.envelope.child(deadline=ends, money=self.max_cost))
        await run.progress(f"asking {len(plan.data)} models: {', '.join(plan.order)}")
        candidates = await self._ask_all(request, inner, plan.data)
        valid = [candidate for candidate in candidates if candidate.valid]
        short = [candidate for candidate in candidates if candidate.out == AS_ASKED]
        if not valid and not short:
            error, rule = self._nobody(candidates, plan, run)
            run.decide("ensemble", None, over=plan.order, because=rule)
            self._tell(inner, candidates, None, rule, None)
            raise error
        if valid:
            winner, rule, agreement = await self._choose(request, inner, valid)
        else:
            winner, rule, agreement = short[0], "no whole answer within the request's max_tokens: by weight", None
        over = [candidate.model for candidate in candidates if candidate is not winner]
        run.decide("ensemble", winner.model, over=over, because=rule)
        self._tell(inner, candidates, winner, rule, agreement)
        if self.mode == "fuse" and not winner.calls and len(valid) > 1:
            await run.progress("fusing")
            fused = await fuse(self._bounded(request), inner, self.incumbent.name, valid)
            if fused is not None:
                return fused
        return _complete(run, winner)

    async def _ask_all(self, request: Request, run: Run, panel: list[Member]) -> list[Candidate]:
        """Everybody at once. Once two valid answers are there the rest get the grace; whoever is late is cancelled."""
        asked, content = self._for_members(request), request.content()
        candidates = [Candidate(m.name, m.weight, m is self.incumbent) for m in panel]
        async with asyncio.TaskGroup() as tasks:
            running = {tasks.create_task(self._ask_one(asked, content, run, candidate)) for candidate in candidates}
            until = run.clock.monotonic() + run.envelope.remaining(run.clock.monotonic())
            graced = False
            while running:
                wait = max(0.0, until - run.clock.monotonic())
                done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if not graced and sum(c.valid or c.out == AS_ASKED for c in candidates) >= ENOUGH:
                    graced, until = True, min(until, run.clock.monotonic() + self.grace)
                if not done:
                    for task in running:
                        task.cancel()
                    await asyncio.wait(running)
                    break
        for candidate in candidates:
            if candidate.answer is None and candidate.out is None:
                candidate.out = "too slow: cancelled"
        return candidates

    def _for_members(self, request: Request) -> Request:
        """The client's own bytes where nothing has to be changed."""
        asked, fields = self._bounded(request), {}
        if request.stream:
            fields["stream"] = False
        if self.temperature is not None and request.content().temperature is None:
            fields["temperature"] = self.temperature
        return asked.edited(**fields) if fields else asked

    async def _ask_one(self, request: Request, content: ChatRequest, run: Run, candidate: Candidate) -> None:
        """`content`: what the client asked for, by which the rules measure."""
        began = run.clock.monotonic()
        candidate.purse = run.envelope.child()
        try:
            answer = await run.ask(candidate.model, request, role="member", envelope=candidate.purse)
            try:
                candidate.answer = await answer.read()
                candidate.served = (answer.model, answer.provider, answer.deployment)
            finally:
                await answer.aclose()
        except HeadgateError as error:
            kind = error.kind if isinstance(error, UpstreamFault) else error.code
            candidate.out, candidate.error = f"failed: {kind}", error
        finally:
            candidate.latency_ms = round((run.clock.monotonic() - began) * 1000, 1)
        apply_rules(candidate, content)

    def _nobody(self, candidates: list[Candidate], plan: Plan, run: Run) -> tuple[HeadgateError, str]:
        """No valid answer: (the error, why). The client's own error where all members say that it is one, else 503 with the
        attempts."""
        errors = [(candidate.model, candidate.error) for candidate in candidates if candidate.error is not None]
        ours = [e for _, e in errors if e.blame == "client" or (isinstance(e, UpstreamFault) and e.kind in _CLIENTS)]
        if errors and len(ours) == len(candidates):
            return ours[0], "every member says that the request is at fault"
        if run.envelope.remaining(run.clock.monotonic()) <= 0:
            return DeadlineExceeded("the request's deadline has passed"), "the deadline passed without a valid answer"
        if candidates and all(map(refused, candidates)):
            return all_refused(self.name, run), "every member refused for its content policy"
        said = [f"{c.model}: {c.out}" for c in candidates if c.error is None]
        if not candidates:
            said = [f"{name}: {reason}" for name, reason in plan.reasons.items()]
        return all_failed(self.name, errors, run, said=said), "no member gave a valid answer"

    async def _choose(self, request: Request, run: Run, valid: list[Candidate]) -> Choice:
        if any(candidate.calls for candidate in valid) and request.content().tools:
            return _call(valid)
        if len(valid) == 1:
            return valid[0], "the only valid answer", 1.0
        if self.mode == "vote" and (found := self._vote(request, valid)) is not None:
            return found
        winner, rule = await self._judged(request, run, valid)
        return winner, rule, share_of(winner, valid, lambda c: canonical(c.text))

    async def _judged(self, request: Request, run: Run, valid: list[Candidate]) -> tuple[Candidate, str]:
        incumbent = next((c for c in valid if c.incumbent), max(valid, key=lambda c: c.weight))
        if self.judge is None:
            return incumbent, "no judge: the highest weight"
        await run.progress("judging")
        if self.pairwise:
            return await self._duels(self.judge, request, run, valid, incumbent)
        if not await self.judge.score(request, run, valid):
            return incumbent, "the judge failed: weights stand in"
        best = max(valid, key=lambda c: (-1.0 if c.score is None else c.score, c is incumbent, c.weight))
        return best, f"highest score, {best.score:.2f}"

    def _vote(self, request: Request, valid: list[Candidate]) -> Choice | None:
        merged = elect_object(valid, overrule=self.overrule)
        if merged is not None:
            vote, value = merged
            if value is None:
                return vote.winner, "vote by leaf of the JSON", vote.share
            text = as_json(value)
            made = msgspec.structs.replace(vote.winner, answer=_with_text(vote.winner, text))
            assert made.answer is not None
            if breaks_schema(request.content(), made.answer) is not None:
                return vote.winner, "vote by leaf of the JSON: the candidate that agrees most", vote.share
            return made, "vote by leaf of the JSON", vote.share
        found = elect(valid, lambda c: canonical(c.text), overrule=self.overrule)
        if found is None:
            return None
        if found.against is not None:
            rule = f"vote: the incumbent stays, {found.against:.2f} times its side is less than {self.overrule:g} times"
            return found.winner, rule, found.share
        return found.winner, f"vote: {found.share:.0%} of the weight agrees", found.share

    async def _duels(
        self, judge: Judge, request: Request, run: Run, valid: list[Candidate], incumbent: Candidate
    ) -> tuple[Candidate, str]:
        others = [c for c in valid if c is not incumbent]
        if not await judge.duels(request, run, incumbent, others):
            return incumbent, "the judge failed: weights stand in"
        better = [c for c in others if c.verdict == "better"]
        if not better:
            return incumbent, "the incumbent held against every challenger"
        return max(better, key=lambda c: c.weight), "preferred to the incumbent in both orders"

    def _tell(
        self, run: Run, candidates: list[Candidate], winner: Candidate | None, rule: str, agreement: float | None
    ) -> None:
        scored = sorted((c.score, c.model) for c in candidates if c.score is not None)
        facts: dict[str, Any] = {
            "mode": self.mode,
            "winner": winner.model if winner is not None else None,
            "rule": rule,
            "scores": {model: round(score, 3) for score, model in scored},  # of several samples the best
            "members": [candidate.shown() for candidate in candidates],
        }
        if agreement is not None:
            facts["agreement"] = round(agreement, 3)
        if self.judge is not None:
            calls = [attempt for attempt in run.trace.attempts if attempt.role == "judge"]
            cost = sum(attempt.cost or 0 for attempt in calls)
            style = "pairwise" if self.pairwise else "score"
            facts["judge"] = {"model": self.judge.model, "style": style, "calls": len(calls), "cost_usd": dollars(cost)}
        run.trace.facts["ensemble"] = facts


def _call(valid: list[Candidate]) -> Choice:
    """A turn with tools: never prose where a call was proposed."""
    winner, share, weights = agree(valid, call_key)
    assert winner is not None
    own = next((c for c in valid if c.incumbent and c.calls), None)
    if share <= 0.5 and own is not None and len(weights) > 1:
        return own, "no majority for one call: the incumbent's", share_of(own, valid, call_key)
    return winner, "the call that most weight agrees on", share


def _complete(run: Run, winner: Candidate) -> Answer:
    """The winner's answer; its usage is the sum of all calls, so that the client sees what was spent."""
    assert winner.answer is not None
    usage = used_by(run) or winner.answer.usage
    answer = msgspec.structs.replace(winner.answer, usage=usage, extensions={})
    model, provider, deployment = winner.served or (winner.model, "", "")
    return CompleteAnswer(answer, model=model, provider=provider, deployment=deployment)


def _with_text(winner: Candidate, text: str) -> ChatAnswer:
    assert winner.answer is not None
    choice = msgspec.structs.replace(winner.answer.choices[0], parts=[Text(text=text)])
    return msgspec.structs.replace(winner.answer, choices=[choice])
