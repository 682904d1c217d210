"""One attempt in flight: the connection, the books and the deployment's vitals, ended together exactly once."""

from __future__ import annotations

from headgate.core.envelope import Envelope
from headgate.core.errors import UpstreamFault, fault
from headgate.core.request import Request
from headgate.dialects.faults import MODEL_FAULTS
from headgate.net.transport.protocol import HttpResponse
from headgate.upstream.account import Account
from headgate.upstream.deployment import Deployment, Endpoint, Model
from headgate.upstream.health import Ticket
from headgate.upstream.life import Life

CLOSE = 0.05
"""Seconds by which timers and the clock may differ on when a request's time is over."""
UNHEARD = 60.0
"""Seconds, at least, in which nobody hears anything of a deployment: then it is down, however short each wait was."""
LONG = 2.0
"""Times the 95th percentile of a deployment's answers of the kind: who waited that long in vain may blame it."""


class Call:
    __slots__ = (
        "_ended", "_life", "account", "deployment", "endpoint", "hurry", "model", "request", "response", "ticket",
    )  # fmt: skip

    def __init__(
        self,
        life: Life,
        model: Model,
        deployment: Deployment,
        endpoint: Endpoint,
        request: Request,
        account: Account,
        ticket: Ticket,
    ) -> None:
        self._life = life
        self.model = model
        self.deployment = deployment
        self.endpoint = endpoint
        self.request = request
        self.account = account
        self.ticket = ticket
        self.response: HttpResponse | None = None
        self.hurry: Envelope | None = None
        """Whose time is over before the deployment's limits are reached."""
        self._ended = False
        deployment.vitals.outstanding += 1

    def spoke(self) -> None:
        """Its first content has come."""
        self.account.saw_content()
        if self.ticket.probe:
            self.deployment.vitals.health.spoke(self.ticket)

    def end(self, outcome: str, **books: object) -> None:
        """ok | failed | cancelled | truncated. Frees the slot, tells health, closes the books."""
        if not self._leaves():
            return
        vitals = self.deployment.vitals
        error = books.get("fault")
        if outcome == "ok":
            vitals.health.succeeded(self.ticket)
            vitals.gate.praised()
            vitals.observe(self.account.first_content or 0.0, stream=self.request.stream)
        elif isinstance(error, UpstreamFault):
            self._blame(error)
        else:
            vitals.health.abandoned(self.ticket)
        self.account.close(outcome, **books)  # type: ignore[arg-type]

    def goes_on(self, object_id: str, error: UpstreamFault | None = None) -> None:
        """The provider goes on by itself: the slot is free, the books stay open until it says how that ended. `error`: what
        broke our hearing it."""
        if not self._leaves():
            return
        if error is None:
            self.deployment.vitals.health.succeeded(self.ticket)
        else:
            self._blame(error)
        self._life.background.follow(self._life, self.account, self.deployment, self.endpoint, object_id)

    def unsent(self, outcome: str, why: str) -> None:
        """Ended by us before the first byte went out: nobody is billed and no deployment is to blame."""
        if not self._leaves():
            return
        self.deployment.vitals.health.abandoned(self.ticket)
        self.account.close(outcome, fault=fault("unavailable", why, sent=False))

    def _leaves(self) -> bool:
        """Frees the slot; False where that is done already: the first end counts."""
        if self._ended:
            return False
        self._ended = True
        self.deployment.vitals.outstanding -= 1
        self.deployment.vitals.gate.leave()
        return True

    async def close_connection(self) -> None:
        if self.response is not None:
            await self.response.aclose()

    def _blame(self, error: UpstreamFault) -> None:
        vitals = self.deployment.vitals
        self.deployment.hide(error)
        # What a model makes of a prompt (calls of tools that do not fit) says nothing of others: else anybody's five in a
        # row would open the breaker for everybody.
        if error.native_code in MODEL_FAULTS or self._is_ours(error) or self._was_hurried(error):
            vitals.health.abandoned(self.ticket)
            return
        vitals.health.failed(error, self.ticket)
        if error.kind in ("rate_limit", "overloaded"):
            vitals.gate.overloaded()

    def _is_ours(self, error: UpstreamFault) -> bool:
        """Silence and broken connections of a time in which this process did not run say nothing of the provider."""
        return error.upstream_status is None and self._life.pulse.slept_since(self.account.started)

    def _was_hurried(self, error: UpstreamFault) -> bool:
        """The request's own time is over, and it was short: a client that gives its requests a second must not open the
        breaker of a provider that takes two, for everybody. A wait that is long for any request counts as silence, and so
        do short ones in a row, in which nobody hears anything for a minute and more."""
        now, hurry = self._life.clock.monotonic(), self.hurry
        if error.kind != "timeout" or hurry is None or now < hurry.deadline - CLOSE or not hurry.ends_with_the_request:
            return False
        vitals, stream = self.deployment.vitals, self.request.stream
        if self.account.first_content is not None:
            vitals.spoke()
            return True
        usual, longest = vitals.p95(stream=stream), self.deployment.timeouts.first_token
        if now - self.account.started >= (longest if usual is None else min(longest, LONG * usual)):
            return False
        return not vitals.is_unheard(self.account.started, max(longest, UNHEARD))
