"""The strategies' sections of the configuration → strategies. One file per strategy; only this one knows them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.config.errors import ConfigError, Problem
from headgate.config.experiments import Arm as ArmSection
from headgate.config.experiments import Experiment as ExperimentSection
from headgate.config.model import Config, Entry, PythonTool
from headgate.config.routing import Hours as HoursSection
from headgate.config.routing import Route as RouteSection
from headgate.config.routing import TaskRule
from headgate.config.strategies import Agent as AgentSection
from headgate.config.strategies import Cascade as CascadeSection
from headgate.config.strategies import Ensemble as EnsembleSection
from headgate.core.money import per_mtok
from headgate.core.strategy import Knowledge, Strategy
from headgate.strategies.agent import Agent
from headgate.strategies.agent.agent import MAX_STEPS, Caps
from headgate.strategies.agent.execute import StepCaps
from headgate.strategies.cascade import Accept, Accuracy, Cascade, Consistency, JudgeBar, Verifier
from headgate.strategies.cascade.cascade import Sampling as Measuring
from headgate.strategies.ensemble import Ensemble, Member
from headgate.strategies.ensemble.judge import Judge
from headgate.strategies.experiment import Arm, Experiment
from headgate.strategies.experiment.compare import EFFECT, SCALES, Guard
from headgate.strategies.experiment.experiment import Terms, fingerprint
from headgate.strategies.experiment.mirror import Backstage, Shadow
from headgate.strategies.experiment.scoring import Scoring
from headgate.strategies.experiment.trial import Trial
from headgate.strategies.fallback import Fallback, Target
from headgate.strategies.route import Hours, Learning, Route, Rule, Settings
from headgate.strategies.route.asking import Asking
from headgate.strategies.route.choose import Weights
from headgate.strategies.route.classify import Asked, Classifier
from headgate.strategies.route.keyword import Keyword
from headgate.strategies.route.route import Sampling
from headgate.strategies.route.strengths import Strengths, load_strengths
from headgate.strategies.touch import Touch
from headgate.tools.broker import Broker, ToolSource
from headgate.tools.files import Files
from headgate.tools.mcp import Mcp
from headgate.tools.python import Python


class Memory:
    """What strategies have learned, by entry: outlives reloads; engine/keeping.py carries it over restarts."""

    def __init__(self) -> None:
        self.accuracies: dict[str, Accuracy] = {}
        self.learnings: dict[str, Learning] = {}
        self.trials: dict[tuple[str, str], Trial] = {}
        """By entry and fingerprint of its arms."""
        self.backstage = Backstage(self.event)
        """Of all strategies, so that it can be ended as a whole."""
        self.on_event: Callable[[str, dict[str, object]], None] | None = None
        """What strategies tell outside of any request."""

    def event(self, kind: str, facts: dict[str, object]) -> None:
        if self.on_event is not None:
            self.on_event(kind, facts)

    def known(self) -> dict[str, Knowledge]:
        """By kind and entry, as the store names them."""
        routes = {f"route:{name}": learning for name, learning in self.learnings.items()}
        cascades = {f"cascade:{name}": accuracy for name, accuracy in self.accuracies.items()}
        trials = {f"experiment:{name}:{print}": trial for (name, print), trial in self.trials.items()}
        return {**routes, **cascades, **trials}


def nano(amount: Any) -> int | None:
    return None if amount is None else per_mtok(amount)  # US$ -> nano-US$: the same factor


FIRST = Asked(("Which task is this?",))
"""Asked of every classifier as it is made, so that no request waits until model and lexicon are read."""


def _route(name: str, section: RouteSection, memory: Memory) -> Strategy:
    keyword = section.classifier == "keyword"
    classifier: Classifier = Keyword(section.keywords) if keyword else _learned(name, section)
    classifier.classify(FIRST)
    if section.classifier == "model" and section.model is not None:
        classifier = Asking(section.model, classifier, deadline=section.deadline)
    judge = section.learn.judge
    return Route(
        name,
        {task: tuple(_rule(rule) for rule in rules) for task, rules in section.tasks.items()},
        otherwise=section.otherwise,
        classifier=classifier,
        settings=Settings(
            **section.learn.model_dump(exclude={"judge", "strengths"}),
            judge=None if judge is None else Sampling(judge.model, judge.share, nano(judge.daily) or 0, judge.timeout),
        ),
        learning=memory.learnings.setdefault(name, Learning()),
        strengths=_strengths(name, section),
    )


def _strengths(name: str, section: RouteSection) -> Strengths:
    if section.learn.strengths is None:
        return {}
    try:
        return load_strengths(section.learn.strengths).strengths
    except ValueError as error:
        raise ConfigError([Problem(f"models.{name}.route.learn.strengths: {error}")]) from error


def _learned(name: str, section: RouteSection) -> Classifier:
    # Imported here: numpy comes with them, a tenth of the time and a sixth of the memory of a start without routes.
    from headgate.strategies.route.embedder import load_embedder
    from headgate.strategies.route.learned import Learned
    from headgate.strategies.route.trained import load_trained

    if section.trained is None:
        return Learned(section.threshold)
    key = "embedder"
    try:
        embedder = None if section.embedder is None else load_embedder(section.embedder)
        key = "trained"
        return load_trained(section.trained, section.threshold, embedder)
    except ValueError as error:
        raise ConfigError([Problem(f"models.{name}.route.{key}: {error}")]) from error


def _hours(section: HoursSection) -> Hours:
    start, end = (int(hour) * 60 + int(minute) for hour, minute in (t.split(":") for t in section.between.split("-")))
    return Hours(start, end, frozenset(section.days))


def _rule(rule: TaskRule) -> Rule:
    choose = rule.choose
    weights = Weights(max_cost=nano(rule.max_cost))
    if choose is not None:
        weights = Weights(
            quality=choose.quality if choose.quality is not None else 1.0,
            cost=choose.cost or 0.0,
            latency=choose.latency or 0.0,
            at_least=choose.at_least,
            max_cost=nano(choose.max_cost if choose.max_cost is not None else rule.max_cost),
        )
    return Rule(
        models=tuple(rule.models or [rule.model or ""]),
        weights=weights,
        touch=_touch(rule),
        capabilities=frozenset(rule.capabilities),
        zone=rule.zone,
        tags=frozenset(rule.tags),
        keys=frozenset(rule.keys),
        hours=None if rule.hours is None else _hours(rule.hours),
        max_latency=rule.max_latency,
        downgrade=tuple(rule.downgrade),
    )


def _agent(name: str, section: AgentSection, config: Config) -> Agent:
    wanted, budget, step = config.tools, section.budget, section.budget.step
    sandbox = _sandbox(config)
    sources: dict[str, ToolSource] = {}
    if wanted.files is not None:
        sources["files"] = Files(wanted.files.root, max_bytes=wanted.files.max_bytes)
    if wanted.python is not None:
        sources["python"] = sandbox
    for server, mcp in wanted.mcp.items():
        env = {key: value.reveal() for key, value in mcp.env.items()}
        sources[server] = Mcp(server, command=mcp.command, url=mcp.url, allow=mcp.allow, env=env)
    return Agent(
        name,
        planner=section.planner,
        validator=section.validator,
        models=section.models,
        tools=section.tools,
        broker=Broker(sources),
        sandbox=sandbox,
        plan_only=section.autonomy == "plan_only",
        caps=Caps(
            max_cost=nano(budget.max_cost),
            max_steps=budget.max_steps or MAX_STEPS,
            max_calls=budget.max_calls,
            deadline=budget.deadline,
            step=StepCaps(nano(step.max_cost), step.max_calls, step.deadline),
        ),
        grace=section.grace,
    )


def _ensemble(name: str, section: EnsembleSection) -> Ensemble:
    judge = section.judge
    return Ensemble(
        name,
        [Member(m.model, m.weight, m.role) for m in section.members for _ in range(m.samples)],
        mode=section.mode,
        temperature=section.temperature,
        judge=None if judge is None else Judge(judge.model, timeout=judge.timeout),
        pairwise=judge is not None and judge.style == "pairwise",
        tags=frozenset(section.when.tags) if section.when is not None else frozenset(),
        max_cost=nano(section.budget.max_cost),
        deadline=section.budget.deadline,
        grace=section.grace,
        overrule=section.overrule,
    )


def _sandbox(config: Config) -> Python:
    python = config.tools.python or PythonTool()
    return Python(timeout=python.timeout, memory=python.memory)


def _cascade(name: str, section: CascadeSection, config: Config, memory: Memory) -> Cascade:
    accept, measure = section.accept, section.measure
    judge, samples = accept.judge, accept.self_consistency
    wanted = Accept(
        schema=accept.answer_schema,
        code=accept.code,
        confidence=accept.confidence,
        consistency=None if samples is None else Consistency(samples.samples, samples.agree),
        judge=None if judge is None else JudgeBar(judge.model, judge.threshold, judge.timeout),
    )
    return Cascade(
        name,
        section.attempts,
        Verifier(wanted, sandbox=_sandbox(config) if accept.code else None),
        floor=section.floor,
        least=section.least,
        sampling=None if measure is None else Measuring(measure.model, measure.share, measure.timeout),
        accuracy=memory.accuracies.setdefault(name, Accuracy()),
    )


def _experiment(name: str, section: ExperimentSection, memory: Memory) -> Experiment:
    shares, control = section.shares(), section.control or next(iter(section.arms))
    arms = {arm: Arm(side.model, shares[arm], _touch(side)) for arm, side in section.arms.items()}
    trial = memory.trials.setdefault((name, fingerprint(arms, control, section.assign_by)), Trial())
    shadow, judge = section.shadow, section.judge
    terms = Terms(
        metric=section.metric,
        effect=section.effect or EFFECT[SCALES[section.metric]],
        alpha=section.alpha,
        guard=Guard(**section.guard.model_dump()),
    )
    return Experiment(
        name,
        arms,
        control=control,
        assign_by=section.assign_by,
        terms=terms,
        trial=trial,
        shadow=None if shadow is None else Shadow(**{**shadow.model_dump(), "max_cost": nano(shadow.max_cost)}),
        scoring=None if judge is None else Scoring(**{**judge.model_dump(), "daily": nano(judge.daily)}),
        backstage=memory.backstage,
        on_event=memory.event,
    )


def _touch(side: TaskRule | ArmSection) -> Touch:
    system = side.system
    return Touch(
        system=None if system is None else system.text,
        system_always=system is not None and system.when == "always",
        temperature=side.temperature,
        top_p=side.top_p,
        max_tokens=side.max_tokens,
    )


def build_strategy(name: str, entry: Entry, config: Config, memory: Memory) -> Strategy:
    """The strategy of one entry."""
    if entry.fallback is not None:
        section = entry.fallback
        return Fallback(
            name,
            [Target(target.model, target.timeout) for target in section.order],
            move_on=section.move_on,
            retries=section.retries,
            rescue=section.rescue,
            when_all_cooling=section.when_all_cooling,
        )
    if entry.route is not None:
        return _route(name, entry.route, memory)
    if entry.agent is not None:
        return _agent(name, entry.agent, config)
    if entry.ensemble is not None:
        return _ensemble(name, entry.ensemble)
    if entry.cascade is not None:
        return _cascade(name, entry.cascade, config, memory)
    assert entry.experiment is not None
    return _experiment(name, entry.experiment, memory)
