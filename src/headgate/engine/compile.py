"""Configuration → an immutable snapshot of strategies and models. Live state is kept by fingerprint across reloads."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from headgate.catalog.catalog import Row, lookup
from headgate.config.errors import ConfigError, Problem
from headgate.config.explain import did_you_mean
from headgate.config.governance import Periods
from headgate.config.model import Config, Entry, Provider
from headgate.config.model import Price as ConfigPrice
from headgate.config.values import Secret
from headgate.core.clock import SYSTEM, Clock
from headgate.core.money import Price, per_mtok, stamped
from headgate.core.strategy import Strategy
from headgate.engine.build import Memory, build_strategy, nano
from headgate.engine.snapshot import Snapshot
from headgate.net.transport.protocol import Limits, Origin
from headgate.providers.registry import (
    Profile,
    ProfileError,
    Registry,
    auth_headers,
    dialect_of,
    find_key,
    split_base,
)
from headgate.strategies.single import Single
from headgate.upstream.deployment import Deployment, Endpoint, Hedge, Model, Timeouts, Vitals

NO_KEY = "no key"
SHORTEST_SECRET = 8
"""Characters of a key or header that is taken out of a provider's words; what is shorter may be any word."""
STRANGERS = 1000
"""Deployments that only clients have named, by direct address, whose live state is kept."""


class Compiler:
    """Makes snapshots. One per process: it owns the live state that outlasts them."""

    def __init__(self, env: Mapping[str, str], *, registry: Registry | None = None, clock: Clock = SYSTEM) -> None:
        self._env = env
        self._registry = registry or Registry(env.get("HEADGATE_PROFILES"))
        self._clock = clock
        self._vitals: dict[str, Vitals] = {}
        self._named: set[str] = set()
        self._strangers: OrderedDict[str, None] = OrderedDict()
        self.memory = Memory()
        self.on_health: Callable[[str, str, str, str], None] | None = None
        """Called with (deployment, old state, new state, reason) whenever the health of one changes."""

    def compile(self, config: Config) -> Snapshot:
        """Raises ConfigError for what only providers and profiles can tell: unknown kinds, bad URLs."""
        problems: list[Problem] = []
        models: dict[str, Model] = {}
        entries: dict[str, Strategy] = {}
        for name, entry in config.models.items():
            try:
                if entry.strategy is None:
                    models[name] = self._model(name, entry, config)
                    entries[name] = Single(name)
                else:
                    entries[name] = build_strategy(name, entry, config, self.memory)
            except ProfileError as error:
                problems.append(Problem(f"models.{name}: {error}"))
        if problems:
            raise ConfigError(problems)
        for key, cap in _caps(models, config).items():
            self._named.add(key)
            self._strangers.pop(key, None)
            self._vitals[key].gate.capped(cap)
        return Snapshot(
            entries=entries,
            models=models,
            aliases=config.aliases,
            direct=lambda provider, upstream: self._direct(provider, upstream, config),
            hash=hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12],
            display={name: entry.name for name, entry in config.models.items() if entry.name},
            deadline=config.server.deadline,
            closing=[self.memory.backstage],
            tags=config.budgets.tags,
        )

    def missing(self, config: Config) -> dict[str, str]:
        """Models that cannot be used, and why: for `check --strict`."""
        snapshot = self.compile(config)
        return {model.name: model.missing for model in snapshot.models() if model.missing}

    def unpriced(self, config: Config) -> list[str]:
        """Models that hard budgets of the file refuse, since nobody knows what they cost."""
        if not any(amount.hard for periods in _budgets(config) for _, amount in periods if amount is not None):
            return []
        return [model.name for model in self.compile(config).models() if model.price is None]

    # -- models ------------------------------------------------------------------------------------------------------
    def _model(self, name: str, entry: Entry, config: Config) -> Model:
        wanted = [
            (d.provider, d.upstream or entry.upstream or name, d.weight, d.api_key, d.base_url)
            for d in entry.deployments or []
        ] or [(entry.provider or "", entry.upstream or name, 1.0, None, None)]
        rows = [self._row(self._profile(p, config), upstream) for p, upstream, *_ in wanted]
        row = rows[0]
        deployments: list[Deployment] = []
        reason: str | None = None
        for number, (provider, upstream, weight, key, base) in enumerate(wanted):
            built = self._deployment(entry, provider, upstream, weight, key, base, config, rows[number])
            if isinstance(built, str):
                reason = built
            else:
                deployments.append(self._renamed(built, deployments))
        price = _price(entry) or (deployments[0].price if deployments else row.price or _assumed(config))
        hedge = entry.hedge
        return Model(
            name=name,
            deployments=tuple(deployments),
            features=frozenset(entry.features) if entry.features is not None else row.features,
            capabilities=tuple(entry.capabilities) or row.capabilities,
            max_context=entry.max_context or row.max_context,
            max_output=entry.max_output or row.max_output,
            price=price,
            zone=entry.zone or self._zone(wanted[0][0], config),
            balance=entry.balance,
            affinity=entry.affinity,
            hedge=None if hedge is None else Hedge(after=hedge.after, share=hedge.share, max_cost=nano(hedge.max_cost)),
            strength=row.strength,
            missing=None if deployments else reason,
        )

    @staticmethod
    def _row(profile: Profile, upstream: str) -> Row:
        """The catalogue's, with what the profile knows of prices beyond it."""
        row = lookup(profile.catalogue, upstream)
        if profile.cache_write_1h is None or row.price is None or row.price.cache_write is None:
            return row
        hour = round(row.price.input * profile.cache_write_1h)
        return replace(row, price=replace(row.price, cache_write_1h=hour))

    def _deployment(
        self,
        entry: Entry,
        provider: str,
        upstream: str,
        weight: float,
        key: Secret | None,
        base: str | None,
        config: Config,
        row: Row,
    ) -> Deployment | str:
        """The deployment, or why it cannot be used."""
        profile = self._profile(provider, config)
        section = config.providers.get(provider, Provider())
        secret = key if key is not None else section.api_key
        found = secret.reveal() if secret is not None else find_key(profile, self._env)
        if not found and (secret is not None or profile.auth not in ("none", "bearer-if-any")):
            return NO_KEY  # also where a server may need none, but the file says that this one has one
        url = base or section.base_url or self._env.get(profile.base_url_env or "") or profile.base_url
        if not url:
            raise ProfileError(f"the provider {provider!r} needs a base_url")
        headers = (
            *auth_headers(profile.auth, found or ""),
            *profile.headers.items(),
            *((name, value.reveal()) for name, value in section.headers.items()),
            ("content-type", "application/json"),
        )
        account = hashlib.blake2b((found or "").encode(), digest_size=6).hexdigest()
        fingerprint = f"{provider}|{account}|{upstream}|{url}"
        price = _price(entry) or row.price or _assumed(config)
        return Deployment(
            key=fingerprint,
            name=f"{provider}/{upstream}",
            provider=provider,
            upstream=upstream,
            endpoints=_endpoints(profile, url, headers, row),
            weight=weight,
            price=None if price is None else stamped(price),
            timeouts=Timeouts(**entry.timeout.model_dump()),
            limits=Limits(connect=entry.timeout.connect, first_byte=entry.timeout.total, idle=entry.timeout.idle),
            vitals=self._vitals_of(fingerprint, f"{provider}/{upstream}"),
            extra=entry.extra,
            secrets=_secrets(found, section),
            files=profile.files,
        )

    def _vitals_of(self, fingerprint: str, name: str) -> Vitals:
        vitals = self._vitals.get(fingerprint)
        if vitals is None:
            vitals = self._vitals[fingerprint] = Vitals(self._clock)
            vitals.health.on_change.append(lambda old, new, reason: self._health_changed(name, old, new, reason))
        return vitals

    @property
    def vitals(self) -> Mapping[str, Vitals]:
        """The live state of all deployments so far, by fingerprint."""
        return self._vitals

    def _health_changed(self, name: str, old: str, new: str, reason: str) -> None:
        if self.on_health is not None:
            self.on_health(name, old, new, reason)

    def _profile(self, provider: str, config: Config) -> Profile:
        section = config.providers.get(provider)
        name = (section.kind if section is not None else None) or provider
        profile = self._registry.get(name)
        if profile is None:
            raise ProfileError(f"there is no provider profile {name!r}" + did_you_mean(name, self._registry.names()))
        return profile

    def _zone(self, provider: str, config: Config) -> str | None:
        section = config.providers.get(provider)
        return (section.zone if section is not None else None) or self._profile(provider, config).zone

    def _direct(self, provider: str, upstream: str, config: Config) -> Model | None:
        """`provider/upstream-id`, for every provider of the configuration that has a key."""
        section = config.providers.get(provider)
        if section is None or self._registry.get(section.kind or provider) is None:
            return None
        entry = Entry(provider=provider, upstream=upstream)
        model = self._model(f"{provider}/{upstream}", entry, config)
        for deployment in model.deployments:
            self._met(deployment.key)
        return model if model.deployments else None

    def _met(self, key: str) -> None:
        """The live state of what only a client has named is forgotten, the longest unseen first, beyond STRANGERS."""
        if key in self._named:
            return
        self._strangers[key] = None
        self._strangers.move_to_end(key)
        if len(self._strangers) > STRANGERS:
            del self._vitals[self._strangers.popitem(last=False)[0]]

    @staticmethod
    def _renamed(deployment: Deployment, others: list[Deployment]) -> Deployment:
        same = sum(other.upstream == deployment.upstream and other.provider == deployment.provider for other in others)
        if not same:
            return deployment
        fields: dict[str, Any] = {f: getattr(deployment, f) for f in deployment.__struct_fields__}
        return Deployment(**{**fields, "name": f"{deployment.name}#{same + 1}"})


def _caps(models: Mapping[str, Model], config: Config) -> dict[str, int | None]:
    """How many calls at once each deployment may get: the least that an entry says of it, None where none does."""
    caps: dict[str, int | None] = {}
    for name, model in models.items():
        for deployment in model.deployments:
            said = [cap for cap in (caps.get(deployment.key), config.models[name].concurrency) if cap is not None]
            caps[deployment.key] = min(said, default=None)
    return caps


def _secrets(key: str | None, section: Provider) -> tuple[Secret, ...]:
    """Those that are no ordinary word."""
    held = (Secret(key or ""), *section.headers.values())
    return tuple(secret for secret in held if len(secret.reveal()) >= SHORTEST_SECRET)


def _endpoints(profile: Profile, url: str, headers: tuple[tuple[str, str], ...], row: Row) -> dict[str, Endpoint]:
    quirks = profile.quirks
    if row.max_output is not None:
        quirks = replace(quirks, max_output=row.max_output)
    out: dict[str, Endpoint] = {}
    for name in profile.dialects:
        base = split_base(profile.bases.get(name, url))
        origin = Origin(base.scheme, base.host, base.port)
        out[name] = Endpoint(dialect_of(name), origin, base.path, headers, quirks)
    return out


def _budgets(config: Config) -> list[Periods]:
    budgets = config.budgets
    named = [*budgets.users.values(), *budgets.models.values(), *budgets.tags.values()]
    found = [budgets.all, budgets.keys, *named, *(team.budgets for team in config.teams.values())]
    return [periods for periods in found if periods is not None]


def _assumed(config: Config) -> Price | None:
    """What models of unknown price are charged at, where the operator says so: marked by its version on every row."""
    amount = config.budgets.unknown_price_usd_per_mtok
    return None if amount is None else Price(input=per_mtok(amount), output=per_mtok(amount), version="assumed")


def _price(entry: Entry) -> Price | None:
    if entry.cost_per_1k is not None:
        rate = per_mtok(entry.cost_per_1k * 1000)
        return Price(input=rate, output=rate, version="config")
    price: ConfigPrice | None = entry.price
    if price is None:
        return None
    return Price(
        input=per_mtok(price.input),
        output=per_mtok(price.output),
        cached_input=nano(price.cached_input),
        cache_write=nano(price.cache_write),
        cache_write_1h=nano(price.cache_write_1h),
        reasoning=nano(price.reasoning),
        audio_input=nano(price.audio_input),
        audio_output=nano(price.audio_output),
        image_input=nano(price.image_input),
        image_output=nano(price.image_output),
        image=nano(price.image),
        characters=nano(price.characters),
        audio_hour=nano(price.audio_hour),
        request=nano(price.request) or 0,
        version="config",
    )
