"""The strategies that a drill compares: those of the configuration, its first model alone, and the foil.

The foil is the chain that applications write by hand: each model once, in order, until one answers. It runs in our own
engine, which still knows a failure when it sees one (a hand-made loop mostly does not), with breaker, memory for
Retry-After, retries and rescue taken away.
"""

from __future__ import annotations

from random import Random

import msgspec

from headgate.config.model import Config, Entry, Timeout
from headgate.core.clock import Clock
from headgate.core.errors import UpstreamFault
from headgate.engine.compile import Compiler
from headgate.engine.house import House
from headgate.governance.open import OpenGovernor
from headgate.ledger.volatile import VolatileLedger
from headgate.net.transport.protocol import Transport
from headgate.upstream.health import Health, Ticket

NAIVE = "naive chain"
PHASES = {"single": "1", "fallback": "2", "route": "3", "cascade": "3", "ensemble": "4", "agent": "5"}


class Arm(msgspec.Struct, frozen=True):
    """`name` is what is asked for; `kind` the strategy behind it; `exact` as in `questions.fate_of`."""

    name: str
    kind: str
    exact: bool

    @property
    def is_foil(self) -> bool:
        return self.kind == "naive"

    @property
    def phase(self) -> str:
        return PHASES.get(self.kind, "–")


class Unwatched(Health):
    """Learns nothing: always well."""

    def failed(self, fault: UpstreamFault, ticket: Ticket) -> None:
        return None


def chain_of(config: Config) -> list[str]:
    """The models of the configuration's first fallback. Raises ValueError where there is none."""
    for entry in config.models.values():
        if entry.fallback is not None:
            return [target.model for target in entry.fallback.order]
    raise ValueError("a drill needs a configuration with a `fallback:` to compare with")


def arms_of(config: Config) -> list[Arm]:
    """Single model, foil, then the strategies in the configuration's order."""
    arms = [Arm(chain_of(config)[0], "single", True), Arm(NAIVE, "naive", True)]
    for name, entry in config.models.items():
        kind = next((kind for kind in PHASES if getattr(entry, kind, None) is not None), None)
        if kind is not None:
            arms.append(Arm(name, kind, kind != "agent"))
    return arms


def with_foil(config: Config, timeout: Timeout) -> Config:
    """The configuration with the foil as an entry, and `timeout` on each model: all arms are equally patient. Agents work
    without tools: these are real, and a clock that jumps leaps over the time that they take."""
    foil = {"fallback": {"order": chain_of(config), "rescue": "error", "retries": 0}}
    models = {name: _drilled(entry, timeout) for name, entry in config.models.items()}
    return config.model_copy(update={"models": {**models, NAIVE: Entry.model_validate(foil)}})


def _drilled(entry: Entry, timeout: Timeout) -> Entry:
    if entry.agent is not None:
        return entry.model_copy(update={"agent": entry.agent.model_copy(update={"tools": []})})
    return entry.model_copy(update={"timeout": timeout}) if entry.provider or entry.deployments else entry


def house_of(arm: Arm, config: Config, env: dict[str, str], transport: Transport, clock: Clock, seed: int) -> House:
    """A gateway that has seen nothing yet."""
    house = House(
        snapshot=Compiler(env, clock=clock).compile(config),
        transport=transport,
        ledger=VolatileLedger(),
        governor=OpenGovernor(),
        clock=clock,
        rng=Random(f"{seed}:gateway"),
    )
    if arm.is_foil:
        for name in chain_of(config):
            model = house.snapshot.model(name)
            assert model is not None
            for deployment in model.deployments:
                deployment.vitals.health = Unwatched(clock)
    return house
