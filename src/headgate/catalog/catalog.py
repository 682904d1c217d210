"""The model registry: features, context windows and prices, from genai-prices and a small vendored snapshot.

Resolution: the configuration, then the vendored data, then unknown. A price that is not known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import msgspec

from headgate.core.money import Price, per_mtok


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one model of one provider. None = not known."""

    provider: str
    id: str
    name: str | None = None
    features: frozenset[str] | None = None
    capabilities: tuple[str, ...] = ()
    max_context: int | None = None
    max_output: int | None = None
    price: Price | None = None
    strength: dict[str, float] = {}
    """Quality per task as published results have it, on one scale, 0 to 1; `*` over all tasks. Empty: nobody measured."""


class _Snapshot(msgspec.Struct, frozen=True):
    """One pattern of the hand-kept snapshot: `match` is a prefix of the model's id."""

    provider: str
    match: str
    features: list[str] = []
    capabilities: list[str] = []
    max_context: int | None = None
    max_output: int | None = None


class _File(msgspec.Struct, frozen=True):
    date: str
    note: str
    models: list[_Snapshot]


@cache
def _snapshot() -> _File:
    path = files("headgate.catalog") / "data" / "models.json"
    return msgspec.json.decode(path.read_bytes(), type=_File)


class _Strength(msgspec.Struct, frozen=True):
    match: list[str]
    answers: int
    strength: dict[str, float]


class _Strengths(msgspec.Struct, frozen=True):
    """Made by scripts/strengths.py, with its sources inside."""

    date: str
    note: str
    sources: list[str]
    models: list[_Strength]


@cache
def _strengths() -> dict[str, dict[str, float]]:
    path = files("headgate.catalog") / "data" / "strengths.json"
    rows = msgspec.json.decode(path.read_bytes(), type=_Strengths).models
    return {prefix: row.strength for row in rows for prefix in row.match}


def strength_of(model: str) -> dict[str, float]:
    """By the longest prefix of the id that is known, whoever serves it."""
    name = model.rpartition("/")[2].lower()
    found = max((prefix for prefix in _strengths() if name.startswith(prefix)), key=len, default=None)
    return _strengths()[found] if found is not None else {}


@cache
def _providers() -> dict[str, Any]:
    """genai-prices' table. Loading it takes tens of milliseconds: only where a model's price is asked for."""
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


@cache
def price_version() -> str:
    return f"genai-prices {version('genai-prices')}"


@lru_cache(maxsize=4096)
def lookup(provider: str | None, model: str) -> Row:
    """What is known of `model` at `provider` (a name of the price catalogue, None for unlisted ones)."""
    known = _match_snapshot(provider, model)
    listed = _providers().get(provider) if provider is not None else None
    info = listed.find_model(model) if listed is not None else None
    context = known.max_context if known is not None and known.max_context else (info.context_window if info else None)
    return Row(
        provider=provider or "",
        id=model,
        name=info.name if info else None,
        features=frozenset(known.features) if known is not None else None,
        capabilities=tuple(known.capabilities) if known is not None else (),
        max_context=context,
        max_output=known.max_output if known is not None else None,
        price=_price(info) if info is not None else None,
        strength=strength_of(model),
    )


def listed_models(provider: str) -> Iterator[str]:
    """Ids of the provider's models that are not deprecated, as the price catalogue has them."""
    found = _providers().get(provider)
    for model in found.models if found is not None else ():
        if not model.deprecated:
            yield model.id


def _match_snapshot(provider: str | None, model: str) -> _Snapshot | None:
    """The longest matching prefix of this provider; a vendor's models keep their features at any reseller."""
    name = model.rpartition("/")[2].lower()
    candidates = [row for row in _snapshot().models if name.startswith(row.match)]
    own = [row for row in candidates if row.provider == provider] or candidates
    return max(own, key=lambda row: len(row.match), default=None)


def _price(info: Any) -> Price | None:
    """The price in force now; a price by time of day is taken at its dearest, so that a budget holds at any hour."""
    prices = info.prices
    if isinstance(prices, list):
        now = datetime.now(UTC)
        dated = [
            p
            for p in prices
            if p.constraint is None or (hasattr(p.constraint, "start_date") and p.constraint.active(now))
        ]
        hourly = [p.prices for p in prices if hasattr(p.constraint, "start_time")]
        base = dated[-1].prices if dated else None
        prices = max(
            [p for p in (base, *hourly) if p is not None], key=lambda p: _base(p.input_mtok) or 0, default=None
        )
    if prices is None or all(_base(getattr(prices, unit)) is None for unit in _PAID_BY):
        return None
    start = next((tier.start for tier in getattr(prices.input_mtok, "tiers", [])), None)
    long = _flat(prices, tier=True) if start is not None else None
    return msgspec.structs.replace(_flat(prices, tier=False), long=long, long_context_from=start)


_PAID_BY = ("input_mtok", "input_mchars", "input_audio_hours")


def _flat(prices: Any, *, tier: bool) -> Price:
    """Where output has no price (embeddings, which have none) it would cost as input does, never nothing."""

    def at(name: str) -> int | None:
        value = getattr(prices, name)
        amount = _tier(value) if tier else _base(value)
        return None if amount is None else per_mtok(amount)

    taken, given = at("input_mtok") or 0, at("output_mtok")
    return Price(
        input=taken,
        output=taken if given is None else given,
        cached_input=at("cache_read_mtok"),
        cache_write=at("cache_write_mtok"),
        audio_input=at("input_audio_mtok"),
        audio_output=at("output_audio_mtok"),
        image_input=at("input_image_mtok"),
        image_output=at("output_image_mtok"),
        characters=at("input_mchars"),
        audio_hour=at("input_audio_hours"),
        version=price_version(),
    )


def _base(value: Any) -> Decimal | None:
    return getattr(value, "base", value)


def _tier(value: Any) -> Decimal | None:
    tiers = getattr(value, "tiers", None)
    return tiers[0].price if tiers else _base(value)
