"""The configuration in force: immutable, swapped as a whole by a reload. A request keeps the one it began with."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from headgate.config.explain import did_you_mean
from headgate.core.errors import ModelNotFound, PermissionDenied, UnsupportedFeature
from headgate.core.principal import DOORS, Principal
from headgate.core.strategy import Learner, ModelInfo, Strategy
from headgate.strategies.single import Single
from headgate.tools.lifetime import end_each
from headgate.upstream.deployment import Deployment, Model


@runtime_checkable
class Closable(Protocol):
    async def aclose(self) -> None: ...


@runtime_checkable
class Retirable(Protocol):
    async def retire(self) -> None: ...


SUFFIXES = ("cheap", "fast", "best")
ASKING: Mapping[str, str] = {
    **{door: door for door in DOORS},
    "count_tokens": "messages",
    "gemini_count": "gemini",
}
"""Doors that a key can be confined to, by the names that requests arrive under."""


class Resolved(msgspec.Struct, frozen=True):
    """`name` is the entry; `prefer` a suffix's wish (`auto:cheap`)."""

    name: str
    prefer: str | None = None


class Snapshot:
    """`direct(provider, upstream)` builds a model for direct addressing, None where that provider is not configured."""

    def __init__(
        self,
        *,
        entries: Mapping[str, Strategy],
        models: Mapping[str, Model],
        aliases: Mapping[str, str] | None = None,
        direct: Callable[[str, str], Model | None] = lambda provider, upstream: None,
        hash: str = "",
        display: Mapping[str, str] | None = None,
        deadline: float = 600.0,
        closing: Sequence[Closable] = (),
        tags: Iterable[str] = (),
    ) -> None:
        self.entries = dict(entries)
        self._models = dict(models)
        self.learners = [entry for entry in self.entries.values() if isinstance(entry, Learner)]
        self.hash = hash
        self.tags = frozenset(tags)
        """Those that have budgets."""
        self.display = display or {}
        self._closing = closing
        self.deadline = deadline
        """Seconds that a request has where nobody says otherwise."""
        aliases = aliases or {}
        self.aliases = aliases
        self._exact = {alias: name for alias, name in aliases.items() if not _is_pattern(alias)}
        self._patterns = [(alias, name) for alias, name in aliases.items() if _is_pattern(alias)]
        self._direct = direct
        self._seen_direct: dict[str, Model | None] = {}
        self._infos: dict[str, ModelInfo] = {}
        self.sticky = any(len(model.deployments) > 1 for model in models.values())

    def resolve(self, asked: str, principal: Principal | None = None) -> Resolved:
        """What a client's model string stands for. Raises ModelNotFound with the name cut short, and with the name that is
        nearest to it of those that the principal may use."""
        if asked in self.entries:
            return Resolved(asked)
        if asked in self._exact:
            return Resolved(self._exact[asked])
        stem, colon, suffix = asked.rpartition(":")
        if colon and suffix in SUFFIXES and stem:
            return Resolved(self.resolve(stem, principal).name, suffix)
        for pattern, name in self._patterns:
            if fnmatch.fnmatchcase(asked, pattern):
                return Resolved(name)
        if self.model(asked) is not None:
            return Resolved(asked)
        if not self.entries:
            raise ModelNotFound("There is no model at all: set a provider key (OPENAI_API_KEY, ...) or give a file.")
        known = stem in self.entries and (principal is None or may_use(principal, stem, self))
        hint = f" Suffixes are {', '.join(f':{one}' for one in sorted(SUFFIXES))}." if known else ""
        raise self.unknown(asked, principal, hint)

    def unknown(self, asked: str, principal: Principal | None = None, hint: str = "") -> ModelNotFound:
        near = "" if principal is None else did_you_mean(asked[:100], self.listed(principal))
        return ModelNotFound(
            f"The model {asked[:100]!r} does not exist or is not offered here{near}.{hint}", param="model"
        )

    def model(self, name: str) -> Model | None:
        """A physical model, by entry or by direct address (`provider/upstream-id`)."""
        if (model := self._models.get(name)) is not None:
            return model
        provider, slash, upstream = name.partition("/")
        if not slash or not upstream or len(name) > 200 or name in self.entries:
            return None
        if name not in self._seen_direct:
            if len(self._seen_direct) > 1000:
                self._seen_direct.clear()  # names are the clients' to choose: never an unbounded memory
            self._seen_direct[name] = self._direct(provider, upstream)
        return self._seen_direct[name]

    def info(self, name: str) -> ModelInfo | None:
        """Of a physical model; with one deployment the same object as long as nothing of it has changed."""
        if (model := self.model(name)) is None:
            return None
        if len(model.deployments) != 1 or name not in self._models:  # the others' names are the clients' to choose
            return info_of(model)
        known, vitals = self._infos.get(name), model.deployments[0].vitals
        if known is None or known.latency != vitals.latency or not known.health or vitals.health.ready_in():
            known = self._infos[name] = info_of(model)
        return known

    def strategy(self, name: str) -> Strategy:
        if (entry := self.entries.get(name)) is not None:
            return entry
        if self.model(name) is not None:
            return Single(name)
        raise self.unknown(name)

    async def retire(self) -> None:
        """After a reload: tool servers and sandboxes end with the last call of the requests that still have this
        snapshot. What runs in the background goes on. Raises ExceptionGroup of those that could not be ended."""
        await end_each({name: entry.retire() for name, entry in self.entries.items() if isinstance(entry, Retirable)})

    async def aclose(self) -> None:
        """Ends what strategies keep open: tool servers, sandboxes, what runs in the background. Raises as `retire`."""
        closing = {f"{type(one).__name__} {i}": one for i, one in enumerate(self._closing)} | self.entries
        await end_each({name: entry.aclose() for name, entry in closing.items() if isinstance(entry, Closable)})

    def models(self) -> Sequence[Model]:
        return list(self._models.values())

    def listed(self, principal: Principal) -> list[str]:
        """Names for `/v1/models`: entries and plain aliases that the principal may use, in the file's order."""
        names = [*self.entries, *self._exact]
        return [name for name in names if may_use(principal, name, self)]


ASIDE = frozenset({"judge", "validator", "classifier", "shadow"})
"""Roles of entries that never answer a client themselves."""


def may_use(principal: Principal, name: str, snapshot: Snapshot) -> bool:
    return _is_named(principal, name) and (principal.zone is None or _reaches(snapshot, name, principal.zone))


def _is_named(principal: Principal, name: str) -> bool:
    models, team_models = principal.models, principal.team_models
    return (models is None or _is_among(name, models)) and (team_models is None or _is_among(name, team_models))


def _reaches(snapshot: Snapshot, name: str, zone: str) -> bool:
    """Whether a model of the zone may answer what is asked of this entry."""
    if (model := snapshot.model(name)) is not None:
        return model.zone == zone
    entry = snapshot.entries.get(name)
    answering = [ref for ref in (entry.refs() if entry is not None else ()) if ref.role not in ASIDE]
    needed = [ref for ref in answering if ref.role == "planner"]  # without it nothing begins
    return any(_reaches(snapshot, ref.name, zone) for ref in needed or answering)


def _is_among(name: str, allowed: frozenset[str]) -> bool:
    return name in allowed or any(_is_pattern(glob) and fnmatch.fnmatchcase(name, glob) for glob in allowed)


def check_door(principal: Principal, door: str) -> None:
    """Counting belongs to the door whose tokens are counted; looking things up is nobody's to forbid."""
    if principal.doors is not None and door in ASKING and ASKING[door] not in principal.doors:
        raise PermissionDenied(f"This key may not use the door {ASKING[door]!r}.", code="door_not_allowed")


def check_allowed(principal: Principal, name: str, snapshot: Snapshot) -> None:
    """The name that a client asks for. What a strategy calls in its turn is the operator's choice, zones excepted."""
    if may_use(principal, name, snapshot):
        return
    message = f"This key may not use the model {name[:100]!r}."
    if _is_named(principal, name):
        message = (
            f"This key is confined to models of the zone {principal.zone!r}; {name[:100]!r} is not one and has none that"
            " could answer."
        )
    raise PermissionDenied(message, code="model_not_allowed", param="model")


def check_background(snapshot: Snapshot, name: str, door: str) -> None:
    """A response that is made later must be one provider's own, who keeps it and is asked for it: nothing that is compared,
    checked or written in another format."""
    model = snapshot.model(name)
    if door != "responses" or model is None or any("openai_responses" not in d.endpoints for d in model.deployments):
        raise UnsupportedFeature(
            f"{name[:100]!r} cannot answer in the background: name one model of a provider that has the Responses API, at"
            " the door for Responses.",
            param="background",
        )


def check_zone(principal: Principal, model: Model) -> None:
    """A key that is confined to a zone never reaches a model outside it, whatever strategy leads there."""
    if principal.zone is not None and model.zone != principal.zone:
        raise PermissionDenied(
            f"This key is confined to models of the zone {principal.zone!r}.", code="model_not_allowed", param="model"
        )


def info_of(model: Model) -> ModelInfo:
    """A model as strategies may see it, with its live state."""
    deployments = model.deployments
    first = deployments[0] if deployments else None
    if first is not None and len(deployments) == 1:  # nearly all, with every request
        recovers_in, latency = first.vitals.health.ready_in(), first.vitals.latency
        health = 0.0 if recovers_in else 1.0
    else:
        waits = [deployment.vitals.health.ready_in() for deployment in deployments]
        health = waits.count(0.0) / len(waits) if waits else 0.0
        recovers_in = min(waits, default=0.0)
        latencies = [seconds for deployment in deployments if (seconds := deployment.vitals.latency) is not None]
        latency = min(latencies, default=None)
    return ModelInfo(
        name=model.name,
        provider=first.provider if first else "",
        upstream=first.upstream if first else "",
        features=model.features or frozenset(),
        capabilities=model.capabilities,
        max_context=model.max_context,
        max_output=model.max_output,
        price=model.price or (first.price if first else None),
        zone=model.zone,
        usable=model.missing is None,
        reason=model.missing or (_why_cooling(deployments) if health == 0.0 else ""),
        health=health,
        recovers_in=recovers_in,
        strength=model.strength,
        latency=latency,
    )


def seen_by(principal: Principal, info: ModelInfo) -> ModelInfo:
    """As this key may see it: what lies outside its zone is there, and cannot be used."""
    zone = principal.zone
    if zone is None or info.zone == zone:
        return info
    return msgspec.structs.replace(info, usable=False, reason=f"outside the zone {zone!r} of this key")


def _why_cooling(deployments: Sequence[Deployment]) -> str:
    """What the one that recovers first is cooling down for."""
    first = min(deployments, key=lambda deployment: deployment.vitals.health.ready_in(), default=None)
    return "" if first is None else first.vitals.health.reason or ""


def _is_pattern(alias: str) -> bool:
    return any(sign in alias for sign in "*?[")
