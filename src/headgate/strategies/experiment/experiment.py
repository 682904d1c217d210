"""The experiment: every unit stays with its arm, what comes of it is counted, and nobody is served worse than without it:
where an arm fails, the control arm answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from headgate.core.answer import Answer
from headgate.core.errors import (
    AllModelsUnavailable,
    HeadgateError,
    Overloaded,
    PermissionDenied,
    UnsupportedFeature,
    UpstreamFault,
)
from headgate.core.money import NANO
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.core.trace import Trace
from headgate.strategies.experiment.assign import AssignBy, arm_of, unit_of
from headgate.strategies.experiment.compare import EFFECT, SCALES, Comparison, Guard, Metric, compare, harm
from headgate.strategies.experiment.mirror import Backstage, Mirror, Shadow
from headgate.strategies.experiment.scoring import Sampler, Scoring
from headgate.strategies.experiment.trial import Stop, Trial
from headgate.strategies.experiment.watch import Watched
from headgate.strategies.failed import FINAL
from headgate.strategies.touch import Touch

ARM_FAILED = (UpstreamFault, Overloaded, AllModelsUnavailable, UnsupportedFeature)


class Arm(msgspec.Struct, frozen=True):
    """`share` of the traffic, 0 to 1; those of all arms add up to 1."""

    model: str
    share: float
    touch: Touch = Touch()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the experiment is about. `effect`: the smallest difference worth finding, in points (success, feedback, judge)
    or as a part (cost, latency); `alpha`: chance that a difference is called one though there is none."""

    metric: Metric = "success"
    effect: float = 0.05
    alpha: float = 0.05
    guard: Guard = Guard()


class Assigned(msgspec.Struct, frozen=True):
    arm: str
    unit: str
    because: str


class Experiment:
    kind = "experiment"

    def __init__(
        self,
        name: str,
        arms: Mapping[str, Arm],
        *,
        control: str,
        assign_by: AssignBy,
        terms: Terms | None = None,
        trial: Trial | None = None,
        shadow: Shadow | None = None,
        scoring: Scoring | None = None,
        backstage: Backstage | None = None,
        on_event: Callable[[str, dict[str, object]], None] | None = None,
    ) -> None:
        self.name = name
        self.arms = dict(arms)
        self.control = control
        self.assign_by: AssignBy = assign_by
        self.terms = terms or Terms()
        self.trial = trial or Trial()
        self.mirror = None if shadow is None else Mirror(name, shadow, self.trial, backstage)
        self.sampler = None if scoring is None else Sampler(name, scoring, self._judged, backstage)
        self._on_event = on_event
        self.print = fingerprint(arms, control, assign_by)
        self.shares = {arm: side.share for arm, side in arms.items()}
        self.phase = " ".join(f"{arm}={share:.6g}" for arm, share in self.shares.items())

    def refs(self) -> Iterable[Ref]:
        out = [Ref(side.model, "control" if arm == self.control else "arm") for arm, side in self.arms.items()]
        if self.mirror is not None:
            out.append(Ref(self.mirror.shadow.model, "shadow"))
        if self.sampler is not None:
            out.append(Ref(self.sampler.scoring.model, "judge"))
        return out

    # -- plan --------------------------------------------------------------------------------------------------------
    def assigned(self, request: Request, run: Run) -> Assigned:
        unit = unit_of(request, run, self.assign_by)
        if (stop := self.trial.stopped) is not None:
            return Assigned(stop.arm, unit, f"the experiment was stopped: {stop.because}")
        arm = arm_of(self.name, unit, self.shares)
        return Assigned(arm, unit, f"this {self.assign_by} is among the {self.shares[arm]:.4g} of arm {arm!r}")

    def plan(self, request: Request, run: Run) -> Plan:
        """The arm's model, and the control's behind it."""
        assigned = self.assigned(request, run)
        order: list[str] = []
        plans: list[Plan] = []
        reasons = {
            side.model: f"arm {arm!r}: {side.share:.4g} of the traffic, not this {self.assign_by}"
            for arm, side in self.arms.items()
        }
        for arm in dict.fromkeys((assigned.arm, self.control)):
            side = self.arms[arm]
            because = assigned.because if arm == assigned.arm else f"control, if arm {assigned.arm!r} fails"
            try:
                plans.append(run.plan(side.model, side.touch.touched(request)))
            except HeadgateError as error:
                if arm == self.control and not plans:
                    raise
                because = error.message
            if side.model not in order:
                order.append(side.model)
                reasons[side.model] = because
        costs = [plan.worst_case for plan in plans]
        worst, covered = None if None in costs else sum(cost or 0 for cost in costs), request.options.covered
        if covered is not None and (worst is None or worst > covered):
            worst = costs[0]  # the control answers for a failed arm if budgets cover it then
        return Plan(
            strategy=self.kind,
            order=order,
            reasons=reasons,
            worst_case=worst,
            downgrades=plans[0].downgrades,
            is_partial=plans[0].is_partial,
            facts={"experiment": self._facts(assigned)},
            data=assigned,
            predicted_cost=plans[0].predicted_cost,
            predicted_latency=plans[0].predicted_latency,
            tags=(self._tag(assigned.arm),),
        )

    def _facts(self, assigned: Assigned) -> dict[str, Any]:
        stop = self.trial.stopped
        arms = {arm: {"model": side.model, "share": side.share} for arm, side in self.arms.items()}
        out = {"entry": self.name, "arm": assigned.arm, "because": assigned.because, "arms": arms}
        return {**out, "assign_by": self.assign_by, "unit": assigned.unit, "stopped": stop is not None}

    def _tag(self, arm: str) -> str:
        return f"experiment:{self.name}/{arm}"

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        assigned: Assigned = plan.data
        side = self.arms[assigned.arm]
        others = [arm for arm in self.arms if arm != assigned.arm]
        run.decide("experiment", assigned.arm, over=others, because=assigned.because, share=side.share)
        facts = self._claim(assigned, run.trace)
        watching = [] if facts is None or facts["stopped"] else self._watching(request, run, facts)
        answer = await self._served(assigned, request, run, facts)
        if not watching:
            return answer
        watched = Watched(answer, request.dialect)
        for watcher in watching:
            watcher.waiting.keep(watched, request, run)
        return watched

    def _watching(self, request: Request, run: Run, facts: dict[str, Any]) -> list[Mirror | Sampler]:
        """Who wants to know what is served to this request."""
        out: list[Mirror | Sampler] = []
        if self.mirror is not None and self.mirror.takes(request, run.trace.id):
            shadow = self.mirror.shadow
            facts["shadow"] = shadow.model
            because = f"{shadow.share:.4g} of the requests are mirrored; its answer is not used"
            run.decide("shadow", shadow.model, because=because)
            out.append(self.mirror)
        if self.sampler is not None and self.sampler.takes(request, run.trace.id):
            out.append(self.sampler)
        return out

    async def _served(self, assigned: Assigned, request: Request, run: Run, facts: dict[str, Any] | None) -> Answer:
        side, control = self.arms[assigned.arm], self.arms[self.control]
        try:
            return await run.ask(side.model, side.touch.apply(request, run))
        except (*ARM_FAILED, *FINAL) as error:
            denied = isinstance(error, PermissionDenied)
            if assigned.arm == self.control or (isinstance(error, FINAL) and not denied):
                raise
            if facts is not None:
                facts["denied" if denied else "failed"] = error.code
            why = f"arm {assigned.arm!r} failed: {error.code}"
            run.decide("fallback", control.model, over=[side.model], because=why)
            return await run.ask(control.model, control.touch.apply(request, run))

    def _claim(self, assigned: Assigned, trace: Trace) -> dict[str, Any] | None:
        """The request's part in the experiment; None where it counts in another one that it has reached before."""
        before = trace.facts.get("experiment") or {}
        if "trial" in before and before["entry"] != self.name:
            return None
        facts = {**self._facts(assigned), "trial": self.print, "epoch": self.trial.epoch, "phase": self.phase}
        trace.facts["experiment"] = facts
        if (tag := self._tag(assigned.arm)) not in trace.tags:
            trace.tags = (*trace.tags, tag)
        return facts

    # -- what came of it -----------------------------------------------------------------------------------------------
    def saw(self, record: RequestRecord, trace: Trace) -> None:
        """A request is over. What the client did wrong, or broke off, says nothing of the arm."""
        facts = self._mine(trace)
        for watcher in (self.mirror, self.sampler):
            if watcher is not None:
                watcher.over(record, trace)
        if facts is None or facts["stopped"] or self.trial.stopped is not None:
            return
        if record.error is not None and record.status < 500 and record.status != 429:
            return
        values = {"errors": float("failed" in facts or record.error is not None)}
        if record.error is None:
            values["latency"] = record.latency
            if record.cost is not None:
                values["cost"] = record.cost / NANO
        if self.trial.is_first(facts["unit"]):
            values |= {f"unit:{name}": value for name, value in values.items()}
        self.trial.note(facts["phase"], facts["arm"], values, at=record.at)
        self._watch(facts["arm"], record.at + record.latency)

    def told(self, trace: Trace, record: RequestRecord, score: float) -> None:
        facts = self._mine(trace)
        if facts is None or facts["stopped"]:
            return
        self.trial.score(trace.id, facts["phase"], facts["arm"], facts["unit"], "feedback", score)
        if self.trial.stopped is None:
            self._watch(facts["arm"], record.at + record.latency)

    def _judged(self, facts: dict[str, Any], record: RequestRecord, score: float) -> None:
        if "denied" in facts or facts["epoch"] != self.trial.epoch or self.trial.stopped is not None:
            return
        self.trial.score(f"judge {record.trace}", facts["phase"], facts["arm"], facts["unit"], "judge", score)
        self._watch(facts["arm"], record.at + record.latency)

    def _watch(self, arm: str, now: float) -> None:
        """Stops the experiment where the control's or this arm's last request has shown that an arm does harm."""
        quality = "feedback" if self.sampler is None else "judge"
        arms = [arm] if arm != self.control else [other for other in self.arms if other != arm]
        for one in arms:
            why = harm(self.trial.cells, one, self.control, self.terms.guard, quality=quality, arms=len(self.arms) - 1)
            if why is not None:
                self.stop(because=why, by="guard", at=now)
                return

    def stop(self, *, because: str, by: str, at: float, arm: str | None = None) -> Stop:
        """From now on everybody gets one arm, the control unless said otherwise, and nothing is counted any more. Raises
        ValueError where there is no such arm."""
        if arm is not None and arm not in self.arms:
            raise ValueError(f"{self.name!r} has no arm {arm!r}: it has {', '.join(self.arms)}")
        stop = self.trial.stop(Stop(at, because, by, arm or self.control))
        if self._on_event is not None:
            told: dict[str, object] = {"experiment": self.name, "by": stop.by, "because": stop.because, "arm": stop.arm}
            self._on_event("experiment_stopped", told)
        return stop

    def start(self, *, by: str, at: float) -> None:
        """Begins anew: what was counted, and a stop, are over."""
        self.trial.begin_anew(at)
        if self._on_event is not None:
            self._on_event("experiment_started", {"experiment": self.name, "by": by})

    # -- results -------------------------------------------------------------------------------------------------------
    @property
    def alpha_each(self) -> float:
        """Of one arm's comparison, so that all together keep to alpha (Bonferroni)."""
        return self.terms.alpha / max(1, len(self.arms) - 1)

    def effect_of(self, metric: Metric) -> float:
        return self.terms.effect if metric == self.terms.metric else EFFECT[SCALES[metric]]

    def against_control(self, arm: str, metric: Metric) -> Comparison | None:
        """None while there is too little to say anything."""
        return compare(
            self.trial.cells, metric, arm, self.control, effect=self.effect_of(metric), alpha=self.alpha_each
        )

    def _mine(self, trace: Trace) -> dict[str, Any] | None:
        """The request's part in this trial as it stands now. A key whose zone the arm lies outside of has none: it gets the
        control, and is no failure of the arm's."""
        facts = trace.facts.get("experiment") or {}
        if "denied" in facts:
            return None
        if (facts.get("entry"), facts.get("trial"), facts.get("epoch")) != (self.name, self.print, self.trial.epoch):
            return None
        return facts


def fingerprint(arms: Mapping[str, Arm], control: str, assign_by: AssignBy) -> str:
    """What makes an experiment another one: its results begin anew. Other shares do not."""
    sides = {arm: (side.model, msgspec.to_builtins(side.touch)) for arm, side in arms.items()}
    return hashlib.blake2b(msgspec.json.encode((sides, control, assign_by)), digest_size=6).hexdigest()
