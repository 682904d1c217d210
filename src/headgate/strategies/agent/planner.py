"""Asks for a plan, checks it before anything runs, and has it repaired once."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from headgate.core.chat import ChatRequest, Message, Text, text_of
from headgate.core.errors import HeadgateError
from headgate.core.request import Request
from headgate.core.strategy import Run
from headgate.strategies.agent.asking import STEP_TOKENS, ask_text, plain
from headgate.strategies.agent.execute import step_request, validation_request
from headgate.strategies.agent.plan import BadPlan, Plan, check_plan, parse_plan
from headgate.strategies.agent.team import Team
from headgate.strategies.failed import FINAL
from headgate.tools.broker import Tool

PLAN = (
    "You are a planner. Break the user's request into steps and reply with JSON only:\n"
    '{{"steps": [{{"name": "s1", "model": "...", "query": "..."}}]}}\n'
    "models: {models}\n"
    "tools: {tools}\n"
    "A step is a model call (query, and model or capability) or a tool call (tool, args). $name in a query or an argument "
    "stands for that step's result; steps that do not need each other run at the same time. A step may have a check: "
    '{{"contains": "text"}}, {{"excludes": "text"}}, {{"min_chars": 1}}, {{"schema": {{...}}}} or '
    '{{"python": "int(result) > 0"}}. '
    "At most {most} steps; one is fine."
)
LONGEST_TOOL = 1500
"""Characters of one tool's description and schema that a planner is told."""


class Planner:
    """`name` plans; where it fails another of the team does."""

    def __init__(
        self,
        request: Request,
        run: Run,
        *,
        name: str,
        team: Team,
        tools: Mapping[str, Tool],
        validator: str | None,
        most: int,
    ) -> None:
        self._request = request
        self._run = run
        self._name = name
        self._team = team
        self._tools = tools
        self._validator = validator
        self._most = most

    async def plan(self, *, report: str = "", kept: Mapping[str, str] | None = None, used: int = 0) -> Plan:
        """A plan that may run. `report`: what has happened so far, in our own words; `kept`: results that it may refer to;
        `used`: how many of the run's steps are gone. Raises BadPlan; BudgetExceeded and the like where no plan could
        help."""
        most = self._most - used
        if most < 1:
            raise BadPlan(f"the run has used all of its {self._most} steps")
        messages = [Message(role="system", content=[Text(text=self._system(most))]), *plain(self._spoken())]
        if report:
            messages.append(Message(role="user", content=[Text(text=report)]))
        problem = ""
        for _ in (1, 2):
            text = await self._ask(messages)
            try:
                plan = parse_plan(text)
                check_plan(
                    plan,
                    models=self._team.names,
                    capabilities=self._team.capabilities(),
                    tools=self._tools,
                    max_steps=most,
                    kept=kept or {},
                )
                self._assign(plan)
                self._check_cost(plan)
            except BadPlan as error:
                problem = str(error)
                said = Message(role="assistant", content=[Text(text=text[:4000] or "-")])
                again = f"That plan cannot run: {problem}. Reply with a JSON plan."
                messages = [*messages, said, Message(role="user", content=[Text(text=again)])]
                continue
            return plan
        raise BadPlan(problem)

    async def _ask(self, messages: list[Message]) -> str:
        content = ChatRequest(model=self._name, messages=messages, temperature=0.0, max_tokens=STEP_TOKENS)
        try:
            return await ask_text(self._run, self._team, self._name, self._request.edited(content), role="planner")
        except FINAL:
            raise
        except HeadgateError as error:
            raise BadPlan(f"the planner failed: {error.message}") from error

    def _system(self, most: int) -> str:
        offered = "; ".join(_described(tool) for tool in self._tools.values()) or "none"
        text = PLAN.format(most=most, models=self._team.described(), tools=offered)
        rules = "\n".join(text_of(m.content) for m in self._request.content().messages if _is_rule(m))
        return f"{text}\n\nThe application's own instructions:\n{rules}" if rules else text

    def _spoken(self) -> list[Message]:
        return [message for message in self._request.content().messages if not _is_rule(message)]

    def _assign(self, plan: Plan) -> None:
        """Steps that name a capability get the model that the registry chooses; the others without one the planner's."""
        for step in plan.steps:
            if step.tool is not None or step.model is not None:
                continue
            if step.capability is None:
                step.model = self._name
                continue
            chosen = self._team.choose(step.capability, step_request(step, self._request, {}))
            if not chosen.ranked:
                why = "; ".join(f"{name}: {reason}" for name, reason in chosen.out.items())
                raise BadPlan(f"{step.name}: no model can do {step.capability!r} now ({why[:300]})")
            step.model = next(iter(chosen.ranked))
            others = [name for name in (*chosen.ranked, *chosen.out) if name != step.model]
            because = f"{step.name} needs {step.capability}: {chosen.ranked[step.model]}"
            left_out = {name: reason[:100] for name, reason in chosen.out.items()}
            self._run.decide("step_model", step.model, over=others, because=because, left_out=left_out)

    def _check_cost(self, plan: Plan) -> None:
        """What the plan costs at most, checks and final text included, must fit what the run may still spend."""
        room = self._run.envelope.room()
        if room is None:
            return
        asked: list[tuple[str, Request]] = [(self._name, self._request.edited(max_tokens=STEP_TOKENS))]
        for step in plan.steps:
            if step.tool is None:
                request = step_request(step, self._request, dict.fromkeys(step.references(), "x" * (3 * STEP_TOKENS)))
                asked.append((step.model or self._name, request))
                if self._validator is not None:
                    asked.append(
                        (self._validator, validation_request(step, "x" * (3 * STEP_TOKENS), self._request, ""))
                    )
        total = sum(self._run.plan(name, request).worst_case or 0 for name, request in asked)
        if total > room:
            raise BadPlan("its worst case costs more than the run may spend: fewer steps or cheaper models")


def _is_rule(message: Message) -> bool:
    return message.role in ("system", "developer")


def _described(tool: Tool) -> str:
    schema = msgspec.json.encode(dict(tool.schema)).decode()
    return f"{tool.name}: {tool.description} args: {schema}"[:LONGEST_TOOL].replace("\n", " ")
