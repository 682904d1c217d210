"""The agent: plans, executes with models and tools, verifies, synthesises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headgate.core.answer import Answer
from headgate.core.chat import ChatRequest, Message, Text
from headgate.core.errors import BudgetExceeded, DeadlineExceeded, HeadgateError
from headgate.core.ids import new_id
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.strategies.agent.answer import AgentAnswer
from headgate.strategies.agent.execute import STEP_TOKENS, ask_text
from headgate.strategies.agent.patience import GRACE, Patience
from headgate.strategies.agent.plan import BadPlan, check_plan, parse_plan
from headgate.strategies.agent.plan import Plan as Steps
from headgate.strategies.agent.work import Work, said, shown
from headgate.tools.broker import Broker, Tool, ToolFailed
from headgate.tools.python import Python

MAX_STEPS = 20
PLAN = (
    "You are a planner. Break the user's request into steps and reply with JSON only:\n"
    '{{"steps": [{{"name": "s1", "model": "...", "query": "..."}}]}}\n'
    "A step is a model call (model, query) or a tool call (tool, args). $name in a query or an argument stands for that "
    "step's result; steps that do not need each other run at the same time. At most {most} steps; one is fine.\n"
    "models: {models}\ntools: {tools}"
)


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
        max_cost: int | None = None,
        max_steps: int = MAX_STEPS,
        deadline: float | None = None,
        grace: float = GRACE,
    ) -> None:
        """Money in nano-US$, times in seconds. `grace`: how long a run goes on whose client has left."""
        self.name = name
        self.planner = planner
        self.validator = validator
        self.models = tuple(dict.fromkeys(models))
        self.tools = tuple(tools)
        self.broker = broker
        self.sandbox = sandbox
        self.plan_only = plan_only
        self.max_cost = max_cost
        self.max_steps = max_steps
        self.deadline = deadline
        self.grace = grace

    def refs(self) -> Iterable[Ref]:
        out = [Ref(self.planner, "planner")] + [Ref(name, "step") for name in self.models]
        return [*out, Ref(self.validator, "validator")] if self.validator else out

    async def aclose(self) -> None:
        await self.broker.aclose()
        await self.sandbox.aclose()

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """Which models and tools may be used; the plan itself is the planner's, made while answering."""
        order = [name for name in (self.planner, *self.models) if (i := run.model(name)) is None or i.usable]
        order = list(dict.fromkeys(order))
        reasons = {name: "may be used for steps" for name in order}
        reasons[self.planner] = "plans and writes"
        facts = {"agent": {"models": order, "tools": list(self.tools), "max_steps": self.max_steps}}
        return Plan(strategy=self.kind, order=order, reasons=reasons, worst_case=self.max_cost, facts=facts)

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        ends = run.clock.monotonic() + self.deadline if self.deadline is not None else None
        run = run.child(envelope=run.envelope.child(deadline=ends, money=self.max_cost))
        patience = Patience(run, self.grace)
        return await patience.see_through(self._answer(request, run, plan, patience))

    async def _answer(self, request: Request, run: Run, plan: Plan, patience: Patience) -> Answer:
        await run.progress("planning")
        facts: dict[str, Any] = {"run": new_id("run")}
        run.trace.facts["agent"] = facts
        try:
            tools = await self.broker.offered(self.tools)
            steps = await self._planned(request, run, tools, plan.order)
        except (BadPlan, ToolFailed) as error:
            # A plan that cannot be made is no reason to leave the user without an answer.
            reason = str(error)
            run.decide("agent", self.planner, because=f"no plan ({reason[:200]}): a plain answer instead")
            facts |= {"plan": None, "fallback": reason[:500]}
            bounded = request if request.peek.max_tokens else request.edited(max_tokens=STEP_TOKENS)
            return await run.ask(self.planner, bounded if self.max_cost is not None else request)
        names = ", ".join(step.name for step in steps.steps)
        run.decide("agent", self.planner, because=f"planned {len(steps.steps)} steps: {names}")
        facts |= {"plan": shown(steps), "steps": []}
        if self.plan_only:
            listed = "\n".join(f"- {step['id']}: {step['what']}" for step in facts["plan"]["steps"])
            return said(f"The plan:\n{listed}", self.planner)
        work = Work(
            request,
            run,
            plan=steps,
            tools=tools,
            planner=self.planner,
            validator=self.validator,
            sandbox=self.sandbox,
            replan=lambda report: self._planned(request, run, tools, plan.order, so_far=report),
        )
        if not request.stream:
            return await work.whole()
        info = run.model(self.planner)
        return AgentAnswer(work, patience, model=self.planner, upstream=info.upstream if info else self.planner)

    async def _planned(
        self, request: Request, run: Run, tools: dict[str, Tool], models: Sequence[str], so_far: str = ""
    ) -> Steps:
        """The planner's plan, checked; repaired once with what was wrong. Raises BadPlan."""
        offered = "; ".join(f"{t.name}: {t.description}" for t in tools.values()) or "none"
        system = PLAN.format(most=self.max_steps, models=", ".join(models), tools=offered)
        base = [m for m in request.content().messages if m.role not in ("system", "developer")]
        messages = [Message(role="system", content=[Text(text=system)]), *base]
        if so_far:
            messages.append(Message(role="user", content=[Text(text=so_far)]))
        problem = ""
        for _ in (1, 2):
            content = ChatRequest(model=self.planner, messages=messages, temperature=0.0, max_tokens=STEP_TOKENS)
            try:
                text = await ask_text(run, self.planner, request, content, role="planner")
            except (BudgetExceeded, DeadlineExceeded):
                raise
            except HeadgateError as error:
                raise BadPlan(f"the planner failed: {error.message}") from error
            try:
                steps = parse_plan(text)
                check_plan(steps, models=models, tools=tools, max_steps=self.max_steps)
                self._check_cost(steps, request, run)
            except BadPlan as error:
                problem = str(error)
                said = Message(role="assistant", content=[Text(text=text[:4000] or "-")])
                again = Message(
                    role="user", content=[Text(text=f"That plan cannot run: {problem}. Reply with a JSON plan.")]
                )
                messages = [*messages, said, again]
                continue
            return steps
        raise BadPlan(problem)

    def _check_cost(self, steps: Steps, request: Request, run: Run) -> None:
        """The plan's worst case must fit what the run may still spend."""
        room = run.envelope.room()
        if room is None:
            return
        total, bounded = 0, request.edited(max_tokens=STEP_TOKENS)
        for step in steps.steps:
            if step.tool is None:
                total += run.plan(step.model or self.planner, bounded).worst_case or 0
        if total > room:
            raise BadPlan("its worst case costs more than the run may spend: fewer steps or cheaper models")
