"""The section of a route: tasks, their rules, and what it learns from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from headgate.config.sections import MaxTokens, Section, SystemText, Temperature, TopP, named_by
from headgate.config.values import Count, Duration, Money


class Choose(Section):
    """How one of several candidates is chosen: weights, or a floor of quality, or a budget."""

    quality: Annotated[float, Field(ge=0)] | None = None
    """Left out: 1."""
    cost: Annotated[float, Field(ge=0)] | None = None
    latency: Annotated[float, Field(ge=0)] | None = None
    at_least: Annotated[float, Field(ge=0, le=1)] | None = None
    """Quality of at least this, at the lowest cost."""
    max_cost: Money | None = None
    """The best for at most this many US$ per request."""

    @model_validator(mode="after")
    def _chooses(self) -> Choose:
        weights = (self.quality, self.cost, self.latency)
        if self.at_least is not None and any(weight is not None for weight in weights):
            raise ValueError("`at_least` chooses the cheapest that is so good: weights are not looked at beside it")
        if self.quality == 0 and not self.cost and not self.latency and self.at_least is None:
            raise ValueError("all weights are 0: nothing would choose")
        return self


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
    models: Annotated[list[str], Field(min_length=1)] | None = None
    choose: Choose | None = None
    system: Annotated[SystemText, named_by("text")] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    capabilities: list[str] = []
    """Candidates must have all of these."""
    zone: str | None = None
    tags: list[str] = []
    """The rule holds only for requests with all of these tags."""
    keys: list[str] = []
    """The rule holds only for these virtual keys (id or name)."""
    hours: Annotated[Hours, named_by("between")] | None = None
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
            raise ValueError("a rule names either one `model:` or `models: [...]` to choose from")
        if self.models is not None and len(set(self.models)) < len(self.models):
            raise ValueError("`models` names one twice")
        if self.max_cost is not None and self.choose is not None and self.choose.max_cost is not None:
            raise ValueError(
                "`max_cost` stands in the rule and in its `choose:`, where it means the same: leave one out"
            )
        return self


def _rules(value: Any) -> Any:
    """One rule, or a list of them."""
    return value if isinstance(value, list) else [value]


class Route(Section):
    """Classify the request, send it to the best model for its task."""

    classifier: Literal["keyword", "learned", "model"] = "learned"
    model: str | None = None
    """The entry that classifies, with `classifier: model`: a cheap and fast one."""
    deadline: Annotated[Duration, Field(gt=0)] = 2.0
    """How long it may take, before the learned classifier's word counts."""
    keywords: dict[str, Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]] = {}
    """Label → words, with `classifier: keyword`."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Below this confidence the task is unknown; left out: the classifier's own."""
    trained: str | None = None
    """File of weights that `headgate train --install` wrote, with `classifier: learned`."""
    embedder: str | None = None
    """Folder of the static embedder that `trained` was fitted with; needs the extra `headgate[embedder]`."""
    tasks: dict[
        str, Annotated[list[Annotated[TaskRule, named_by("model")]], BeforeValidator(_rules), Field(min_length=1)]
    ] = {}
    otherwise: str
    """The entry for everything else: the safe default."""
    learn: Learn = Learn()

    @model_validator(mode="after")
    def _asks_somebody(self) -> Route:
        if self.classifier == "model" and self.model is None:
            raise ValueError("`classifier: model` needs `model:`, the entry that classifies")
        if self.classifier != "model" and self.model_fields_set & {"model", "deadline"}:
            key = "model" if self.model is not None else "deadline"
            raise ValueError(f"`{key}:` is of the model that classifies: it needs `classifier: model`")
        if self.trained is not None and self.classifier == "keyword":
            raise ValueError("`trained:` is for the learned classifier; this route has `classifier: keyword`")
        if self.classifier == "keyword" and not self.keywords:
            raise ValueError("`classifier: keyword` needs `keywords:`, as in {code: [python, function]}")
        if self.classifier != "keyword" and self.keywords:
            raise ValueError(f"`keywords:` needs `classifier: keyword`; this route has `classifier: {self.classifier}`")
        if self.embedder is not None and self.trained is None:
            raise ValueError("`embedder:` needs `trained:`, the file that `headgate train --embedder` fitted to it")
        return self
