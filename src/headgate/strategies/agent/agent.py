"""The agent: plans, executes with models and tools, verifies, synthesises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from headgate.core.answer import Answer
from headgate.core.errors import InvalidRequest
from headgate.core.ids import new_id
from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.strategies.agent.answer import AgentAnswer, PlainAnswer
from headgate.strategies.agent.asking import STEP_TOKENS
from headgate.strategies.agent.execute import Executor, Outcome, StepCaps
from headgate.strategies.agent.patience import GRACE, Patience
from headgate.strategies.agent.plan import BadPlan
from headgate.strategies.agent.planner import Planner
from headgate.strategies.agent.team import Team
from headgate.strategies.agent.work import Work, said, shown
from headgate.strategies.fit import check_talk
from headgate.strategies.resuming import ask
from headgate.strategies.summed import Summed, used_by
from headgate.tools.broker import Broker, Tool
from headgate.tools.lifetime import end_each
from headgate.tools.python import Python

MAX_STEPS = 20


class Caps(msgspec.Struct, frozen=True):
    """What a run may use: nano-US$, calls of models and tools, seconds; and each of its steps."""

    max_cost: int | None = None
    max_steps: int = MAX_STEPS
    max_calls: int | None = None
    deadline: float | None = None
    step: StepCaps = StepCaps()


class Agent:
    kind = "agent"

    def __init__(
        self,
        name: str,
        *,
        planner: str,
        validator: str | None,
        models: Sequence[str],
        tools: Sequence[str],
        broker: Broker,
        sandbox: Python,
        plan_only: bool = False,
        caps: Caps | None = None,
        grace: float = GRACE,
    ) -> None:
        """`grace`: how many seconds a run goes on whose client has left."""
        self.name = name
        self.planner = planner
        self.validator = validator
        self.models = tuple(dict.fromkeys(models))
        self.tools = tuple(tools)
        self.broker = broker
        self.sandbox = sandbox
        self.plan_only = plan_only
        self.caps = caps or Caps()
        self.grace = grace

    def refs(self) -> Iterable[Ref]:
        out = [Ref(self.planner, "planner")] + [Ref(name, "step") for name in self.models]
        return [*out, Ref(self.validator, "validator")] if self.validator else out

    async def retire(self) -> None:
        """Ends tool servers and sandbox as soon as the runs that are under way no longer call them."""
        await end_each({"tools": self.broker.retire(), "sandbox": self.sandbox.retire()})

    async def aclose(self) -> None:
        await end_each({"tools": self.broker.aclose(), "sandbox": self.sandbox.aclose()})

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """Which models and tools may be used; the plan itself is the planner's, made while answering."""
        check_talk(request, self.name, self.kind)
        names = list(dict.fromkeys((self.planner, *self.models)))
        infos = {name: info for name in names if (info := run.model(name)) is not None}
        order = [name for name in names if name not in infos or infos[name].usable]
        reasons = dict.fromkeys(names, "may be used for steps")
        for name, info in infos.items():
            if info.capabilities:
                reasons[name] += f": {', '.join(info.capabilities)}"
        reasons[self.planner] = "plans and writes"
        reasons |= {name: info.reason for name, info in infos.items() if not info.usable}
        bounds = [bound for bound in (self.caps.max_cost, run.envelope.room()) if bound is not None]
        worst = max(0, min(bounds)) if bounds else None
        facts = {
            "models": {name: list(infos[name].capabilities) if name in infos else [] for name in order},
            "tools": list(self.tools),
            "max_steps": self.caps.max_steps,
            "worst_case_usd": None if worst is None else dollars(worst),
        }
        return Plan(
            strategy=self.kind,
            order=order,
            reasons=reasons,
            worst_case=worst,
            facts={"agent": facts},
            data=order,
        )

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        ends = run.clock.monotonic() + self.caps.deadline if self.caps.deadline is not None else None
        run = run.child(envelope=run.envelope.child(deadline=ends, money=self.caps.max_cost, calls=self.caps.max_calls))
        _without_tools(request, run)
        patience = Patience(run, self.grace)
        return await patience.see_through(self._answer(request, run, plan, patience))

    async def _answer(self, request: Request, run: Run, plan: Plan, patience: Patience) -> Answer:
        await run.progress("planning")
        facts: dict[str, Any] = {"run": new_id("run")}
        run.trace.facts["agent"] = facts
        team = Team(run, [name for name in plan.order if name == self.planner or name in self.models])
        tools = await self._tools(run)
        planner = Planner(
            request, run, name=self.planner, team=team, tools=tools, validator=self.validator, most=self.caps.max_steps
        )
        try:
            steps = await planner.plan()
        except BadPlan as error:
            # A plan that cannot be made is no reason to leave the user without an answer.
            reason = str(error)
            run.decide("agent", self.planner, because=f"no plan ({reason[:200]}): a plain answer instead")
            facts |= {"plan": None, "fallback": reason[:500]}
            answer = Summed(await self._plainly(request, run, team), run)
            return PlainAnswer(answer, patience) if request.stream else answer
        names = ", ".join(step.name for step in steps.steps)
        run.decide("agent", self.planner, because=f"planned {len(steps.steps)} steps: {names}")
        facts |= {"plan": shown(steps), "steps": []}
        if self.plan_only:
            listed = "\n".join(f"- {step['id']}: {step['what']}" for step in facts["plan"]["steps"])
            return said(f"The plan:\n{listed}", self.planner, used_by(run))
        work = Work(request, run, plan=steps, team=team, writer=self.planner, planner=planner)

        def executor(tell: Callable[[Outcome], Awaitable[None]]) -> Executor:
            return Executor(
                request,
                run,
                team=team,
                tools=tools,
                validator=self.validator,
                sandbox=self.sandbox,
                caps=self.caps.step,
                tell=tell,
            )

        if not request.stream:
            return await work.whole(executor)
        info = run.model(self.planner)
        upstream = info.upstream if info else self.planner
        return AgentAnswer(work, executor, patience, model=self.planner, upstream=upstream)

    async def _plainly(self, request: Request, run: Run, team: Team) -> Answer:
        """The planner's own answer, without a plan."""
        fields: dict[str, Any] = {"tools": [], "tool_choice": None} if request.content().tools else {}
        if self.caps.max_cost is not None and request.peek.max_tokens is None:
            fields["max_tokens"] = STEP_TOKENS
        asked = request.edited(**fields) if fields else request
        return await ask(run, team.stand_ins(self.planner, asked), asked, role="writer")

    async def _tools(self, run: Run) -> dict[str, Tool]:
        """What can be reached; what cannot is told and planned without."""
        tools, unreachable = await self.broker.offered(self.tools)
        for name, why in unreachable.items():
            run.decide("tools", None, over=[name], because=f"planned without {name}: {why}")
        return tools


def _without_tools(request: Request, run: Run) -> None:
    """An agent uses its own tools; the client's are left out, which is told. One that the client demands cannot be. Raises
    InvalidRequest."""
    content = request.content()
    if not content.tools:
        return
    if content.tool_choice is not None and content.tool_choice.mode in ("required", "named"):
        raise InvalidRequest("an agent calls its own tools only: no call can be demanded of it", param="tool_choice")
    run.trace.lose("tools")
    run.decide("tools", None, over=[tool.name for tool in content.tools], because="an agent uses its own tools only")
