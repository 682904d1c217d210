"""One request's life: what strategies see as `Run` and attempts as `Life`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from headgate.core.answer import Answer
from headgate.core.envelope import Envelope
from headgate.core.errors import ModelNotFound
from headgate.core.ports import Grant
from headgate.core.principal import Principal
from headgate.core.request import Request
from headgate.core.strategy import Aside, Beside, ModelInfo, Plan, Strategy
from headgate.core.trace import AttemptView, Trace
from headgate.engine.house import House
from headgate.engine.snapshot import Snapshot, check_zone, info_of, seen_by
from headgate.upstream.attempt import PLAIN, attempt
from headgate.upstream.deployment import Deployment

MOVES = frozenset({"fallback", "rescue", "stand_in"})
"""Decisions that are events too: another model takes the place of one that failed, or there is none left to."""
Progress = Callable[[str, dict[str, Any]], Awaitable[None]]


class Shared(msgspec.Struct, eq=False):
    """What all runs of one request have in common."""

    house: House
    snapshot: Snapshot
    principal: Principal
    trace: Trace
    on_progress: Progress | None = None
    client_left: Callable[[], bool] | None = None
    silent: set[str] = set()
    settled: Grant | None = None
    """Of a request that is over: attempts that end later tell it what they used."""


class RequestRun:
    """Implements core.strategy.Run and upstream.life.Life. Children share everything but envelope and role."""

    __slots__ = (
        "_keep",
        "_role",
        "_shared",
        "background",
        "charge_unknown",
        "clock",
        "envelope",
        "governor",
        "ledger",
        "principal",
        "pulse",
        "rng",
        "silent",
        "trace",
        "transport",
    )

    def __init__(self, shared: Shared, envelope: Envelope, role: str | None = None, keep: bool = False) -> None:
        house = shared.house
        self._keep = keep
        self._shared = shared
        self._role = role
        self.envelope = envelope
        self.principal = shared.principal
        self.trace = shared.trace
        self.clock = house.clock
        self.ledger = house.ledger
        self.governor = house.governor
        self.transport = house.transport
        self.rng = house.rng
        self.pulse = house.pulse
        self.charge_unknown = house.charge_unknown
        self.background = house.background
        self.silent = shared.silent

    # -- Life ------------------------------------------------------------------------------------------------------
    def closed(self, view: AttemptView, deployment: Deployment, upstream_id: str | None) -> None:
        self._shared.house.attempt_closed(view, self._shared.trace, deployment, upstream_id)
        if self._shared.settled is not None and (view.usage is not None or not self.trace.unheard):
            self._shared.settled.late(view.usage.total if view.usage is not None else 0)

    def settled(self, grant: Grant) -> None:
        self._shared.settled = grant

    def keeps(self, object_id: str, model: str, deployment: Deployment) -> None:
        self._shared.house.homes.remember(self.trace.key_id, object_id, model, deployment)

    def event(self, kind: str, **facts: object) -> None:
        self._shared.house.event(kind, {"trace": self.trace.id, **facts})

    # -- Run -------------------------------------------------------------------------------------------------------
    def strategy(self, name: str) -> Strategy:
        return self._shared.snapshot.strategy(name)

    def model(self, name: str) -> ModelInfo | None:
        info = self._shared.snapshot.info(name)
        return None if info is None else seen_by(self.principal, info)

    def models(self) -> Sequence[ModelInfo]:
        return [seen_by(self.principal, info_of(model)) for model in self._shared.snapshot.models()]

    def child(self, *, envelope: Envelope | None = None, role: str | None = None, keep: bool = False) -> RequestRun:
        return RequestRun(self._shared, envelope or self.envelope, role or self._role, keep or self._keep)

    def plan(self, name: str, request: Request) -> Plan:
        return self.strategy(name).plan(request, self)

    async def ask(
        self, name: str, request: Request, *, role: str | None = None, envelope: Envelope | None = None
    ) -> Answer:
        run = self.child(envelope=envelope or self.envelope.child(), role=role)
        strategy = run.strategy(name)
        return await strategy.answer(request, run, strategy.plan(request, run))

    async def aside(self, name: str, request: Request, aside: Aside) -> Beside:
        from headgate.engine.aside import ask_aside  # it goes through the pipeline, which makes runs

        shared = self._shared
        return await ask_aside(shared.house, shared.snapshot, self.principal, name, request, aside)

    async def attempt(self, model: str, request: Request, *, policy: Any = None) -> Answer:
        found = self._shared.snapshot.model(model)
        if found is None:
            raise ModelNotFound(f"there is no model {model[:100]!r}")
        check_zone(self.principal, found)
        policy = policy or PLAIN
        if self._keep and not policy.keep:
            policy = replace(policy, keep=True)
        return await attempt(self, found, request, self.envelope, policy=policy, role=self._role)

    def client_left(self) -> bool:
        asked = self._shared.client_left
        return asked is not None and asked()

    def decide(self, kind: str, chosen: Any, *, over: Sequence[Any] = (), because: str, **numbers: Any) -> None:
        at = round(self.clock.monotonic() - self.trace.started, 4)
        self.trace.decide(kind, chosen, over=over, because=because, at=at, **numbers)
        if kind in MOVES:
            self.event("gave_up" if chosen is None else kind, chosen=chosen, over=list(over), because=because)

    async def progress(self, text: str, **facts: Any) -> None:
        if self._shared.on_progress is not None:
            await self._shared.on_progress(text, facts)
