"""The experiment: every unit stays with its arm, what comes of it is counted, and nobody is served worse than without it:
where an arm fails, the control arm answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headgate.core.answer import Answer
from headgate.core.errors import AllModelsUnavailable, HeadgateError, Overloaded, UnsupportedFeature, UpstreamFault
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.core.trace import Trace
from headgate.strategies.experiment.assign import AssignBy, arm_of, unit_of
from headgate.strategies.experiment.trial import Trial
from headgate.strategies.fallback import FINAL
from headgate.strategies.touch import Touch

ARM_FAILED = (UpstreamFault, Overloaded, AllModelsUnavailable, UnsupportedFeature)


class Arm(msgspec.Struct, frozen=True):
    """`share` of the traffic, 0 to 1; those of all arms add up to 1."""

    model: str
    share: float
    touch: Touch = Touch()


class Assigned(msgspec.Struct, frozen=True):
    arm: str
    unit: str
    because: str


class Experiment:
    kind = "experiment"

    def __init__(
        self, name: str, arms: Mapping[str, Arm], *, control: str, assign_by: AssignBy, trial: Trial | None = None
    ) -> None:
        self.name = name
        self.arms = dict(arms)
        self.control = control
        self.assign_by: AssignBy = assign_by
        self.trial = trial or Trial()
        self.print = fingerprint(arms, control, assign_by)
        self.shares = {arm: side.share for arm, side in arms.items()}
        self.phase = " ".join(f"{arm}={share:.6g}" for arm, share in self.shares.items())

    def refs(self) -> Iterable[Ref]:
        return [Ref(side.model, "control" if arm == self.control else "arm") for arm, side in self.arms.items()]

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
        return Plan(
            strategy=self.kind,
            order=order,
            reasons=reasons,
            worst_case=None if None in costs else sum(cost or 0 for cost in costs),
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
        side, control = self.arms[assigned.arm], self.arms[self.control]
        others = [arm for arm in self.arms if arm != assigned.arm]
        run.decide("experiment", assigned.arm, over=others, because=assigned.because, share=side.share)
        facts = self._claim(assigned, run.trace)
        try:
            return await run.ask(side.model, side.touch.apply(request, run))
        except FINAL:
            raise
        except ARM_FAILED as error:
            if assigned.arm == self.control:
                raise
            if facts is not None:
                facts["failed"] = error.code
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
        if facts is None or facts["stopped"] or self.trial.stopped is not None:
            return
        failed = "failed" in facts or record.status >= 500 or record.status == 429
        if record.error is not None and not failed:
            return
        values = {"errors": float(failed)}
        if record.error is None:
            values["latency"] = record.latency
            if record.cost is not None:
                values["cost"] = record.cost / 1e9
        if self.trial.is_first(facts["unit"]):
            values |= {f"unit:{name}": value for name, value in values.items()}
        self.trial.note(facts["phase"], facts["arm"], values, at=record.at)

    def told(self, trace: Trace, record: RequestRecord, score: float) -> None:
        facts = self._mine(trace)
        if facts is None or facts["stopped"]:
            return
        self.trial.score(trace.id, facts["phase"], facts["arm"], facts["unit"], "feedback", score)

    def _mine(self, trace: Trace) -> dict[str, Any] | None:
        """The request's part in this trial as it stands now."""
        facts = trace.facts.get("experiment") or {}
        if (facts.get("entry"), facts.get("trial"), facts.get("epoch")) != (self.name, self.print, self.trial.epoch):
            return None
        return facts


def fingerprint(arms: Mapping[str, Arm], control: str, assign_by: AssignBy) -> str:
    """What makes an experiment another one: its results begin anew. Other shares do not."""
    sides = {arm: (side.model, msgspec.to_builtins(side.touch)) for arm, side in arms.items()}
    return hashlib.blake2b(msgspec.json.encode((sides, control, assign_by)), digest_size=6).hexdigest()
