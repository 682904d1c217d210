"""The cascade: cheap answers are verified before they are served; what does not hold goes to the next model.

The last model is asked as a plain model would be: its answer is streamed and not verified. Answers before it are read
whole, verified, and replayed; until then the door's heartbeats keep the client waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headgate.core.answer import Answer, CompleteAnswer
from headgate.core.errors import AllModelsUnavailable, HeadgateError, Overloaded, UnsupportedFeature, UpstreamFault
from headgate.core.events import ChatAnswer
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.core.trace import Trace, share_of
from headgate.strategies.cascade.accuracy import PROBES, Accuracy
from headgate.strategies.cascade.verify import Verdict, Verifier
from headgate.strategies.ensemble.candidates import Candidate
from headgate.strategies.ensemble.canonical import canonical
from headgate.strategies.ensemble.judge import Judge
from headgate.strategies.failed import FINAL
from headgate.strategies.fallback import Fallback, Target
from headgate.strategies.fit import unfit

GOOD = 0.5
"""A feedback or sampled score from which an answer counts as good."""


class Sampling(msgspec.Struct, frozen=True):
    """Judge the verdicts on a share of the requests, to know how often the verifier is right."""

    model: str
    share: float = 0.05
    timeout: float = 20.0


class Cascade:
    kind = "cascade"

    def __init__(
        self,
        name: str,
        tries: Sequence[str],
        verifier: Verifier,
        *,
        floor: float = 0.8,
        least: int = 20,
        sampling: Sampling | None = None,
        accuracy: Accuracy | None = None,
    ) -> None:
        self.name = name
        self.tries = tuple(tries)
        self.verifier = verifier
        self.floor = floor
        self.least = least
        self.sampling = sampling
        self.accuracy = accuracy or Accuracy()
        self._sampler = Judge(sampling.model, timeout=sampling.timeout) if sampling is not None else None

    def refs(self) -> Iterable[Ref]:
        out = [Ref(name, "try") for name in self.tries]
        judge = self.verifier.accept.judge
        for name in (judge.model if judge else None, self.sampling.model if self.sampling else None):
            if name is not None:
                out.append(Ref(name, "judge"))
        return out

    async def retire(self) -> None:
        await self.verifier.retire()

    async def aclose(self) -> None:
        await self.verifier.aclose()

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """Which models, in which order, at what worst case; or the strong one at once where the verifier is too often
        wrong."""
        reasons: dict[str, str] = {}
        usable, costs, unfits = self._usable(request, run, reasons)
        if not usable and unfits:
            raise unfits[0]
        off = self.accuracy.is_under(self.floor, self.least) and not self._is_probe(run)
        if off:
            order, worst = list(reversed(usable)), _sum(costs[name] for name in usable)
            reasons.update(dict.fromkeys(order[1:], "if the stronger ones fail"))
            if order:
                reasons[order[0]] = (
                    f"straight to the strong model: the verifier was right in {self.accuracy.value:.0%} of "
                    f"{self.accuracy.total:.0f} cases, under its floor of {self.floor:.0%}"
                )
        else:
            order, worst = self._affordable(request, run, usable, costs, reasons)
        child = run.plan(order[0], request) if order else None
        strong = {"baseline": usable[-1]} if usable else {}
        return Plan(
            strategy=self.kind,
            order=order,
            reasons=reasons,
            worst_case=worst,
            facts={"cascade": {"entry": self.name, "order": order, "off": off, **self.accuracy.view()}, **strong},
            data=off,
            predicted_cost=child.predicted_cost if child else None,
            predicted_latency=child.predicted_latency if child else None,
        )

    def _usable(
        self, request: Request, run: Run, reasons: dict[str, str]
    ) -> tuple[list[str], dict[str, int | None], list[HeadgateError]]:
        usable: list[str] = []
        costs: dict[str, int | None] = {}
        unfits: list[HeadgateError] = []
        for name in self.tries:
            info = run.model(name)
            if info is not None and (why := unfit(request, info)) is not None:
                reasons[name] = why.message
                unfits.append(why)
                continue
            if info is not None and not info.usable:
                reasons[name] = info.reason
                continue
            try:
                costs[name] = run.plan(name, request).worst_case
            except HeadgateError as error:
                reasons[name] = error.message
                continue
            usable.append(name)
        return usable, costs, unfits

    def _affordable(
        self, request: Request, run: Run, usable: list[str], costs: dict[str, int | None], reasons: dict[str, str]
    ) -> tuple[list[str], int | None]:
        """The strongest that the request's own limit covers, and before it what still fits beside it, cheapest first."""
        room = run.envelope.room()
        extra = self._judging(request, run)
        priced = {name: _verified(costs[name], self.verifier.samples, extra) for name in usable}
        last = len(usable) - 1
        while room is not None and last > 0 and (costs[usable[last]] or 0) > room:
            reasons[usable[last]] = "left out: its worst case alone is more than the request may spend"
            last -= 1
        if not usable:
            return [], 0
        strong, before = usable[last], list[str]()
        worst = costs[strong]
        for name in usable[:last]:
            after = _sum([worst, priced[name]])
            if room is not None and after is not None and after > room:
                reasons[name] = "left out: beside the strong model its worst case would not fit the request's limit"
                continue
            before.append(name)
            worst = after
            reasons[name] = "tried first, and verified" if len(before) == 1 else "tried next, and verified"
        reasons[strong] = "where no answer before it holds" if before else "the only one left to try"
        return [*before, strong], worst

    def _judging(self, request: Request, run: Run) -> int | None:
        """What a judge may cost per answer. It reads what the model wrote, which is dearer written than read: its own
        worst case on this request covers it."""
        judges = [bar.model for bar in (self.verifier.accept.judge, self.sampling) if bar is not None]
        return _sum(run.plan(name, request).worst_case for name in judges)

    def _is_probe(self, run: Run) -> bool:
        """By the trace's id, so that planning stays pure."""
        return share_of(run.trace.id, "probe") < 1 / PROBES

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        for name in (name for name in self.tries if name not in plan.order):
            run.decide("skip", name, because=plan.reasons[name])
        if not plan.order:
            raise AllModelsUnavailable(f"no model of {self.name!r} can be used", run.trace.attempts)
        if plan.data or len(plan.order) == 1:
            run.decide("cascade", plan.order[0], over=plan.order[1:], because=plan.reasons[plan.order[0]])
            chain = Fallback(self.name, [Target(name) for name in plan.order])
            return await chain.answer(request, run, chain.plan(request, run))
        return await self._climb(request, run, plan.order)

    async def _climb(self, request: Request, run: Run, order: list[str]) -> Answer:
        told: list[dict[str, Any]] = []
        run.trace.facts["cascade"] = {"entry": self.name, "order": order, "tries": told, **self.accuracy.view()}
        kept: tuple[Answer, Verdict] | None = None
        for place, name in enumerate(order[:-1]):
            await run.progress(f"asking {name}")
            tried = await self._try(request, run, name)
            if isinstance(tried, HeadgateError):
                told.append({"model": name, "accepted": None, "because": tried.code})
                run.decide("fallback", order[place + 1], over=[name], because=f"{name} failed: {tried.code}")
                continue
            served, verdict = tried
            told.append({"model": name, "accepted": verdict.accepted, "because": verdict.because})
            await self._measure(request, run, name, verdict)
            if verdict.accepted:
                run.decide("cascade", name, over=order[place + 1 :], because=verdict.because)
                return _complete(served, verdict.answer)
            run.decide("cascade", order[place + 1], over=[name], because=f"not accepted: {verdict.because}")
            if verdict.failed is None or verdict.failed.name not in ("rules", "schema"):
                kept = served, verdict
        return await self._strong(request, run, order[-1], kept)

    async def _try(self, request: Request, run: Run, name: str) -> tuple[Answer, Verdict] | HeadgateError:
        asked = self._asked(request, run, name)
        try:
            answer = await run.ask(name, asked, role="try")
            try:
                whole = await answer.read()
            finally:
                await answer.aclose()
        except FINAL:
            raise
        except (UpstreamFault, Overloaded, AllModelsUnavailable, UnsupportedFeature) as error:
            return error
        verdict = await self.verifier.verify(asked, run, name, whole)
        if asked.content().logprobs and not request.content().logprobs:
            verdict.answer = _without_logprobs(verdict.answer)
        return answer, verdict

    def _asked(self, request: Request, run: Run, name: str) -> Request:
        """The client's request, whole; with log probabilities where they are to be looked at and the model has them."""
        info = run.model(name)
        has = info is not None and "logprobs" in info.features
        if self.verifier.accept.confidence is not None and has and not request.content().logprobs:
            return request.edited(stream=False, logprobs=True)
        return request.edited(stream=False)

    async def _strong(self, request: Request, run: Run, name: str, kept: tuple[Answer, Verdict] | None) -> Answer:
        run.trace.facts["cascade"]["tries"].append(
            {"model": name, "accepted": None, "because": "the last: not verified"}
        )
        try:
            answer = await run.ask(name, request)
        except FINAL:
            raise
        except (UpstreamFault, Overloaded, AllModelsUnavailable, UnsupportedFeature) as error:
            if kept is None:
                raise
            served, verdict = kept
            why = f"{name} failed ({error.code}): the best answer that is there, though {verdict.because}"
            run.decide("fallback", served.model, over=[name], because=why)
            return _complete(served, verdict.answer)
        if kept is not None and not request.stream:
            await self._compare(answer, kept[1])
        return answer

    # -- is the verifier right? ----------------------------------------------------------------------------------------
    async def _measure(self, request: Request, run: Run, name: str, verdict: Verdict) -> None:
        """On a share of the requests a judge says what the answer was worth, accepted or not."""
        if self._sampler is None or self.sampling is None:
            return
        if share_of(run.trace.id, f"sample {name}") >= self.sampling.share:
            return
        candidate = Candidate(name, 1.0, True, answer=verdict.answer)
        if not await self._sampler.score(request, run, [candidate]) or candidate.unreadable:
            return
        assert candidate.score is not None
        right = verdict.accepted == (candidate.score >= GOOD)
        self.accuracy.note(right)
        why = f"sampled: scored {candidate.score:.2f}, the verifier was {'right' if right else 'wrong'}"
        accuracy, measured = self.accuracy.value, self.accuracy.total
        run.decide("verifier", right, because=why, accuracy=accuracy, measured=measured)

    async def _compare(self, strong: Answer, rejected: Verdict) -> None:
        """Where the strong model says the same in one short form, the rejection was for nothing."""
        try:
            said = _form(await strong.read())
        except HeadgateError:
            return  # what cannot be read says nothing of the verifier; the door tells the client
        before = _form(rejected.answer)
        if said is not None and before is not None:
            self.accuracy.note(said != before)

    def saw(self, record: RequestRecord, trace: Trace) -> None:
        """A request that is over says nothing of the verifier; what is told of it does."""

    def told(self, trace: Trace, record: RequestRecord, score: float) -> None:
        """Feedback on a served answer: an accepted one that was poor is a mistake of the verifier."""
        found = trace.facts.get("cascade") or {}
        if found.get("entry") != self.name:
            return
        accepted = next((row for row in found.get("tries", ()) if row["accepted"]), None)
        if accepted is not None:
            self.accuracy.tell(trace.id, score >= GOOD)


def _form(answer: ChatAnswer) -> str | None:
    return canonical(Candidate("", 1.0, True, answer=answer).text)


def _complete(served: Answer, answer: ChatAnswer) -> CompleteAnswer:
    answer = msgspec.structs.replace(answer, extensions={})
    return CompleteAnswer(answer, model=served.model, provider=served.provider, deployment=served.deployment)


def _without_logprobs(answer: ChatAnswer) -> ChatAnswer:
    choices = [msgspec.structs.replace(choice, logprobs=None) for choice in answer.choices]
    return msgspec.structs.replace(answer, choices=choices)


def _verified(cost: int | None, samples: int, judging: int | None) -> int | None:
    return None if cost is None or judging is None else cost * samples + judging


def _sum(costs: Iterable[int | None]) -> int | None:
    total = 0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total
