"""Limits, budgets and teams as the file names them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headgate.config.values import Count, Money

Most = Annotated[Count, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Rates(_Section):
    """How much at most. A limit of N a minute lets N through at once after a minute of rest."""

    requests_per_minute: Most | None = None
    tokens_per_minute: Most | None = None
    """Input and output together: estimated before a request, corrected by what it used."""
    concurrent: Most | None = None
    """Requests at a time."""


class Limits(_Section):
    """Who is limited to what. Above: 429 with a true Retry-After and `x-ratelimit-*` headers."""

    all: Rates | None = None
    """The gateway as a whole."""
    keys: Rates | None = None
    """Each key, where its own limits do not say otherwise."""
    models: dict[str, Rates] = {}
    """Each model by its entry's name, whoever asks and whatever strategy leads there; the next target is tried."""
    deployments: dict[str, Rates] = {}
    """One account or region of a model, by the name that `headgate models --health` shows; the next one is tried."""
    on_store_loss: Literal["local", "closed", "open"] = "local"
    """When `store.shared` is lost: local: each replica goes on with its share of the limits. closed: 503. open: without
    limits."""


class Budget(_Section):
    """US$ in one period, and what happens beyond."""

    limit: Money
    hard: bool = True
    """true: 402 before anything is sent that could pass the limit. false: only an event."""


def _short(value: Any) -> Any:
    """`daily: 50` for `daily: {limit: 50}`."""
    return {"limit": value} if isinstance(value, str | int | float | Decimal) else value


_Amount = Annotated[
    Budget,
    BeforeValidator(_short, json_schema_input_type=Money | Budget),
]


class Periods(_Section):
    """Budgets by period, in UTC: a day, a week from Monday, a calendar month, for ever. An amount in US$ is a hard
    budget; `{limit: 50, hard: false}` only tells."""

    daily: _Amount | None = None
    weekly: _Amount | None = None
    monthly: _Amount | None = None
    total: _Amount | None = None


class Budgets(_Section):
    """Who may spend what. The worst case of a request is reserved before its first byte goes out, and settled after."""

    all: Periods | None = None
    """Everything that goes through the gateway."""
    keys: Periods | None = None
    """Each key that has no budgets of its own."""
    users: dict[str, Periods] = {}
    """The keys of one user together; `*`: each user that is not named."""
    models: dict[str, Periods] = {}
    """One model by its entry's name, whoever asks; beyond it the next target is tried, and 402 where there is none."""
    tags: dict[str, Periods] = {}
    """Requests and keys that carry this tag."""
    unknown_price_usd_per_mtok: Money | None = None
    """US$ per million tokens of models whose price nobody knows. Left out: they cost `unknown`, and keys with a hard
    budget cannot use them."""
    max_tokens: Annotated[Count, Field(ge=1)] = 4096
    """Output tokens that a request under a hard budget gets when it names no maximum (less where less is left)."""
    on_store_loss: Literal["local", "closed", "open"] = "closed"
    """When a hard budget has to ask the store and cannot: closed: 503. local: go on within what was left at the last
    look, shared among the replicas. open: go on."""


class Team(_Section):
    """What holds for all keys of a team together."""

    name: str | None = None
    """Display name."""
    models: list[str] | None = None
    """Entries that its keys may ask for; `*` matches anything. Left out: all."""
    limits: Rates = Rates()
    budgets: Periods = Periods()
