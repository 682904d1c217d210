"""Limits on requests, tokens and concurrency, by the generic cell rate algorithm: no windows, no timers, one number each.

A limit of N a minute lets N through at once after a minute of rest, and one every 60/N seconds after that: in any span
of t seconds at most N + N*t/60."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from headgate.core.errors import RateLimited
from headgate.core.records import LimitSpec

MINUTE = 60.0
BUSY_RETRY = 1.0
"""Seconds after which a client that met a full house may ask again: when a place gets free, nobody can know."""
UNBOUNDED_OUTPUT = 1024
"""Output tokens that are reserved where a request names no maximum; corrected by what was used."""
Headers = list[tuple[str, str]]


class Bucket:
    """`tat` (theoretical arrival time): when the bucket would be full again, in the clock's seconds."""

    __slots__ = ("interval", "limit", "tat")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.interval = MINUTE / limit if limit else math.inf
        self.tat = -math.inf

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits, 0 where it does now. More than the whole limit fits once nothing else is taken:
        an estimate may be too high, and what was really used is corrected afterwards."""
        if not self.limit:
            return math.inf
        ahead = self.tat - now
        if ahead < 0.0:
            ahead = 0.0
        over = ahead + min(amount, self.limit) * self.interval - MINUTE
        return over if over > 1e-9 else 0.0

    def take(self, amount: int, now: float) -> None:
        self.tat = max(self.tat, now) + min(amount, self.limit) * self.interval

    def correct(self, taken: int, used: int, now: float) -> None:
        """What was taken becomes what was used; a debt, which is told of now, is paid off by later requests' waiting."""
        more = used - min(taken, self.limit)
        self.tat = (max(self.tat, now) if more > 0 else self.tat) + more * self.interval

    def left(self, now: float) -> int:
        ahead = self.tat - now
        if ahead <= 0.0:
            return self.limit
        left = int((MINUTE - ahead) / self.interval + 1e-6)
        return max(0, left)

    def share(self, now: float) -> float:
        """Of the limit, that is left."""
        return self.left(now) / self.limit if self.limit else 0.0

    def reset(self, now: float) -> float:
        """Seconds until it is full again."""
        return max(self.tat - now, 0.0)


class Limiter:
    """The limits of one scope (`key:…`, `team:…`, `model:…`, `deployment:…`, `all`)."""

    __slots__ = ("concurrent", "requests", "running", "scope", "spec", "tokens")

    def __init__(self, scope: str, spec: LimitSpec) -> None:
        self.scope = scope
        self.running = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.concurrent: int | None = None
        self.spec = LimitSpec()
        self.change(spec)

    def change(self, spec: LimitSpec) -> None:
        """New limits; what is taken stays taken, in the same share of the minute."""
        if spec == self.spec:
            return
        self.requests = _changed(self.requests, spec.requests_per_minute)
        self.tokens = _changed(self.tokens, spec.tokens_per_minute)
        self.concurrent = spec.concurrent
        self.spec = spec

    def wait(self, tokens: int, now: float) -> tuple[float, str]:
        """(seconds until the request fits, what it waits for); (0, "") where it fits."""
        if self.concurrent is not None and self.running >= self.concurrent:
            return BUSY_RETRY, f"{self.concurrent} requests at a time"
        if self.requests is not None and (seconds := self.requests.wait(1, now)):
            return seconds, f"{self.requests.limit} requests per minute"
        if self.tokens is not None and (seconds := self.tokens.wait(tokens, now)):
            return seconds, f"{self.tokens.limit} tokens per minute"
        return 0.0, ""

    def take(self, tokens: int, now: float) -> None:
        self.running += 1
        if self.requests is not None:
            self.requests.take(1, now)
        if self.tokens is not None:
            self.tokens.take(tokens, now)

    def leave(self) -> None:
        """The request is over, and its place free."""
        self.running -= 1

    def correct(self, tokens: int, used: int, now: float) -> None:
        """The `tokens` that were taken for it become what it `used`."""
        if self.tokens is not None:
            self.tokens.correct(tokens, used, now)

    def undo(self, tokens: int, now: float) -> None:
        """As if the request had never come: something else refused it."""
        self.leave()
        self.correct(tokens, 0, now)
        if self.requests is not None:
            self.requests.correct(1, 0, now)


def _changed(bucket: Bucket | None, limit: int | None) -> Bucket | None:
    if limit is None:
        return None
    fresh = Bucket(limit)
    if bucket is not None:
        fresh.tat = bucket.tat
    return fresh


def take_all(limiters: Sequence[Limiter], tokens: int, now: float) -> None:
    """Takes from all of them or from none. Raises RateLimited with the longest of their waits."""
    longest, what, scope = 0.0, "", ""
    for limiter in limiters:
        seconds, why = limiter.wait(tokens, now)
        if seconds > longest:
            longest, what, scope = seconds, why, limiter.scope
    if longest:
        error = RateLimited(_message(scope, what), retry_after=None if math.isinf(longest) else longest)
        error.should_retry = False if math.isinf(longest) else None
        error.headers = tuple(headers_of(limiters, now))
        raise error
    for limiter in limiters:
        limiter.take(tokens, now)


def _message(scope: str, what: str) -> str:
    kind, _, name = scope.partition(":")
    whose = {"key": "This key", "team": f"The team {name!r}", "user": f"The user {name!r}"}.get(
        kind, f"The {kind} {name!r}" if name else "The gateway"
    )
    return f"Rate limit reached: {whose[:120]} is limited to {what}."


def headers_of(limiters: Iterable[Limiter], now: float) -> Headers:
    """`x-ratelimit-*` as OpenAI's, of the limit with the smallest share left."""
    out: Headers = []
    if requests := [limiter.requests for limiter in limiters if limiter.requests is not None]:
        out += _told(_REQUESTS, requests, now)
    if tokens := [limiter.tokens for limiter in limiters if limiter.tokens is not None]:
        out += _told(_TOKENS, tokens, now)
    return out


_REQUESTS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


def _told(names: tuple[str, str, str], buckets: Sequence[Bucket], now: float) -> Headers:
    tightest = buckets[0] if len(buckets) == 1 else min(buckets, key=lambda bucket: bucket.share(now))
    limit, remaining, reset = names
    return [
        (limit, str(tightest.limit)),
        (remaining, str(tightest.left(now))),
        (reset, go_duration(tightest.reset(now))),
    ]


def go_duration(seconds: float) -> str:
    """`12ms`, `1.5s`, `6m0s`: what OpenAI's clients parse."""
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
