"""What a provider's error means, from its status, its own codes and its words: the providers agree on none of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from headgate.core.errors import FaultKind, UpstreamFault, fault

LONGEST = 2000
_SECRETS = re.compile(
    r"\b(?:sk-[\w\-*.]{6,}|(?:hg|csk|pplx|xai|nvapi|fw|tgp|hf|gsk|r8|ghp)[-_][A-Za-z0-9\-_]{12,}|AIza[\w\-]{10,}|"
    r"AKIA[A-Z0-9]{12,}|"
    r"eyJ[\w\-]{8,}\.[\w\-.]{8,}|(?i:bearer|basic)\s+[\w\-.~+/]{8,}=*)|(?<=[?&])(?i:key|api[-_]?key|token)=[^&\s\"']{6,}"
)
_CONTEXT = re.compile(
    r"context[_ ]?(length|window)|maximum (context|input) |too many (input )?tokens|prompt is too long|input is too long|"
    r"exceeds? the (maximum|limit).{0,40}tokens|token count .{0,60}exceeds|reduce (the length|your message size)|"
    r"larger than the model.s context|exceed context limit",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"content[_ ]?(policy|filter|management)|responsible ?ai|safety (system|reasons|polic)|usage polic|flagged|"
    r"prohibited content|data_inspection_failed",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient[_ ]?(quota|balance|credit|funds)|exceeded your current quota|credit balance|"
    r"billing|payment required|out of credits",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"api[_ ]key[_ ](not[_ ]valid|invalid)|invalid[_ ]api[_ ]key|API_KEY_INVALID|incorrect api key", re.IGNORECASE
)
# What a provider says of our account in an answer that may also repeat what the client sent (a tool's name, a field, a
# whole input): there only how the message begins counts, or anybody's words could pass for it.
_ACCOUNT_FIRST = r"(?:(?:error|you|your|the|this|account|organization|has|have|is)\b[\s:]*){0,4}"
_QUOTA_FIRST = re.compile(
    _ACCOUNT_FIRST + r"(?:insufficient[_ ]?(?:quota|balance|credit|funds)|exceeded your current quota|credit balance|"
    r"billing[_ ](?:hard|account|is|has|must|not)|payment required|out of credits)(?!\w*\s*:)",
    re.IGNORECASE,
)
_KEY_FIRST = re.compile(
    _ACCOUNT_FIRST + r"(?:api[_ ]key[_ ](?:not[_ ]valid|invalid)|invalid[_ ]api[_ ]key|incorrect api key)(?!\w*\s*:)",
    re.IGNORECASE,
)
_REPEATING = frozenset({None, 200, 400, 413, 422})
_NO_MODEL = re.compile(
    r"model[^.]{0,80}(not[_ ]found|does not exist|not exist|no longer available|is not available|not supported)|"
    r"(unknown|invalid|no such) model|model_not_found|DeploymentNotFound",
    re.IGNORECASE,
)
_BUSY = re.compile(r"overloaded|at capacity|server is busy|temporarily unavailable|try again later", re.IGNORECASE)


def classify(
    *,
    status: int | None,
    headers: Mapping[str, str] | None = None,
    message: str = "",
    code: str | None = None,
    type: str | None = None,
) -> UpstreamFault:
    """The fault behind an error that a provider reported, by HTTP status or inside a 200 (status None or 200)."""
    kind = _kind(status, message, code, type)
    return fault(
        kind,
        redact(message) or f"the provider answered with status {status}",
        upstream_status=status,
        native_code=code or type,
        retry_after=retry_after(headers or {}),
    )


# The model, not the request, is at fault: a re-roll may work, another target is the better answer.
_MODEL_FAULTS = frozenset({"tool_use_failed", "output_parse_failed", "INVALID_TOOL_GENERATION"})

_MODEL_CODES = frozenset({"model_not_found", "DeploymentNotFound"})


def _kind(status: int | None, message: str, code: str | None, type: str | None) -> FaultKind:
    names = " ".join(part for part in (code, type) if part)
    text = f"{names} {message}".strip()
    if status in (None, 200) and code is not None and code.isdigit() and 400 <= int(code) < 600:
        status = int(code)  # routers tell their upstream's status inside a 200
    if code in _MODEL_FAULTS or type in _MODEL_FAULTS:
        return "invalid_answer"
    told = names if status in _REPEATING else text
    if _KEY.search(told) or _KEY_FIRST.match(message):
        return "auth"
    if status in (None, 200, 400, 413, 422) and _CONTEXT.search(text):
        return "context_length"
    if status in (None, 200, 400, 403, 422) and _POLICY.search(text):
        return "content_policy"
    if status in (None, 200, 400, 402, 403, 429) and (_QUOTA.search(told) or _QUOTA_FIRST.match(message)):
        return "quota"
    if status == 429 or (
        status in (None, 200) and re.search(r"rate[_ ]?limit|RESOURCE_EXHAUSTED|too many requests", text, re.IGNORECASE)
    ):
        return "rate_limit"
    if code in _MODEL_CODES:
        return "not_found"
    if status in (401, 403):
        return "auth"
    if status == 402:
        return "quota"
    if status in (503, 529) or (status in (None, 200) and _BUSY.search(text)):
        return "overloaded"
    if status == 404 or (status in (None, 200, 400) and _NO_MODEL.search(text)):
        return "not_found"
    if status in (408, 504):
        return "timeout"
    if status == 409 or (status is not None and status >= 500):
        return "unavailable"
    if status is None or status < 400:
        return _inside_200(type)
    return "bad_request"


def _inside_200(type: str | None) -> FaultKind:
    """An error inside a 200 that nothing else places: the model's or the provider's failing, worth another target."""
    return "bad_request" if type == "invalid_request_error" else "invalid_answer"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from `retry-after-ms`, or `retry-after` as seconds or an HTTP date (beside the answer's own `date`).
    None where there is none."""
    if (ms := headers.get("retry-after-ms")) is not None:
        seconds = _number(ms)
        if seconds is not None:
            return seconds / 1000
    raw = headers.get("retry-after")
    if raw is None:
        return None
    if (seconds := _number(raw)) is not None:
        return seconds
    try:
        wait = parsedate_to_datetime(raw) - parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError):
        return None
    return max(0.0, wait.total_seconds())


def _number(text: str) -> float | None:
    """Seconds from 0 to a day; None where it is no number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return min(max(0.0, value), 86_400.0) if value == value else None


def redact(text: str) -> str:
    """A provider's words, safe to show: keys out, cut short, control characters blanked."""
    text = _SECRETS.sub("***", text[: LONGEST * 2])[:LONGEST]
    return "".join(c if c >= " " or c in "\n\t" else " " for c in text).strip()
