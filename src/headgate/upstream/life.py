"""What an attempt needs of the request's life. engine.run gives it; nothing of the engine is known here."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from headgate.core.clock import Clock
from headgate.core.ports import Governor, Ledger
from headgate.core.principal import Principal
from headgate.core.pulse import Pulse
from headgate.core.trace import AttemptView, Trace
from headgate.net.transport.protocol import Transport
from headgate.upstream.deployment import Deployment

if TYPE_CHECKING:
    from headgate.upstream.background import Background


class Life(Protocol):
    principal: Principal
    trace: Trace
    clock: Clock
    ledger: Ledger
    governor: Governor
    transport: Transport
    rng: random.Random
    pulse: Pulse
    charge_unknown: bool
    """`unknown` attempts are charged at their worst case (the default), not at zero."""
    background: Background
    silent: set[str]
    """Deployments that stayed silent in this request: not asked again in it."""

    def closed(self, view: AttemptView, deployment: Deployment, upstream_id: str | None) -> None:
        """An attempt is over: telemetry counts it, and server-side state it may have made is found again."""
        ...

    def keeps(self, object_id: str, model: str, deployment: Deployment) -> None:
        """A provider keeps this object for the request's key."""
        ...

    def event(self, kind: str, **facts: object) -> None:
        """Something an operator may want to know (a fail-over, a breaker): log line, metric, alert input."""
        ...
