"""One request's life: what strategies see as `Run` and attempts as `Life`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headgate.core.answer import Answer
from headgate.core.clock import Clock
from headgate.core.envelope import Envelope
from headgate.core.errors import ModelNotFound
from headgate.core.ports import Governor, Ledger
from headgate.core.principal import Principal
from headgate.core.pulse import Pulse
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo, Plan, Strategy
from headgate.core.trace import AttemptView, Trace
from headgate.engine.snapshot import Snapshot, check_zone, info_of
from headgate.net.transport.protocol import Transport
from headgate.upstream.attempt import PLAIN, attempt
from headgate.upstream.deployment import Deployment

Progress = Callable[[str, dict[str, Any]], Awaitable[None]]


class Shared:
    """What all runs of one request have in common."""

    __slots__ = (
        "charge_unknown",
        "clock",
        "governor",
        "ledger",
        "on_attempt",
        "on_event",
        "on_progress",
        "principal",
        "pulse",
        "rng",
        "silent",
        "snapshot",
        "trace",
        "transport",
    )

    def __init__(
        self,
        *,
        principal: Principal,
        trace: Trace,
        clock: Clock,
        ledger: Ledger,
        governor: Governor,
        transport: Transport,
        rng: random.Random,
        pulse: Pulse,
        snapshot: Snapshot,
        on_attempt: Callable[[AttemptView, Trace, Deployment, str | None], None],
        on_event: Callable[[str, dict[str, object]], None],
        charge_unknown: bool = True,
    ) -> None:
        self.principal = principal
        self.trace = trace
        self.clock = clock
        self.ledger = ledger
        self.governor = governor
        self.transport = transport
        self.rng = rng
        self.pulse = pulse
        self.snapshot = snapshot
        self.on_attempt = on_attempt
        self.on_event = on_event
        self.on_progress: Progress | None = None
        self.charge_unknown = charge_unknown
        self.silent: set[str] = set()


class RequestRun:
    """Implements core.strategy.Run and upstream.life.Life. Children share everything but envelope and role."""

    __slots__ = (
        "_role",
        "_shared",
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

    def __init__(self, shared: Shared, envelope: Envelope, role: str | None = None) -> None:
        self._shared = shared
        self._role = role
        self.envelope = envelope
        self.principal = shared.principal
        self.trace = shared.trace
        self.clock = shared.clock
        self.ledger = shared.ledger
        self.governor = shared.governor
        self.transport = shared.transport
        self.rng = shared.rng
        self.pulse = shared.pulse
        self.charge_unknown = shared.charge_unknown
        self.silent = shared.silent

    # -- Life ------------------------------------------------------------------------------------------------------
    def closed(self, view: AttemptView, deployment: Deployment, upstream_id: str | None) -> None:
        self._shared.on_attempt(view, self._shared.trace, deployment, upstream_id)

    def event(self, kind: str, **facts: object) -> None:
        self._shared.on_event(kind, {"trace": self.trace.id, **facts})

    # -- Run -------------------------------------------------------------------------------------------------------
    def strategy(self, name: str) -> Strategy:
        return self._shared.snapshot.strategy(name)

    def model(self, name: str) -> ModelInfo | None:
        model = self._shared.snapshot.model(name)
        return None if model is None else info_of(model)

    def models(self) -> Sequence[ModelInfo]:
        return [info_of(model) for model in self._shared.snapshot.models()]

    def child(self, *, envelope: Envelope | None = None, role: str | None = None) -> RequestRun:
        return RequestRun(self._shared, envelope or self.envelope, role or self._role)

    def plan(self, name: str, request: Request) -> Plan:
        return self.strategy(name).plan(request, self)

    async def ask(
        self, name: str, request: Request, *, role: str | None = None, envelope: Envelope | None = None
    ) -> Answer:
        run = self.child(envelope=envelope or self.envelope.child(), role=role)
        strategy = run.strategy(name)
        return await strategy.answer(request, run, strategy.plan(request, run))

    async def attempt(self, model: str, request: Request, *, policy: Any = None) -> Answer:
        found = self._shared.snapshot.model(model)
        if found is None:
            raise ModelNotFound(f"there is no model {model[:100]!r}")
        check_zone(self.principal, found)
        return await attempt(self, found, request, self.envelope, policy=policy or PLAIN, role=self._role)

    def decide(self, kind: str, chosen: Any, *, over: Sequence[Any] = (), because: str, **numbers: Any) -> None:
        at = round(self.clock.monotonic() - self.trace.started, 4)
        self.trace.decide(kind, chosen, over=over, because=because, at=at, **numbers)
        if kind in ("fallback", "rescue"):
            self.event(kind, chosen=chosen, over=list(over), because=because)

    async def progress(self, text: str, **facts: Any) -> None:
        if self._shared.on_progress is not None:
            await self._shared.on_progress(text, facts)
