"""Task routing: classify, choose by the rule, and fall back to the other candidates and `otherwise`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from headgate.core.answer import Answer
from headgate.core.asked import Asked
from headgate.core.money import dollars
from headgate.core.records import RequestRecord
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo, Plan, Ref, Run
from headgate.core.trace import Trace
from headgate.strategies.conversation import conversation_of
from headgate.strategies.fallback import Fallback, Target
from headgate.strategies.route.asking import Asking
from headgate.strategies.route.beliefs import Prior
from headgate.strategies.route.choose import PREFER, Candidate, Explored, Limits, Weights, corrected, explore, rank
from headgate.strategies.route.classify import UNKNOWN, Classifier, Task
from headgate.strategies.route.costs import Costs, fits, not_covered, total
from headgate.strategies.route.learning import Conversation, Learning, opened, prior_of
from headgate.strategies.route.needs import needs_of
from headgate.strategies.route.neighbours import features
from headgate.strategies.route.rules import Rule, rule_for
from headgate.strategies.route.strengths import Strengths, prior_by
from headgate.strategies.route.words import because, circumstances, default_because, next_because, shown, who_bounds
from headgate.strategies.single import worst_of

STICKY = 3600.0
"""Seconds for which a conversation stays with its model while its task does not change."""


class Sampling(msgspec.Struct, frozen=True):
    """A judge scores this share of the answers, for at most `daily` nano-US$ a day. engine/judging.py asks it."""

    model: str
    share: float
    daily: int
    timeout: float = 20.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the route learns from, and how much it explores."""

    feedback: bool = True
    implicit: bool = True
    neighbours: bool = True
    explore: float = 0.0
    seed: int = 0
    judge: Sampling | None = None


class Choice(msgspec.Struct):
    """A plan's own data: what `answer` and learning need of it."""

    task: Task
    rule: Rule | None
    rows: list[Candidate]
    explored: Explored | None
    note: str | None = None
    room: int | None = None
    """Nano-US$ that budgets cover, where the rule allows a downgrade for it: nothing beyond is planned."""
    asking: Literal["ask", "uncovered"] | None = None
    """The task is a guess: a model has yet to name it, or will not be asked for want of money."""
    left: int | None = None
    """Of an open choice under a budget's pressure: nano-US$ for the task, beside the question of which it is."""


class Route:
    kind = "route"

    def __init__(
        self,
        name: str,
        rules: Mapping[str, Sequence[Rule]],
        *,
        otherwise: str,
        classifier: Classifier,
        settings: Settings | None = None,
        learning: Learning | None = None,
        strengths: Strengths | None = None,
    ) -> None:
        self.name = name
        self.rules = rules
        self.otherwise = otherwise
        self.classifier = classifier
        self.settings = settings or Settings()
        self.learning = learning or Learning()
        self.strengths: Strengths = strengths or {}
        self._priors: dict[str, dict[str, Prior]] = {}
        """Task → model → what was known of it before anything was seen."""
        self._baseline: dict[str | None, str] = {}
        """By the zone that a key is confined to."""

    def refs(self) -> Iterable[Ref]:
        downgrades = dict.fromkeys(name for rule in self._all() for name in rule.downgrade)
        out = [*(Ref(name) for name in {**self._models(), **downgrades}), Ref(self.otherwise, "otherwise")]
        if isinstance(self.classifier, Asking):
            out.append(Ref(self.classifier.model, "classifier"))
        return out

    def _all(self) -> list[Rule]:
        return [rule for rules in self.rules.values() for rule in rules]

    def _models(self) -> dict[str, None]:
        return dict.fromkeys(model for rule in self._all() for model in rule.models)

    # -- plan --------------------------------------------------------------------------------------------------------
    def plan(self, request: Request, run: Run) -> Plan:
        """Pure: labels, candidates with each filter's reason, order, what it would cost and save."""
        asked, classifier = request.asked(), self.classifier
        if isinstance(classifier, Asking) and classifier.remembered(asked) is None:
            return self._open(classifier, asked, request, run)
        return self.planned(classifier.classify(asked), request, run, covered=request.options.covered)

    def _open(self, classifier: Asking, asked: Asked, request: Request, run: Run) -> Plan:
        """While a model has yet to name the task: what asking it and the dearest task can cost. Where budgets do not cover
        every task, the others are planned within what is left beside the question. Nobody is asked where that would cost a
        task its answer."""
        costs, covered = Costs(request, run), request.options.covered
        asking = classifier.worst(asked, request, run)
        left = None if covered is None else covered - asking if asking is not None else 0
        guess = classifier.classify(asked)
        plan = self.planned(guess, request, run, covered=left, costs=costs)
        tasks = {label: self._worst_of(label, left, costs, request, run) for label in (*self.rules, UNKNOWN)}
        if left is not None:
            out = [label for label, worst in tasks.items() if not fits(worst, left)]
            lost = any(fits(self._worst_of(label, covered, costs, request, run), covered or 0) for label in out)
            if lost or len(out) == len(tasks):
                plan = self.planned(guess, request, run, covered=covered, costs=costs)
                plan.data.asking = "uncovered"
                return plan
            plan.is_partial = bool(out)
            tasks = {label: worst for label, worst in tasks.items() if label not in out}
        dearest = None if None in tasks.values() else max(worst or 0 for worst in tasks.values())
        plan.worst_case = total([asking, dearest])
        plan.downgrades = any(rule.downgrade for rule in self._all())
        plan.data.asking, plan.data.left = "ask", left
        plan.facts["route"]["asks"] = classifier.model
        return plan

    def _worst_of(self, label: str, covered: int | None, costs: Costs, request: Request, run: Run) -> int | None:
        """Of a task that may yet be named."""
        return self.planned(Task(label, 1.0, {}, ()), request, run, covered=covered, costs=costs).worst_case

    def planned(
        self, task: Task, request: Request, run: Run, *, covered: int | None = None, costs: Costs | None = None
    ) -> Plan:
        """The plan for a task that somebody has named; as pure. `covered`: as `Options.covered`, for this plan."""
        rule = rule_for(self.rules.get(task.label, ()), run)
        choice = self._choose(task, rule, covered, request, run)
        order, reasons = self._ordered(task, rule, choice, run)
        ruled = set(order)
        if self.otherwise not in order:
            order.append(self.otherwise)
        costs = costs or Costs(request, run)
        for row in choice.rows:
            costs.note(row.info.name, row.worst)
        if choice.room is not None:
            order = costs.covered(order, choice.room) or order
        if self.otherwise not in ruled:
            reasons[self.otherwise] = default_because(task, rule is not None, order, reasons.get(self.otherwise))
        first = next((row for row in choice.rows if row.out is None and row.info.name in order), None)
        child = run.plan(order[0], request) if first is None else None
        plan = Plan(
            strategy=self.kind,
            order=order,
            reasons={name: why for name, why in reasons.items() if why},
            worst_case=costs.total(order),
            facts=self._facts(choice, request, run),
            data=choice,
            downgrades=rule is not None and bool(rule.downgrade),
        )
        if first is not None:
            plan.predicted_cost, plan.predicted_latency = first.cost, first.latency
        elif child is not None:
            plan.predicted_cost, plan.predicted_latency = child.predicted_cost, child.predicted_latency
            plan.tags = child.tags
        if (best := self._best(run)) is not None:
            plan.facts["baseline"] = best
        return plan

    @staticmethod
    def _ordered(task: Task, rule: Rule | None, choice: Choice, run: Run) -> tuple[list[str], dict[str, str]]:
        """What the rule has for the task, best first; and of each candidate why it stands there, or what keeps it out."""
        inside = [row for row in choice.rows if row.out is None]
        order = [row.info.name for row in inside]
        reasons = {row.info.name: row.out for row in choice.rows if row.out is not None}
        for place, row in enumerate(inside):
            reasons[row.info.name] = because(task, choice.note) if place == 0 else next_because(row)
        if rule is not None:
            # A rule may name strategies too: they have no catalogue row to be ranked by, and keep their place.
            ranked = {row.info.name for row in choice.rows}
            others = [name for name in rule.models if name not in ranked and run.model(name) is None]
            order += others
            reasons |= {name: because(task, None) if name == order[0] else next_because(None) for name in others}
        return order, reasons

    def _choose(self, task: Task, rule: Rule | None, covered: int | None, request: Request, run: Run) -> Choice:
        prefer = request.options.prefer
        names = tuple(self._models()) if prefer is not None else rule.models if rule is not None else ()
        weights = PREFER[prefer] if prefer is not None else rule.weights if rule is not None else Weights()
        room = run.envelope.room()
        pressed = covered if rule is not None and rule.downgrade else None
        if pressed is not None:
            room = pressed if room is None else min(room, pressed)
        limits = rule.limits(room) if rule is not None else Limits(room=room)
        home = self._home(request, run)
        rows = rank(request, self._candidates(names, task, home, request, run), weights, limits)
        choice = Choice(task, rule, rows, None)
        choice.room = pressed
        if rule is not None and rule.downgrade and not any(row.out is None for row in rows):
            poorer = self._candidates(rule.downgrade, task, home, request, run)
            ranked = rank(request, poorer, weights, limits)
            ranked.sort(key=lambda row: (row.out is not None, rule.downgrade.index(row.info.name)))
            choice.rows = ranked + rows
            choice.note = f"downgraded: the rule's own models cost more than {who_bounds(pressed)}"
            return choice
        inside = [row for row in rows if row.out is None]
        kept = self._kept(home, task, inside) if prefer is None else None
        if kept is not None:
            rows.remove(kept)
            rows.insert(0, kept)
            choice.note = "it has this conversation"
        elif self.settings.explore and prefer is None and len(inside) > 1:
            seed = f"{self.settings.seed} {run.trace.id}"
            choice.explored = explore(inside, weights, share=self.settings.explore, seed=seed)
            for row, chance in zip(inside, choice.explored.shares, strict=True):
                row.propensity = chance
            if choice.explored.chosen:
                rows.insert(0, rows.pop(choice.explored.chosen))
                choice.note = "explored"
        return choice

    def _candidates(
        self, names: Iterable[str], task: Task, home: Conversation | None, request: Request, run: Run
    ) -> list[Candidate]:
        rows = [self._candidate(info, task, home, request, run) for name in names if (info := run.model(name))]
        if len(rows) > 1 and len(self.learning.neighbours):
            asked = features(request.asked().last)
            near = self.learning.neighbours.corrections(asked, [row.info.name for row in rows])
            corrected(rows, near)
        return rows

    def _candidate(
        self, info: ModelInfo, task: Task, home: Conversation | None, request: Request, run: Run
    ) -> Candidate:
        prior = self._priors_of(task.label, run)[info.name]
        belief = self.learning.beliefs.quality(task.label, info.name, prior)
        return Candidate(
            info,
            belief,
            belief.mean,
            self.learning.cost(request, task.label, info, home),
            worst_of(request, info),
            self.learning.seconds(task.label, info),
            prior=prior,
        )

    def _home(self, request: Request, run: Run) -> Conversation | None:
        if not request.peek.multi_turn:
            return None
        conversation, _ = conversation_of(request.asked(), run.principal.key_id)
        return self.learning.home(conversation, run.clock.time(), within=STICKY)

    @staticmethod
    def _kept(home: Conversation | None, task: Task, inside: Sequence[Candidate]) -> Candidate | None:
        """The conversation's model, while it is well and the task is the same (or nothing that one could tell)."""
        if home is None or task.label not in (home.task, "unknown"):
            return None
        return next((row for row in inside if row.info.name == home.model and row.info.health > 0), None)

    def _facts(self, choice: Choice, request: Request, run: Run) -> dict[str, Any]:
        candidates = [row.shown() for row in choice.rows]
        route: dict[str, Any] = {"entry": self.name, "candidates": candidates, "asked": circumstances(request, run)}
        if choice.explored is not None:
            route["propensity"] = round(choice.explored.propensity, 4)
            route["explored"] = choice.explored.drawn
        task = shown(choice.task)
        if request.options.details:  # a tenth of a millisecond that only those who look at it need
            task["needs"] = needs_of(request.asked(), request)
        return {"task": task, "route": route}

    def _best(self, run: Run) -> str | None:
        """The "always best" baseline that savings are counted against: of the route's models the one with the highest
        shipped quality over all of its tasks, the dearer one among equals. Beliefs do not move it: it stays one model."""
        zone = run.principal.zone
        if zone not in self._baseline:
            found = [info for name in self._models() if (info := run.model(name)) is not None and info.usable]
            if not found:
                return None
            best = max(found, key=lambda info: (sum(prior_of(task, info).mean for task in self.rules), _rate(info)))
            self._baseline[zone] = best.name
        return self._baseline[zone]

    # -- answer ------------------------------------------------------------------------------------------------------
    async def answer(self, request: Request, run: Run, plan: Plan) -> Answer:
        if isinstance(self.classifier, Asking):
            plan = await self._named(self.classifier, request, run, plan)
        self._tell_downgrade(plan, request, run)
        choice: Choice = plan.data
        run.trace.facts.update(plan.facts)
        chosen, rule = plan.order[0], choice.rule
        more = {} if choice.explored is None else {"propensity": choice.explored.propensity}
        run.decide(
            "route", chosen, over=plan.order[1:], because=plan.reasons.get(chosen, ""), task=choice.task.label, **more
        )
        self._remember(choice, request, run)
        own = rule is not None and self.otherwise in rule.models
        candidates = [name for name in plan.order if name != self.otherwise or own]
        if not candidates:
            return await run.ask(self.otherwise, request)
        edited = rule.touch.apply(request, run) if rule is not None else request
        # `otherwise` ends the chain, so that it also goes on with a stream that breaks after its first words.
        last = () if own or self.otherwise not in plan.order else (self.otherwise,)
        chain = _chain(self.name, (*candidates, *last))
        return await chain.answer(edited, run, chain.plan(edited, run, costs=False))

    async def _named(self, classifier: Asking, request: Request, run: Run, plan: Plan) -> Plan:
        """The plan for the task that the model names. Raises BudgetExceeded where the budgets do not cover that task."""
        asked, guess = request.asked(), plan.data
        if guess.asking == "uncovered":
            classifier.without(asked, run, "is not asked, since budgets do not cover that too")
        if guess.asking != "ask":
            return plan
        task = await classifier.ask(asked, request, run)
        named = self.planned(task, request, run, covered=guess.left)
        if guess.left is not None and not fits(named.worst_case, guess.left):
            raise not_covered(task.label, named.worst_case, guess.left)
        return named

    def _tell_downgrade(self, plan: Plan, request: Request, run: Run) -> None:
        """Under a budget's pressure: what was left out for it."""
        choice: Choice = plan.data
        if choice.room is None:
            return
        full = self.planned(choice.task, request, run)
        if not fits(full.worst_case, choice.room):
            over = [name for name in full.order if name not in plan.order]
            could = dollars(full.worst_case or 0)
            why = f"budgets cover ${dollars(choice.room)} of the ${could} that it could have cost"
            run.decide("downgrade", plan.order[0], over=over, because=why)

    def _priors_of(self, task: str, run: Run) -> dict[str, Prior]:
        """Found once: a model's catalogue row does not change under a compiled route."""
        known = self._priors.get(task)
        if known is None:
            infos = (run.model(ref.name) for ref in self.refs())
            known = self._priors[task] = {
                info.name: prior_by(self.strengths, task, info) for info in infos if info is not None
            }
        return known

    # -- learning ----------------------------------------------------------------------------------------------------
    def _remember(self, choice: Choice, request: Request, run: Run) -> None:
        predicted = {row.info.name: row.cost for row in choice.rows if row.cost is not None}
        asked = opened(request, run.principal.key_id, choice.task.label, predicted)
        self._priors_of(choice.task.label, run)
        sign = self.learning.asked(run.trace.id, asked, run.clock.time(), implicit=self.settings.implicit)
        if sign is not None:
            run.trace.facts["route"]["before"] = sign

    def saw(self, record: RequestRecord, trace: Trace) -> None:
        if not self._is_mine(trace):
            return
        task = (trace.facts.get("task") or {}).get("label")
        if task is not None:
            self.learning.saw(record, trace, implicit=self.settings.implicit, known=self._known(task, trace))

    def told(self, trace: Trace, record: RequestRecord, score: float) -> None:
        task = (trace.facts.get("task") or {}).get("label")
        if self._is_mine(trace) and task is not None and self.settings.feedback:
            if self.learning.knows(trace.id):
                self.learning.told(trace.id, score, self._known(task, trace), near=self.settings.neighbours)
            elif record.model is not None and (prior := _priors_in(trace).get(record.model)) is not None:
                self.learning.told_late(trace.id, task, record.model, score, prior)

    def _known(self, task: str, trace: Trace) -> Mapping[str, Prior]:
        """The priors; as the request's trace has them where a reload has made this route since and nobody has asked it for
        the task."""
        return self._priors.get(task) or _priors_in(trace)

    def _is_mine(self, trace: Trace) -> bool:
        return (trace.facts.get("route") or {}).get("entry") == self.name


@lru_cache(maxsize=1000)
def _chain(name: str, order: tuple[str, ...]) -> Fallback:
    """Made once: there are few orders of few models."""
    return Fallback(name, map(Target, order))


def _priors_in(trace: Trace) -> dict[str, Prior]:
    """The candidates' priors as a request's trace has them."""
    rows = (trace.facts.get("route") or {}).get("candidates", ())
    return {row["model"]: Prior(*row["prior"]) for row in rows if "prior" in row}


def _rate(info: ModelInfo) -> int:
    return 0 if info.price is None else info.price.input + info.price.output
