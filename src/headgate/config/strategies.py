"""The sections of strategies that ask one after another, together or by a plan: fallback, cascade, ensemble, agent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from headgate.config.sections import Section, Temperature, named_by
from headgate.config.values import Count, Duration, Money, plain


class FallbackTarget(Section):
    model: str
    timeout: Duration | None = None
    """For this target's whole attempt."""


MoveOn = Literal[
    "timeout", "unavailable", "rate_limit", "context_length", "invalid_output", "content_policy", "bad_request"
]


class _Fallback(Section):
    """An ordered chain: the first target that answers."""

    order: Annotated[list[Annotated[FallbackTarget, named_by("model")]], Field(min_length=1)]
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
    judge: Annotated[CascadeJudge, named_by("model")] | None = None

    @field_validator("answer_schema", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        schema = plain(value)
        if isinstance(schema, dict):
            from jsonschema import Draft202012Validator, SchemaError  # seldom needed, and slow to import

            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                at = ".".join(map(str, error.absolute_path))
                raise ValueError(f"no JSON Schema{f' at {at}' if at else ''}: {error.message[:200]}") from error
        return schema


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
    measure: Annotated[Measure, named_by("model")] | None = None
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
    temperature: Temperature | None = None
    judge: Annotated[Judge, named_by("model")] | None = None
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
