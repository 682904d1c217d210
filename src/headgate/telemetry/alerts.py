"""Alerts: events of the house that an operator wants to hear of, posted to a webhook.

`event` only puts into a bounded queue, so that no request ever waits for whoever listens: a webhook that hangs costs
alerts, which are counted, and nothing else. The same alert of the same subject is told once per `every`; the next one says
how often it came meanwhile. Redirects are not followed, and the address must be public or in a network that the operator
has named (net.egress).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from headgate.core.clock import Clock
from headgate.net.egress import EgressPolicy, parse_url
from headgate.net.transport.protocol import HttpRequest, Limits, Transport, TransportError

QUEUE = 256
TRIES = 3
PAUSE = 1.0
"""Seconds before the second try, doubled before the third."""
SECONDS = 5.0
"""Longest time for one try."""
SUBJECTS = 1000
"""Alerts whose last time is remembered."""
_SUBJECT = (
    "deployment",
    "model",
    "chosen",
    "over",
    "state",
    "error",
    "reason",
    "scope",
    "period",
    "hard",
    "budget",
    "key",
    "team",
    "detail",
)
SIGNATURE = "x-headgate-signature"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` signs each body: `sha256=` and the hex HMAC-SHA-256 of it. `networks` may be reached although they are not
    public."""

    url: str
    secret: str | None = None
    networks: tuple[str, ...] = ()

    @property
    def policy(self) -> EgressPolicy:
        return EgressPolicy(networks=self.networks, ports=())


class Alerts:
    """`on`: kinds of events that are alerts. `event` from the loop, `run` as a task of it."""

    def __init__(
        self, hook: Webhook, on: frozenset[str], transport: Transport, clock: Clock, *, every: float = 60.0
    ) -> None:
        """`transport` must resolve names through a GuardedResolver of `hook.policy`. Raises EgressRefused for a URL
        that the policy does not allow."""
        self._hook = hook
        self._origin, self._target = parse_url(hook.url, hook.policy)
        self._on = on
        self._transport = transport
        self._clock = clock
        self._every = every
        self._queue: deque[dict[str, Any]] = deque()
        self._came = asyncio.Event()
        self._told: OrderedDict[tuple[str, ...], list[float]] = OrderedDict()
        self.counts: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        """sent; failed after all tries; dropped because the queue was full."""
        self.on_failure: Callable[[str], None] = lambda why: None
        """Called with the reason when an alert could not be delivered."""

    def event(self, kind: str, facts: dict[str, object]) -> None:
        """For `house.on_event`."""
        if kind not in self._on or self._is_known(kind, facts):
            return
        if len(self._queue) >= QUEUE:
            self.counts["dropped"] += 1
            return
        self._queue.append({"alert": kind, "at": self._clock.time(), **self._repeated(kind, facts), "facts": facts})
        self._came.set()

    async def run(self) -> None:
        """Delivers, one at a time, in order."""
        while True:
            self._came.clear()
            while self._queue:
                await self._deliver(self._queue.popleft())
            await self._came.wait()

    def _is_known(self, kind: str, facts: dict[str, object]) -> bool:
        """Told of within `every` already: counted for the next time."""
        subject, now = _subject(kind, facts), self._clock.monotonic()
        known = self._told.get(subject)
        if known is not None and now - known[0] < self._every:
            known[1] += 1
            return True
        return False

    def _repeated(self, kind: str, facts: dict[str, object]) -> dict[str, int]:
        subject = _subject(kind, facts)
        known = self._told.pop(subject, None)
        self._told[subject] = [self._clock.monotonic(), 0]
        if len(self._told) > SUBJECTS:
            self._told.popitem(last=False)
        return {"repeated": int(known[1])} if known is not None and known[1] else {}

    async def _deliver(self, alert: dict[str, Any]) -> None:
        body = msgspec.json.encode(alert, enc_hook=str)
        why = ""
        for number in range(TRIES):
            if number:
                await self._clock.sleep(PAUSE * 2 ** (number - 1))
            try:
                status = await self._post(body)
            except TransportError as error:
                why = f"{type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                self.counts["sent"] += 1
                return
            why = f"it answered {status}"
            if status < 500 and status not in (408, 429):
                break  # refused, or redirected: the same again would be the same
        self.counts["failed"] += 1
        self.on_failure(why)

    async def _post(self, body: bytes) -> int:
        headers = [("content-type", "application/json")]
        if self._hook.secret:
            signed = hmac.new(self._hook.secret.encode(), body, hashlib.sha256).hexdigest()
            headers.append((SIGNATURE, f"sha256={signed}"))
        request = HttpRequest(
            origin=self._origin, method="POST", target=self._target, headers=(), extra=tuple(headers), body=body
        )
        limits = Limits(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, body_bytes=65_536)
        response = await self._transport.send(request, limits, asyncio.get_running_loop().time() + SECONDS)
        await response.aclose()
        return response.status


def _subject(kind: str, facts: dict[str, object]) -> tuple[str, ...]:
    return (kind, *(str(facts[name]) for name in _SUBJECT if name in facts))
