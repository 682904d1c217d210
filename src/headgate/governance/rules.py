"""What the configuration says of limits and budgets, in the rows' own terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from headgate.config.governance import Periods, Rates
from headgate.config.model import Config
from headgate.core.money import per_mtok
from headgate.core.records import BudgetSpec, LimitSpec, Period, TeamRecord

PERIODS: tuple[Period, ...] = ("daily", "weekly", "monthly", "total")
NO_LIMITS = LimitSpec()
Specs = tuple[BudgetSpec, ...]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """`users["*"]` holds for each user that is not named. `teams` of the file come before the store's."""

    all_limits: LimitSpec = NO_LIMITS
    key_limits: LimitSpec = NO_LIMITS
    model_limits: Mapping[str, LimitSpec] = {}
    deployment_limits: Mapping[str, LimitSpec] = {}
    all_budgets: Specs = ()
    key_budgets: Specs = ()
    user_budgets: Mapping[str, Specs] = {}
    model_budgets: Mapping[str, Specs] = {}
    tag_budgets: Mapping[str, Specs] = {}
    teams: Mapping[str, TeamRecord] = {}
    max_tokens: int = 4096
    on_store_loss: Literal["local", "closed", "open"] = "closed"
    """Of budgets."""
    limits_on_store_loss: Literal["local", "closed", "open"] = "local"

    def users(self, user: str) -> Specs:
        return self.user_budgets.get(user) or self.user_budgets.get("*", ())


def defined_teams(stored: Iterable[TeamRecord], rules: Rules) -> dict[str, TeamRecord]:
    """By id, in order: the file's, and those of the store that the file does not name."""
    return dict(sorted(({team.id: team for team in stored} | dict(rules.teams)).items()))


def rules_of(config: Config) -> Rules:
    limits, budgets = config.limits, config.budgets
    return Rules(
        all_limits=limit_spec(limits.all),
        key_limits=limit_spec(limits.keys),
        model_limits={name: limit_spec(rates) for name, rates in limits.models.items()},
        deployment_limits={name: limit_spec(rates) for name, rates in limits.deployments.items()},
        all_budgets=budget_specs(budgets.all),
        key_budgets=budget_specs(budgets.keys),
        user_budgets={name: budget_specs(periods) for name, periods in budgets.users.items()},
        model_budgets={name: budget_specs(periods) for name, periods in budgets.models.items()},
        tag_budgets={name: budget_specs(periods) for name, periods in budgets.tags.items()},
        teams={
            id: TeamRecord(
                id=id,
                name=team.name or id,
                created=0.0,
                models=None if team.models is None else tuple(team.models),
                limits=limit_spec(team.limits),
                budgets=budget_specs(team.budgets),
            )
            for id, team in config.teams.items()
        },
        max_tokens=budgets.max_tokens,
        on_store_loss=budgets.on_store_loss,
        limits_on_store_loss=limits.on_store_loss,
    )


def limit_spec(rates: Rates | None) -> LimitSpec:
    return NO_LIMITS if rates is None else LimitSpec(**rates.model_dump())


def budget_specs(periods: Periods | None) -> Specs:
    if periods is None:
        return ()
    out: list[BudgetSpec] = []
    for period in PERIODS:
        budget = getattr(periods, period)
        if budget is not None:  # US$ -> nano-US$: the same factor as per million tokens
            out.append(BudgetSpec(limit=per_mtok(budget.limit), period=period, hard=budget.hard))
    return tuple(out)


def laid_over(own: LimitSpec, default: LimitSpec) -> LimitSpec:
    """A key's own limits, and the default for those that it does not have."""
    if own == NO_LIMITS:
        return default
    values = {
        field: mine if (mine := getattr(own, field)) is not None else getattr(default, field)
        for field in LimitSpec.__struct_fields__
    }
    return LimitSpec(**values)


def tightest(specs: Sequence[BudgetSpec]) -> BudgetSpec | None:
    return min(specs, key=lambda spec: spec.limit, default=None)
