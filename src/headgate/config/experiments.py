"""The section of an experiment: arms, guards, judge and shadow."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from headgate.config.sections import MaxTokens, Section, SystemText, Temperature, TopP, named_by
from headgate.config.values import Count, Duration, Money, Share


class Arm(Section):
    """One side of an experiment: an entry, with other parameters if wanted (only where the client did not set them)."""

    model: str
    share: Share | None = None
    """Of the traffic. Arms without one divide what the others leave."""
    system: Annotated[SystemText, named_by("text")] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None


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

    arms: Annotated[dict[str, Annotated[Arm, named_by("model")]], Field(min_length=1, max_length=8)]
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
    shadow: Annotated[Shadow, named_by("model")] | None = None

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
