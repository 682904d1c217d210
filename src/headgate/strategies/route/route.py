"""Task routing: classify, choose by the rule, and fall back to the other candidates and `otherwise`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headgate.core.answer import Answer
from headgate.core.chat import Message, Text
from headgate.core.errors import AllModelsUnavailable, Overloaded, UpstreamFault
from headgate.core.money import dollars
from headgate.core.request import Request
from headgate.core.strategy import Plan, Ref, Run
from headgate.strategies.fallback import Fallback, Target
from headgate.strategies.route.choose import PREFER, Scored, Weights, rank
from headgate.strategies.route.classify import Classifier, Task, asked_of
from headgate.strategies.route.learned import Learned

_PARAMETERS = ("temperature", "top_p", "max_tokens")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[str, ...]
    weights: Weights = Weights()
    system: str | None = None
    system_always: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    zone: str | None = None
    tags: frozenset[str] = frozenset()


class Route:
    kind = "route"

    def __init__(
        self,
        name: str,
        rules: Mapping[str, Rule],
        *,
        otherwise: str,
        classifier: Classifier | None = None,
    ) -> None:
        self.name = name
        self.rules = rules
        self.otherwise = otherwise
        self.classifier = classifier if classifier is not None else Learned()

    def refs(self) -> Iterable[Ref]:
        names = dict.fromkeys(model for rule in self.rules.values() for model in rule.models)
        return [*(Ref(name) for name in names), Ref(self.otherwise, "otherwise")]

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """Pure: labels, candidates with each filter's reason, order, what it would cost and save."""
        task = self.classifier.classify(asked_of(request.content()))
        rule = self._rule(task, run)
        ranked = self._ranked(request, run, task, rule)
        inside = [row for row in ranked if row.out is None]
        order = [row.info.name for row in inside]
        reasons = {row.info.name: row.out for row in ranked if row.out is not None}
        for place, row in enumerate(inside):
            reasons[row.info.name] = self._because(task, row) if place == 0 else "the task's next candidate"
        if rule is not None:
            # A rule may name strategies too: they have no catalogue row to be ranked by, and keep their place.
            order += [name for name in rule.models if run.model(name) is None]
        if self.otherwise not in order:
            order.append(self.otherwise)
        reasons.setdefault(self.otherwise, f"no rule for {task.label!r}" if len(order) == 1 else "if the others fail")
        child = run.plan(order[0], request)
        plan = Plan(
            strategy=self.kind,
            order=order,
            reasons={name: why for name, why in reasons.items() if why},
            worst_case=self._worst(order, request, run),
            facts={"task": _shown(task)},
            data=(task, rule),
            predicted_cost=child.predicted_cost,
            predicted_latency=child.predicted_latency,
        )
        self._save(plan, request, run)
        return plan

    def _rule(self, task: Task, run: Run) -> Rule | None:
        rule = self.rules.get(task.label)
        if rule is None or not rule.tags <= set(run.trace.tags):
            return None
        return rule

    def _ranked(self, request: Request, run: Run, task: Task, rule: Rule | None) -> list[Scored]:
        prefer = request.options.prefer
        names = rule.models if rule is not None else ()
        if prefer is not None:
            names = tuple(dict.fromkeys(model for r in self.rules.values() for model in r.models))
        infos = [info for info in (run.model(name) for name in names) if info is not None]
        if rule is not None and rule.capabilities:
            infos = [info for info in infos if rule.capabilities <= set(info.capabilities)]
        weights = PREFER[prefer] if prefer is not None else rule.weights if rule is not None else Weights()
        zone = rule.zone if rule is not None else None
        return rank(request, infos, task.label, weights, zone=zone, room=run.envelope.room())

    def _because(self, task: Task, row: Scored) -> str:
        words = f"{task.label} ({task.confidence:.2f})"
        return f"{words}: {', '.join(task.signals[:3])}" if task.signals else words

    def _worst(self, order: list[str], request: Request, run: Run) -> int | None:
        total = 0
        for name in order:
            worst = run.plan(name, request).worst_case
            if worst is None:
                return None
            total += worst
        return total

    def _save(self, plan: Plan, request: Request, run: Run) -> None:
        """What the choice saves against sending everything to the dearest of the route's models."""
        names = dict.fromkeys(model for rule in self.rules.values() for model in rule.models)
        costs = [run.plan(name, request).predicted_cost for name in names if run.model(name) is not None]
        known = [cost for cost in costs if cost is not None]
        if known and plan.predicted_cost is not None and max(known) > plan.predicted_cost:
            plan.facts["saved_usd"] = dollars(max(known) - plan.predicted_cost)

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        task, rule = plan.data
        chosen = plan.order[0]
        run.decide("route", chosen, over=plan.order[1:], because=plan.reasons.get(chosen, ""), task=task.label)
        candidates = [name for name in plan.order if name != self.otherwise] or [self.otherwise]
        ruled = rule is not None and candidates != [self.otherwise]
        chain = Fallback(self.name, [Target(name) for name in candidates])
        edited = self._apply(request, rule, run) if ruled and rule is not None else request
        if candidates == [self.otherwise]:
            return await run.ask(self.otherwise, request)
        try:
            return await chain.answer(edited, run, chain.plan(edited, run))
        except (AllModelsUnavailable, UpstreamFault, Overloaded) as error:
            if isinstance(error, UpstreamFault) and error.kind not in chain.move_on:
                raise
            run.decide(
                "fallback", self.otherwise, over=candidates, because=f"the task's own models failed: {error.code}"
            )
            return await run.ask(self.otherwise, edited)

    def _apply(self, request: Request, rule: Rule, run: Run) -> Request:
        """The rule's system text and parameters, only where the client has set none (or the rule says always)."""
        content = request.content()
        fields: dict[str, Any] = {
            name: value
            for name in _PARAMETERS
            if (value := getattr(rule, name)) is not None and getattr(content, name) is None
        }
        if "temperature" in fields and content.reasoning is not None:
            del fields["temperature"]  # thinking models take only their own
            run.decide("parameter", None, over=["temperature"], because="the request asks for reasoning: left out")
        has_system = any(message.role in ("system", "developer") for message in content.messages)
        if rule.system is not None and (rule.system_always or not has_system):
            system = Message(role="system", content=[Text(text=rule.system)])
            fields["messages"] = [system, *content.messages]
        return request.edited(**fields) if fields else request


def _shown(task: Task) -> dict[str, Any]:
    """The `task` part of the `headgate` object: the likely labels only."""
    likely = sorted(((label, p) for label, p in task.labels.items() if p >= 0.03), key=lambda row: -row[1])
    return {
        "label": task.label,
        "confidence": round(task.confidence, 3),
        "labels": {label: round(p, 3) for label, p in likely},
        "signals": list(task.signals),
    }
