"""A deployment: one account of one provider serving one model, with its live state.

The description (`Deployment`) is immutable and made anew by each reload; the state (`Vitals`) is keyed by the
fingerprint (provider, account, upstream, base URL), so that health and limits survive a reload.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from headgate.config.values import Secret
from headgate.core.clock import Clock
from headgate.core.dialect import Dialect, Quirks
from headgate.core.errors import UpstreamFault
from headgate.core.money import Price
from headgate.net.transport.protocol import Limits, Origin
from headgate.upstream.concurrency import Gate
from headgate.upstream.health import Health
from headgate.upstream.retry import HedgeBudget, RetryBudget

EWMA_SECONDS = 10.0
UNKNOWN = 1e9
"""More than any load that is known."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. first_token: silence before the first content of a stream. idle: silence after it. total: everything.

    Defaults suit models of today: reasoning models think aloud or stay silent for a minute, and write for several."""

    connect: float = 5.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Endpoint(msgspec.Struct, frozen=True):
    """One dialect of one deployment. `headers` hold the key: never shown."""

    dialect: Dialect
    origin: Origin
    base_path: str
    headers: tuple[tuple[str, str], ...]
    quirks: Quirks

    def __repr__(self) -> str:
        return f"Endpoint({self.dialect.name} {self.origin.host}{self.base_path})"


class Vitals:
    """What we have learned of a deployment while running."""

    def __init__(self, clock: Clock, cap: int | None = None) -> None:
        self.health = Health(clock)
        self.gate = Gate(cap)
        self.retries = RetryBudget(clock)
        self.outstanding = 0
        self._clock = clock
        self._ewma = 0.0
        self._ewma_at = clock.monotonic()
        self._seen: tuple[list[float], list[float]] = ([], [])
        self.headroom = 1.0
        """Share of its rate limit that the provider says is left, 1 where it says nothing."""
        self.headroom_until = 0.0
        self.hedges = HedgeBudget()
        self._vain: tuple[float, float] | None = None

    def observe(self, seconds: float, *, stream: bool) -> None:
        """Peak EWMA (Finagle): a slower answer counts at once, a faster one only as time passes."""
        now, self._vain = self._clock.monotonic(), None
        if seconds > self._ewma:
            self._ewma = seconds
        else:
            weight = math.exp(-(now - self._ewma_at) / EWMA_SECONDS)
            self._ewma = self._ewma * weight + seconds * (1.0 - weight)
        self._ewma_at = now
        seen = self._seen[stream]
        seen.append(seconds)
        if len(seen) > 200:
            del seen[:100]

    def is_unheard(self, started: float, within: float) -> bool:
        """A call has waited since `started`, in vain: has nobody heard anything for `within` seconds and more, while such
        calls followed one another?"""
        now = self._clock.monotonic()
        since, last = self._vain or (started, now)
        since = started if now - last > within else since
        self._vain = since, now
        return now - since >= within

    def spoke(self) -> None:
        """To somebody, if not to the end."""
        self._vain = None

    @property
    def latency(self) -> float | None:
        return self._ewma or None

    @property
    def load(self) -> float:
        """Peak-EWMA cost of sending one more: latency times what is outstanding. While nothing is outstanding what is
        known is believed less and less, or one that was slow once would never be asked again and found to have recovered;
        one of which nothing is known gets no second request before its first answer (both as Finagle does it)."""
        if not self._ewma:
            return UNKNOWN + self.outstanding if self.outstanding else 0.001
        if self.outstanding:
            return self._ewma * (self.outstanding + 1)
        return self._ewma * math.exp(-(self._clock.monotonic() - self._ewma_at) / EWMA_SECONDS)

    def p95(self, *, stream: bool) -> float | None:
        return self.percentile(0.95, stream=stream)

    def percentile(self, share: float, *, stream: bool) -> float | None:
        """Of the time to a stream's first content, or to a whole answer; None before 20 of them."""
        seen = self._seen[stream]
        if len(seen) < 20:
            return None
        return sorted(seen)[int(len(seen) * share)]

    def limits_seen(self, share: float, reset_in: float) -> None:
        self.headroom = share
        self.headroom_until = self._clock.monotonic() + reset_in

    def headroom_now(self) -> float:
        return self.headroom if self._clock.monotonic() < self.headroom_until else 1.0


class Deployment(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    key: str
    """The fingerprint."""
    name: str
    """Shown: `openai/gpt-5.5`, with `#2` where an entry has several of the same."""
    provider: str
    upstream: str
    """The id that the provider knows."""
    endpoints: Mapping[str, Endpoint]
    """By dialect name; the first is the default."""
    weight: float = 1.0
    price: Price | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    vitals: Vitals
    files: bool = False
    """Its provider has `/files` and `/batches`."""
    extra: Mapping[str, object] = {}
    """Parameters the operator adds to each request of this deployment."""
    secrets: tuple[Secret, ...] = ()
    """Its key, and what the configuration's headers hold."""

    def endpoint(self, wanted: str) -> Endpoint:
        """In the door's own dialect where the provider speaks it, else its default one."""
        return self.endpoints.get(wanted) or next(iter(self.endpoints.values()))

    def hide(self, error: UpstreamFault) -> UpstreamFault:
        """`error`, without this deployment's secrets: some providers repeat the key that they refuse."""
        error.leave_out(secret.reveal() for secret in self.secrets)
        return error


class Hedge(msgspec.Struct, frozen=True, kw_only=True):
    """After `after` seconds (None: p95 of the time to first content) without content, a second call elsewhere."""

    after: float | None = None
    share: float = 0.02
    """At most this share of the calls is hedged."""
    max_cost: int | None = None
    """Nano-US$ that one hedge may cost at most."""


class Model(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A physical model: what an entry with `provider:` or `deployments:` compiles to."""

    name: str
    deployments: tuple[Deployment, ...]
    features: frozenset[str] | None = None
    """None: unknown, nothing is filtered."""
    capabilities: tuple[str, ...] = ()
    max_context: int | None = None
    max_output: int | None = None
    price: Price | None = None
    zone: str | None = None
    balance: str = "weighted"
    """weighted | least_outstanding | latency | rate_limit"""
    affinity: bool = True
    hedge: Hedge | None = None
    strength: Mapping[str, float] = {}
    missing: str | None = None
    """Why it cannot be used at all (no key)."""
