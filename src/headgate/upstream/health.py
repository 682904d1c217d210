"""Health of one deployment: a circuit breaker with memory for the provider's own Retry-After.

closed ──(failures in a row, or the share of failures)──► open ──(cool-down over)──► half-open ──(probe ok)──► closed
                                                            ▲                            │
                                                            └──── (probe failed: cool-down doubled) ◄┘

Numbers: five failures in a row open it (Envoy's outlier detection); the first cool-down is 5 s, doubled each time the
probe fails up to 60 s, so that a provider which recovers is used again within one probe interval.

What a call says is judged by when it began: hundreds may be under way when a provider goes down, and their late failures
must not lengthen the cool-down of a breaker that has opened long since, nor their late successes close it.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple, cast

import msgspec

from headgate.core.clock import Clock
from headgate.core.errors import FaultKind, UpstreamFault
from headgate.core.fleet import Heard, Notice

State = Literal["closed", "open", "half_open"]
FAILURES_IN_A_ROW = 5
WINDOW = 20
FAILURE_SHARE = 0.5
FIRST_COOL_DOWN = 5.0
LONGEST_COOL_DOWN = 60.0
MISCONFIGURED_COOL_DOWN = 60.0
LONGEST_RETRY_AFTER = 300.0
HEARD_AGAIN = 0.5
"""Seconds by which the same notice may differ from one hearing to the next."""
MISCONFIGURED = {
    "auth": "credentials refused",
    "quota": "quota used up",
    "tls": "no trusted TLS connection",
}
"""Faults that an operator has to mend, and what they are called; asking again at once would change nothing."""
# Faults that say something of the deployment's health; the others are about the request.
_COUNTS = frozenset({"connect", "timeout", "unavailable", "overloaded", "invalid_answer", "stream_broken"})


class Ticket(NamedTuple):
    """With what standing a call was sent: `era` counts the outages so far; a probe decides about the breaker."""

    era: int
    probe: bool


class HealthView(msgspec.Struct, omit_defaults=True):
    """For the admin API, console, metrics and `headgate models --health`. `recovers_in` is seconds."""

    state: State
    reason: str | None = None
    error: FaultKind | None = None
    """The kind of fault behind the reason: a closed word, fit for a metric's label."""
    recovers_in: float | None = None
    failures: int = 0
    opened: int = 0


class Health:
    """Not thread-safe; lives on one event loop. All times are the clock's monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._open_until = 0.0
        self._cool_down = FIRST_COOL_DOWN
        self._retry_until = 0.0
        self._probing = False
        self._is_open = False
        self._ticket = Ticket(0, False)
        self.reason: str | None = None
        self.waits_for: FaultKind = "unavailable"
        """The fault behind `reason`: the one that opened the breaker, or named a time before which it must not be asked."""
        self.opened = 0
        self.learned = 0
        """Grows with what this process has found out itself: others may want to hear it."""
        self._is_hearsay = False
        self._succeeded_at = -1e9
        self.on_change: list = []
        """Called with (old state, new state, reason); telemetry listens."""

    @property
    def state(self) -> State:
        if not self._is_open:
            return "closed"
        return "open" if self._clock.monotonic() < self._open_until else "half_open"

    @property
    def well(self) -> bool:
        return not self._is_open and (not self._retry_until or self._retry_until <= self._clock.monotonic())

    @property
    def told_to_wait(self) -> bool:
        """The provider itself named a time before which it must not be asked, or refused our credentials."""
        return self._retry_until > self._clock.monotonic()

    def ready_in(self) -> float:
        """Seconds until the deployment may be asked again; 0 where it may be asked now."""
        if not self._is_open and not self._retry_until and not self._probing:
            return 0.0
        now = self._clock.monotonic()
        until = max(self._retry_until, self._open_until if self._is_open else 0.0)
        if until <= now and self._probing:
            return 0.05  # somebody probes right now
        return max(0.0, until - now)

    def admit(self) -> Ticket | None:
        """May one more request be sent? None: no. In half-open one at a time may, as a probe; it must report back."""
        if self.ready_in() > 0:
            return None
        if not self._is_open:
            return self._ticket
        if self._probing:
            return None
        self._probing = True
        return Ticket(self._ticket.era, True)

    def beside(self) -> Ticket:
        """For a request that is sent although the breaker is open, since nothing else is left to ask: its success
        closes the breaker, its failure changes nothing."""
        return self._ticket

    def spoke(self, ticket: Ticket) -> None:
        """A probe's first content: the next one may follow, so that one long stream does not keep all others away."""
        if self._is_current(ticket):
            self._probing = False

    def succeeded(self, ticket: Ticket) -> None:
        if self._is_open:
            if ticket.era == self._ticket.era:
                self._close()
            return
        self._failures = 0
        self._succeeded_at = self._clock.monotonic()
        self._recent.append(True)

    def abandoned(self, ticket: Ticket) -> None:
        """The request said nothing of the deployment's health: cancelled, or refused for its own content."""
        if self._is_current(ticket):
            self._probing = False

    def failed(self, fault: UpstreamFault, ticket: Ticket) -> None:
        probed = self._is_current(ticket)
        if probed:
            self._probing = False
        if fault.kind == "rate_limit":
            wait = fault.retry_after if fault.retry_after is not None else 1.0
            self._wait(wait, "rate limited by the provider", fault.kind)
            return
        if (wrong := MISCONFIGURED.get(fault.kind)) is not None:
            self._wait(MISCONFIGURED_COOL_DOWN, wrong, fault.kind)
            return
        if fault.kind not in _COUNTS:
            return
        if fault.retry_after:
            self._wait(fault.retry_after, f"{fault.kind}, asked to wait", fault.kind)
        if self._is_open:
            if probed:
                self._open(min(self._cool_down * 2, LONGEST_COOL_DOWN), fault.kind, "the probe failed too")
            return
        self._failures += 1
        self._recent.append(False)
        if self._failures >= FAILURES_IN_A_ROW:
            self._open(FIRST_COOL_DOWN, fault.kind, f"{self._failures} failures in a row")
        elif self._mostly_failing():
            self._open(FIRST_COOL_DOWN, fault.kind, f"{self._recent.count(False)} of {WINDOW} calls failed")

    def _is_current(self, ticket: Ticket) -> bool:
        """A probe of this outage."""
        return ticket.probe and self._is_open and ticket.era == self._ticket.era

    def view(self) -> HealthView:
        wait = self.ready_in()
        well = self.well
        return HealthView(
            self.state if not self.told_to_wait else "open",
            None if well else self.reason,
            None if well else self.waits_for,
            round(wait, 3) if wait else None,
            self._failures,
            self.opened,
        )

    # -- other replicas ------------------------------------------------------------------------------------------------
    def notice(self) -> Notice:
        """What this process knows, for others."""
        now = self._clock.monotonic()
        if self._is_open and not self._is_hearsay:
            return Notice(state="open", seconds=max(self._open_until - now, 0.0), reason=self.reason or "")
        if self.told_to_wait:
            return Notice(state="wait", seconds=self._retry_until - now, reason=self.reason or "", kind=self.waits_for)
        return Notice(state="closed", seconds=FIRST_COOL_DOWN)

    def heard(self, heard: Heard, *, grace: float) -> None:
        """What another replica has found out. Where it says that the deployment fails, we believe it unless we have been
        served since; the one that found out probes first, we `grace` seconds later. Heard again, it changes nothing."""
        notice, now = heard.notice, self._clock.monotonic()
        if notice.state == "wait":
            if now + heard.seconds > self._retry_until + HEARD_AGAIN:
                self._wait(heard.seconds, _told(notice.reason), cast(FaultKind, notice.kind), own=False)
        elif notice.state == "closed":
            if self._is_open and self._is_hearsay:
                self._close(own=False)
        elif self._succeeded_at > now - heard.age or (self._is_open and not self._is_hearsay):
            return
        elif now + heard.seconds + grace > self._open_until + HEARD_AGAIN:
            was = self.state
            if not self._is_open:
                self._ticket = Ticket(self._ticket.era + 1, False)
            self._open_until = now + heard.seconds + grace
            self._is_open = self._is_hearsay = True
            self.reason, self.waits_for = _told(notice.reason), "unavailable"
            if was != "open":
                self.opened += 1
                self._tell(was, "open", self.reason)

    def _mostly_failing(self) -> bool:
        return len(self._recent) == WINDOW and self._recent.count(False) > WINDOW * FAILURE_SHARE

    def _wait(self, seconds: float, reason: str, kind: FaultKind, *, own: bool = True) -> None:
        until = self._clock.monotonic() + min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
        if until > self._retry_until:
            self._retry_until = until
            self.reason, self.waits_for = reason, kind
            self.learned += own
            self._tell("closed", "open", reason)

    def _open(self, cool_down: float, kind: FaultKind, why: str) -> None:
        was = self.state
        if not self._is_open:
            self._ticket = Ticket(self._ticket.era + 1, False)
        self._cool_down = cool_down
        self._open_until = self._clock.monotonic() + cool_down
        self._is_open = True
        self._is_hearsay = False
        self.learned += 1
        self._recent.clear()
        self.reason, self.waits_for = f"{kind}: {why}", kind
        self.opened += 1
        self._tell(was, "open", self.reason)

    def _close(self, *, own: bool = True) -> None:
        was = self.state
        self._is_open = self._probing = self._is_hearsay = False
        self.learned += own
        self._failures = 0
        self._cool_down = FIRST_COOL_DOWN
        self._recent.clear()
        self._tell(was, "closed", self.reason or "")
        self.reason = None

    def _tell(self, old: State, new: State, reason: str) -> None:
        for listener in self.on_change:
            listener(old, new, reason)


def _told(reason: str) -> str:
    return reason if reason.endswith(TOLD) else reason + TOLD


TOLD = " (another replica)"
