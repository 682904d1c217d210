"""What a client asks of us beside its request: `x-headgate-*` headers and the body's `headgate` field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.core.money import parse_dollars
from headgate.core.request import Options

LEAST_TIMEOUT, LONGEST_TIMEOUT = 0.05, 3600.0
MOST_TAGS, LONGEST_TAG = 20, 64
_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,3})?)\s*(ms|s|m|h)?")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_TAG = re.compile(r"[\w.:/@+-]+")
_KNOWN = frozenset({"details", "tags", "max_cost", "timeout", "restart"})
SDK_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout", "x-server-timeout")
"""How long the SDKs of OpenAI and Anthropic (Stainless) and of Google say that they wait, in seconds."""


_ASKING = frozenset({f"x-headgate-{name.replace('_', '-')}" for name in _KNOWN} | {"idempotency-key", *SDK_TIMEOUTS})
_NOTHING_ASKED = Options()


def read_options(headers: Mapping[str, str], body_options: Mapping[str, Any] | None, *, stream: bool) -> Options:
    """`headers` with lower-case names. Headers win over the body. Raises InvalidRequest naming the parameter."""
    if body_options is None and _ASKING.isdisjoint(headers):
        return _NOTHING_ASKED
    given: dict[str, Any] = dict(body_options or {})
    if unknown := given.keys() - _KNOWN:
        raise InvalidRequest(f"unknown field in `headgate`: {min(unknown)[:50]!r}", param="headgate")
    for name in _KNOWN:
        key = f"x-headgate-{name.replace('_', '-')}"
        if key in headers:
            given[name] = headers[key]
    key = headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise InvalidRequest("Idempotency-Key must have 1 to 255 characters", param="Idempotency-Key")
    return Options(
        details=_flag(given.get("details"), "details"),
        restart=_flag(given.get("restart"), "restart"),
        tags=_tags(given.get("tags")),
        timeout=_timeout(given.get("timeout"), {} if stream else headers),
        max_cost=_money(given.get("max_cost")),
        idempotency_key=key,
    )


def _flag(value: Any, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if str(value).lower() in ("true", "1", "false", "0"):
        return str(value).lower() in ("true", "1")
    raise InvalidRequest(f"{name} must be true or false", param=f"headgate.{name}")


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    tags = [tag.strip() for tag in value.split(",")] if isinstance(value, str) else value
    if not isinstance(tags, list) or len(tags) > MOST_TAGS:
        raise InvalidRequest(f"tags must be at most {MOST_TAGS} words", param="headgate.tags")
    for tag in tags:
        if not isinstance(tag, str) or len(tag) > LONGEST_TAG or not _TAG.fullmatch(tag):
            raise InvalidRequest("a tag is up to 64 letters, digits and . : / @ + - _", param="headgate.tags")
    return tuple(dict.fromkeys(tags))


def _timeout(value: Any, headers: Mapping[str, str]) -> float | None:
    """Ours where given, else what the SDK says its own read timeout is: later the answer has no reader. (Not of streams:
    there it is the longest silence between two reads, which heartbeats end.) Out of range is clamped (bad input 50)."""
    if value is None:
        waits = [seconds for name in SDK_TIMEOUTS if (seconds := _seconds(headers.get(name))) is not None]
        if not waits:
            return None
        seconds = min(waits)
    else:
        match = _DURATION.fullmatch(str(value).strip().removeprefix("-")) if not isinstance(value, bool) else None
        if match is None:
            raise InvalidRequest("timeout must be a duration such as 30s", param="headgate.timeout")
        seconds = float(match[1]) * _UNIT[match[2]]
        if str(value).strip().startswith("-"):
            seconds = LEAST_TIMEOUT
    return min(max(seconds, LEAST_TIMEOUT), LONGEST_TIMEOUT)


def _seconds(text: str | None) -> float | None:
    """None where it is no number: the SDK's own header, not the user's, so nothing to complain of."""
    try:
        seconds = float(text or "nan")
    except ValueError:
        return None
    return seconds if seconds == seconds else None


def _money(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return parse_dollars(str(value))
    except ValueError as error:
        raise InvalidRequest("max_cost must be an amount in US$ such as 0.05", param="headgate.max_cost") from error
