"""The strategies' sections of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from headgate.config.values import Count, Duration, Money, Share, plain


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _named_by(key: str) -> BeforeValidator:
    """A bare string where a section is meant: `gpt-5.5` for `{model: gpt-5.5}`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class FallbackTarget(Section):
    model: str
    timeout: Duration | None = None
    """For this target's whole attempt."""


MoveOn = Literal[
    "timeout", "unavailable", "rate_limit", "context_length", "invalid_output", "content_policy", "bad_request"
]


class _Fallback(Section):
    """An ordered chain: the first target that answers."""

    order: Annotated[list[Annotated[FallbackTarget, _named_by("model")]], Field(min_length=1)]
    move_on: list[MoveOn] = ["timeout", "unavailable", "rate_limit", "context_length", "invalid_output"]
    """What a target may fail with for the next one to be asked; a refusal for content is the provider's answer."""
    retries: Annotated[Count, Field(ge=0, le=10)] = 2
    """Retries on the last target that is left; a move to a healthy target is no retry."""
    rescue: Literal["continue", "restart", "error"] = "continue"
    """When a stream breaks off after content: the next target continues it, or begins anew (at clients that sent
    `x-headgate-restart: true`; the others are told), or the client is told."""
    when_all_cooling: Literal["ask", "wait", "fail"] = "ask"
    """With every target cooling down after failures: ask the one that recovers first all the same (the last target is
    never ejected), wait for it within the deadline, or fail at once. A wait that a provider has named is always kept to."""


Fallback = Annotated[_Fallback, BeforeValidator(lambda value: {"order": value} if isinstance(value, list) else value)]


class SystemText(Section):
    text: str
    when: Literal["missing", "always"] = "missing"
    """missing: used where the client sent no system text. always: put first."""


class Choose(Section):
    """How one of several candidates is chosen: weights, or a floor of quality, or a budget."""

    quality: Annotated[float, Field(ge=0)] | None = None
    cost: Annotated[float, Field(ge=0)] | None = None
    latency: Annotated[float, Field(ge=0)] | None = None
    at_least: Annotated[float, Field(ge=0, le=1)] | None = None
    """Quality of at least this, at the lowest cost."""
    max_cost: Money | None = None
    """The best for at most this many US$ per request."""


class Hours(Section):
    """When a rule holds. In UTC."""

    between: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]|24):[0-5]\d$")] = "00:00-24:00"
    """`08:00-18:00`; `22:00-06:00` goes over midnight."""
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = []
    """Left out: every day. A night belongs to the day that it begins on."""


class LearnJudge(Section):
    """A judge scores a share of the route's answers after they have gone out; its scores count as feedback does, unless
    the client has its own. It reads the conversation and the answer: choose a model that may."""

    model: str
    share: Annotated[float, Field(gt=0, le=1)] = 0.02
    daily: Money
    """US$ per day, at most, over all processes on one store."""
    timeout: Duration = 20.0


class Learn(Section):
    """What the choice among candidates learns from. Kept in memory, per entry."""

    feedback: bool = True
    """`POST /v1/feedback`."""
    implicit: bool = True
    """Asked again, abandoned, code that fails: how much more seldom than on the route's average."""
    neighbours: bool = True
    """Near prompts whose answers' worth is known correct the belief."""
    explore: Annotated[float, Field(ge=0, le=0.2)] = 0.0
    """Share of the requests whose model is drawn by what is not yet known of the candidates (Thompson sampling)."""
    seed: Count = 0
    judge: LearnJudge | None = None
    """Left out: no answer is judged."""
    strengths: str | None = None
    """File of figures that `headgate train --ledger --install` wrote, in the place of the published ones."""


class TaskRule(Section):
    """What to do with requests of one task. Several rules of a task are a list: the first whose conditions hold counts."""

    model: str | None = None
    models: list[str] | None = None
    choose: Choose | None = None
    system: Annotated[SystemText, _named_by("text")] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Count | None = None
    capabilities: list[str] = []
    """Candidates must have all of these."""
    zone: str | None = None
    tags: list[str] = []
    """The rule holds only for requests with all of these tags."""
    keys: list[str] = []
    """The rule holds only for these virtual keys (id or name)."""
    hours: Annotated[Hours, _named_by("between")] | None = None
    """The rule holds only then."""
    max_cost: Money | None = None
    """US$ that a candidate may be predicted to cost."""
    max_latency: Duration | None = None
    """Time to first content that a candidate may be expected to take."""
    downgrade: list[str] = []
    """Models that stand in where none of the rule's own fits what the request may still spend."""

    @model_validator(mode="after")
    def _some_model(self) -> TaskRule:
        if (self.model is None) == (self.models is None):
            raise ValueError("a rule names either one model or models to choose from")
        return self


def _rules(value: Any) -> Any:
    """One rule, or a list of them."""
    return value if isinstance(value, list) else [value]


class Route(Section):
    """Classify the request, send it to the best model for its task."""

    classifier: Literal["keyword", "learned", "model"] = "learned"
    model: str | None = None
    """The entry that classifies, with `classifier: model`: a cheap and fast one."""
    deadline: Duration = 2.0
    """How long it may take, before the learned classifier's word counts."""
    keywords: dict[str, list[str]] = {}
    """Label → words, with `classifier: keyword`."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Below this confidence the task is unknown; left out: the classifier's own."""
    trained: str | None = None
    """File of weights that `headgate train --install` wrote, with `classifier: learned`."""
    embedder: str | None = None
    """Folder of the static embedder that `trained` was fitted with; needs the extra `headgate[embedder]`."""
    tasks: dict[
        str, Annotated[list[Annotated[TaskRule, _named_by("model")]], BeforeValidator(_rules), Field(min_length=1)]
    ] = {}
    otherwise: str
    """The entry for everything else: the safe default."""
    learn: Learn = Learn()

    @model_validator(mode="after")
    def _asks_somebody(self) -> Route:
        if self.classifier == "model" and self.model is None:
            raise ValueError("`classifier: model` needs `model:`, the entry that classifies")
        if self.trained is not None and self.classifier == "keyword":
            raise ValueError("`trained:` is for the learned classifier; this route has `classifier: keyword`")
        if self.embedder is not None and self.trained is None:
            raise ValueError("`embedder:` needs `trained:`, the file that `headgate train --embedder` fitted to it")
        return self


class SelfConsistency(Section):
    """Several samples of the same model must agree; prose cannot be compared and is left to other verifiers."""

    samples: Annotated[Count, Field(ge=2, le=9)] = 3
    """Answers in all."""
    agree: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of them that must say the same."""


class CascadeJudge(Section):
    model: str
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The judge's score, 0 to 1, from which an answer is accepted."""
    timeout: Duration = 20.0


class Accept(Section):
    """When an answer is good enough. Empty, refused, cut-off answers and breaches of the client's own schema never are.
    Where verifiers are given, at least one must pass and none may fail."""

    answer_schema: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    """The answer must be JSON of this JSON Schema, whatever the client asked for."""
    code: bool = False
    """Python in the answer must run in the sandbox, with the asserts of the last user turn."""
    confidence: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least mean token probability, where the provider gives log probabilities."""
    self_consistency: SelfConsistency | None = None
    judge: Annotated[CascadeJudge, _named_by("model")] | None = None

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return plain(value)


class Measure(Section):
    """A judge scores a share of all verdicts, accepted or not, so that the verifier's accuracy is known."""

    model: str
    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    timeout: Duration = 20.0


class Cascade(Section):
    """Try the cheapest first, go on where its answer is not accepted."""

    attempts: Annotated[list[str], Field(alias="try", min_length=2, max_length=6)]
    """From the cheapest to the strongest. The last one's answer is served as it is."""
    accept: Accept = Accept()
    floor: Annotated[float, Field(ge=0, le=1)] = 0.8
    """With a measured verifier accuracy under this, requests go straight to the strong model."""
    least: Annotated[Count, Field(ge=1)] = 20
    """Measured verdicts before the floor counts."""
    measure: Annotated[Measure, _named_by("model")] | None = None
    """Left out: only feedback, and strong answers equal to rejected ones, measure it."""

    @model_validator(mode="after")
    def _distinct(self) -> Cascade:
        if len(set(self.attempts)) < len(self.attempts):
            raise ValueError("`try` names a model twice")
        return self


class Member(Section):
    model: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    samples: Annotated[Count, Field(ge=1, le=8)] = 1
    """So many answers of this member; give the ensemble a `temperature`, or they may all be the same."""
    role: Literal["incumbent", "peer", "cheap"] | None = None
    """incumbent: keeps its place unless the others convince. peer: is never the incumbent. Left out: the highest weight is
    the incumbent."""


def _members(value: Any) -> Any:
    """`{claude: 0.4, gpt: 0.35}` or a list of names or sections."""
    if isinstance(value, dict):
        return [{"model": name, "weight": weight} for name, weight in value.items()]
    if isinstance(value, list):
        return [{"model": member} if isinstance(member, str) else member for member in value]
    return value


class Judge(Section):
    model: str
    style: Literal["score", "pairwise"] = "score"
    """score: 0 to 10 for each. pairwise: the incumbent against each challenger, both orders."""
    timeout: Duration = 20.0


class When(Section):
    tags: list[str] = []
    """Runs where the request carries one of these tags (only when another strategy reaches it)."""


class Limits(Section):
    max_cost: Money | None = None
    deadline: Duration | None = None
    max_steps: Annotated[Count, Field(ge=1, le=100)] | None = None
    max_calls: Annotated[Count, Field(ge=1, le=1000)] | None = None


class Ensemble(Section):
    """Several models in parallel, scored; the best chosen, voted for, or fused."""

    mode: Literal["best", "vote", "fuse"] = "best"
    members: Annotated[list[Member], BeforeValidator(_members), Field(min_length=2, max_length=8)]
    temperature: float | None = None
    judge: Annotated[Judge, _named_by("model")] | None = None
    when: When | None = None
    """Only where another strategy reaches it; called by its own name it always runs."""
    budget: Limits = Limits()
    grace: Duration = 2.0
    """Once two answers are there, stragglers get this long."""
    overrule: Annotated[float, Field(ge=1, le=10)] | None = None
    """In a vote: how many times the weight of the incumbent's side the other side needs. 1: a plain majority. Left out: 2
    where a member has `role: incumbent`, else 1.5."""

    @model_validator(mode="after")
    def _one_incumbent(self) -> Ensemble:
        if sum(member.role == "incumbent" for member in self.members) > 1:
            raise ValueError("only one member can be the incumbent")
        return self


class StepLimits(Section):
    """What one step of a plan may use, its retry and its checks included."""

    max_cost: Money | None = None
    max_calls: Annotated[Count, Field(ge=1, le=100)] | None = None
    deadline: Duration | None = None


class AgentLimits(Limits):
    """Of a whole run. Calls are those of models and tools."""

    step: StepLimits = StepLimits()


class Agent(Section):
    """Plans, executes with models and tools, verifies, synthesises."""

    planner: str
    validator: str | None = None
    models: Annotated[list[str], Field(min_length=1)]
    tools: list[str] = []
    autonomy: Literal["plan_only", "read_only", "reversible", "allow_listed"] = "read_only"
    budget: AgentLimits = AgentLimits()
    grace: Duration = 30.0
    """How long a run goes on whose client has left; what ends in that time is kept for a repeat with the same
    Idempotency-Key."""

    @model_validator(mode="after")
    def _built(self) -> Agent:
        if self.autonomy in ("reversible", "allow_listed"):
            raise ValueError(f"autonomy {self.autonomy!r} is not built yet: use plan_only or read_only")
        return self


class Arm(Section):
    """One side of an experiment: an entry, with other parameters if wanted (only where the client did not set them)."""

    model: str
    share: Share | None = None
    """Of the traffic. Arms without one divide what the others leave."""
    system: Annotated[SystemText, _named_by("text")] | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: Count | None = None


class ExperimentGuard(Section):
    """How much worse than the control an arm may be. Where an arm is shown to be worse than that, the experiment is stopped
    and everybody gets the control arm."""

    errors: Annotated[float, Field(ge=0, le=1)] | None = 0.05
    """Share of failed requests above the control's; `off`: not watched."""
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    """Mean score below the control's: the judge's where there is one, else that of feedback."""
    latency: Annotated[float, Field(ge=0)] | None = None
    """0.5: half as much again."""
    cost: Annotated[float, Field(ge=0)] | None = None
    """0.5: half as much again."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Chance that an arm is stopped though it is no worse than that, however long the experiment runs."""

    @field_validator("errors", mode="before")
    @classmethod
    def _off_is_none(cls, value: Any) -> Any:
        return None if value == "off" else value


class ExperimentJudge(Section):
    """Scores a share of what was served, after it was served, not knowing which arm it came from."""

    model: str
    share: Share = 0.1
    daily: Money
    """US$ per day, at most, over all processes on one store."""
    timeout: Duration = 30.0


class Shadow(Section):
    """Asks a candidate too, on a share of the requests, once the client has its answer. What it says is compared and never
    used; what it costs is tagged `shadow` and not charged to the key that asked."""

    model: str
    share: Share = 0.1
    max_cost: Money | None = None
    """US$ for one request. The budget of all together is `budgets: {tags: {shadow: ...}}`."""
    concurrent: Annotated[Count, Field(ge=1, le=1000)] = 4
    """At a time; further ones are left out."""
    timeout: Duration = 60.0


class Experiment(Section):
    """Splits traffic between entries and compares them."""

    arms: Annotated[dict[str, Annotated[Arm, _named_by("model")]], Field(min_length=1, max_length=8)]
    """One is enough beside a shadow."""
    control: str | None = None
    """The arm that the others are measured against, and that everybody gets when the experiment is stopped; left out: the
    first."""
    assign_by: Literal["key", "user", "conversation"] = "conversation"
    """Who stays with an arm. user: the end user that the request names, else the key's user, else the key."""
    metric: Literal["success", "feedback", "judge", "cost", "latency"] = "success"
    """What decides it. The others are shown beside it."""
    effect: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The smallest difference worth finding: in points (success, feedback, judge: 0.05) or as a part (cost,
    latency: 0.1). The planned sample follows from it."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance that a difference is called one though there is none, however often somebody looks."""
    guard: ExperimentGuard = ExperimentGuard()
    judge: ExperimentJudge | None = None
    shadow: Annotated[Shadow, _named_by("model")] | None = None

    @model_validator(mode="after")
    def _divided(self) -> Experiment:
        if len(self.arms) < 2 and self.shadow is None:
            raise ValueError("an experiment has at least two arms, or one and a shadow")
        if self.metric == "judge" and self.judge is None:
            raise ValueError("`metric: judge` needs `judge:`, the model that scores")
        if self.control is not None and self.control not in self.arms:
            raise ValueError(f"`control` names no arm: {self.control!r} is not among {', '.join(self.arms)}")
        given = [arm.share for arm in self.arms.values() if arm.share is not None]
        rest, total = len(self.arms) - len(given), sum(given)
        if rest and total >= 1 - 1e-9:
            raise ValueError(f"the shares add up to {total:.0%}: nothing is left for the arms without one")
        if not rest and abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:.4g}, not to 1: leave one out and it gets the rest")
        return self

    def shares(self) -> dict[str, float]:
        """Arm → its share, all together 1."""
        given = {name: arm.share for name, arm in self.arms.items() if arm.share is not None}
        rest = (1 - sum(given.values())) / max(1, len(self.arms) - len(given))
        return {name: given.get(name, rest) for name in self.arms}
