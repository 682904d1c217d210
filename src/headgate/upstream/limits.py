"""What a provider's rate-limit headers say of what is left. Durations differ: seconds, Go durations, RFC 3339 times."""

from __future__ import annotations

import math
import re
from datetime import datetime
from operator import itemgetter

from headgate.net.transport.protocol import HttpResponse
from headgate.upstream.deployment import Vitals

_name_of = itemgetter(0)
_GO = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
LONGEST_RESET = 120.0
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# (limit, remaining, reset) header names: OpenAI's (also Groq, xAI, Azure) and Anthropic's.
_FAMILIES = tuple(
    (f"{p}limit-{k}".encode(), f"{p}remaining-{k}".encode(), f"{p}reset-{k}".encode())
    for p, kinds in (("x-ratelimit-", ("requests", "tokens")),)
    for k in kinds
) + tuple(
    tuple(f"anthropic-ratelimit-{k}-{w}".encode() for w in ("limit", "remaining", "reset"))
    for k in ("requests", "tokens", "input-tokens", "output-tokens")
)


def read_limits(response: HttpResponse, vitals: Vitals, now: float) -> None:
    """Keeps the smallest share left of any limit the headers name, until that limit resets. `now` is Unix time."""
    if b"ratelimit" not in b" ".join(map(_name_of, response.headers)):
        return
    said = {name: value for name, value in response.headers if b"ratelimit" in name}
    lowest, reset_in = 1.0, 0.0
    for limit_name, remaining_name, reset_name in _FAMILIES:
        remaining, limit = _number(said.get(remaining_name)), _number(said.get(limit_name))
        if remaining is None or not limit:
            continue
        share = max(0.0, min(1.0, remaining / limit))
        if share < lowest:
            lowest, reset_in = share, duration(said.get(reset_name), now) or 1.0
    if lowest < 1.0:
        vitals.limits_seen(lowest, min(reset_in, LONGEST_RESET))


def resets_in(response: HttpResponse, now: float) -> float | None:
    """Seconds until every limit that is used up has been reset, at most two minutes; None where none is named."""
    said = {name: value for name, value in response.headers if b"ratelimit" in name}
    waits = [
        wait
        for _, remaining_name, reset_name in _FAMILIES
        if _number(said.get(remaining_name)) == 0 and (wait := duration(said.get(reset_name), now)) is not None
    ]
    return min(max(waits), LONGEST_RESET) if waits else None


def duration(raw: bytes | None, now: float) -> float | None:
    """Seconds of `17.39`, `26ms`, `6m0s` or an RFC 3339 time; None where it is none of these."""
    if not raw:
        return None
    text = raw.decode("latin-1").strip()
    if (seconds := _number(raw)) is not None:
        return max(0.0, seconds)
    pieces = _GO.findall(text)
    if pieces and "".join(n + u for n, u in pieces) == text:
        return sum(float(n) * _UNIT[u] for n, u in pieces)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - now)


def _number(raw: bytes | None) -> float | None:
    try:
        value = float(raw) if raw else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
