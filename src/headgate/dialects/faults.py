"""What a provider's error means, from its status, its own codes and its words: the providers agree on none of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from headgate.core.errors import FaultKind, UpstreamFault, fault

LONGEST = 2000
LONGEST_WAIT = 86_400.0
"""Seconds of a wait that a provider names: a day."""
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
    r"content[_ ]?(policy|filter|management)|responsible ?ai|safety (system|reasons|polic)|usage (polic|guideline)|flagged|"
    r"prohibited content|data_inspection_failed",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient[_ ]?(quota|balance|credit|funds)|exceeded your current quota|credit balance|"
    r"billing|payment required|out of credits",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"api[_ ]key[_ ](not[_ ]valid|invalid|expired)|invalid[_ ]api[_ ]key|incorrect[_ ]api[_ ]key", re.IGNORECASE
)
_RATE = re.compile(r"rate[_ -]?limit|RESOURCE_EXHAUSTED|too[_ ]many[_ ]requests", re.IGNORECASE)

# What providers say of our account where they also say what is wrong with a request: there only how a message begins
# counts, since further on it may repeat what the client sent (a tool's name, a field, a whole input), and anybody's words
# could pass for the provider's.
_OPENING = (
    r"(?:(?:\[\d{3}\]|(?:\d{3}|bad request|error(?: code)?|api|upstream|provider|returned|request|failed|you|your|the|"
    r"this|account|organization|have|has|is)\b)[\s:\-]*){0,6}"
)
_NAME = r"(?![\w.\[\]]*\s*:)"  # a field of the client's may be called so, and stands before what is wrong with it
_QUOTA_FIRST = re.compile(
    rf"{_OPENING}(?:insufficient (?:quota|balance|credit|funds)|exceeded your current quota|credit balance|out of credits|"
    r"billing (?:hard|account|is|has|must|not)|payment required|reached your specified api usage limits|"
    rf"(?:insufficient_?(?:quota|balance|credits?|funds)|billing_\w{{1,40}}){_NAME})",
    re.IGNORECASE,
)
_KEY_FIRST = re.compile(
    rf"{_OPENING}(?:(?:invalid|incorrect|expired) api[ -]key|api key (?:(?:is|has been) )?(?:not valid|invalid|expired|"
    r"revoked|disabled|not found)|(?:organization|account) (?:has been|is|was) (?:disabled|deactivated|suspended)|"
    rf"(?:invalid_api_key|incorrect_api_key|api_key_(?:not_valid|invalid|expired)){_NAME})",
    re.IGNORECASE,
)
_OF_A_REQUEST = re.compile(
    r"\b(?:inputs?|fields?|not permitted|not allowed|(?:un)?expected|unknown|unrecogni[sz]ed|unsupported|not supported|"
    r"propert(?:y|ies)|parameters?|arguments?|attributes?|schema|(?<!key )not found|does not exist|of type|value error|"
    r"(?:should|must) (?:not|be|have|match|contain)|not match|not one of|"
    r"(?:not|be|is|a|an) (?:a |an )?(?:valid )?(?:string|integer|number|object|array|list|dict\w*|boolean)|"
    r"not an? valid (?!api.key)|invalid model)\b",
    re.IGNORECASE,
)
"""The words in which validators say what is wrong with a field: what stands before them may be its name."""
_LONGEST_OWN = 300
"""Characters of a message about our account. A longer one is not believed: some are cut, and the cut may have taken the
words that show it to be about a request."""
_OURS = frozenset({401, 402, 403, 429})
"""Statuses that are about our account, and so are the words beside them."""
_EITHER = frozenset({None, 200, 400})
"""Statuses that may be about our account or about the request."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN = r"(\d{1,9}(?:\.\d{1,15})?)\s?(milliseconds?|ms|minutes?|mins?|m|hours?|h|days?|d|seconds?|secs?|s)(?![a-z])"
_WAIT = re.compile(
    rf"\b(?:try again|retry|wait)(?: in| after| for)? ((?:{_SPAN}(?:,? and |, ?| )?){{1,4}})", re.IGNORECASE
)
_QUOTED = re.compile(r"`[^`]*`|\"[^\"]*\"|(?<!\w)'[^']*'(?!\w)")
_NO_MODEL = re.compile(
    r"model[^.]{0,80}(not[_ ]found|does not exist|not exist|no longer available|is not available|not supported)|"
    r"(unknown|invalid|no such) model|model_not_found|DeploymentNotFound",
    re.IGNORECASE,
)
_OPERATION = re.compile(r"missing scopes?: (?!.{0,200}\bmodel\.request\b)", re.IGNORECASE)
"""OpenAI, of a restricted key: it may not do this, and may do the rest. `model.request` is what asking a model takes."""
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
    inner = _inner(status, code)
    names = f"{code} {type}"
    limited = inner == 429 or (inner in (None, 200) and _RATE.search(names) is not None)
    told = _wait_told(message) if limited else None
    kind = _kind(inner, message, code, type)
    if kind == "quota" and told is not None and not _QUOTA.search(names):
        kind = "rate_limit"  # Gemini words those as quotas; an account that is used up does not say when to come back
    wait = retry_after(headers or {})
    return fault(
        kind,
        redact(message) or f"the provider answered with status {status}",
        upstream_status=status,
        native_code=code or type,
        retry_after=told if wait is None else wait,
    )


def _inner(status: int | None, code: str | None) -> int | None:
    """The status that counts: routers tell their upstream's inside a 200."""
    if status in (None, 200) and code is not None and code.isdigit() and 400 <= int(code) < 600:
        return int(code)
    return status


# The model, not the request, is at fault: a re-roll may work, another target is the better answer.
MODEL_FAULTS = frozenset({"tool_use_failed", "output_parse_failed", "INVALID_TOOL_GENERATION"})

_MODEL_CODES = frozenset({"model_not_found", "DeploymentNotFound"})


def _kind(status: int | None, message: str, code: str | None, type: str | None) -> FaultKind:
    names = " ".join(part for part in (code, type) if part)
    text = f"{names} {message}".strip()
    if code in MODEL_FAULTS or type in MODEL_FAULTS:
        return "invalid_answer"
    first = message if status in _OURS else _first(message) if status in _EITHER else ""
    if _KEY.search(names) or _KEY_FIRST.match(first):
        return "auth"
    if status in (None, 200, 400, 413, 422) and _CONTEXT.search(text):
        return "context_length"
    if status in (None, 200, 400, 403, 422) and _POLICY.search(text):
        return "content_policy"
    if status in _OURS | _EITHER and _is_quota(status, names, message, first):
        return "quota"
    inside = status in (None, 200)
    said = names if type == "invalid_request_error" else text  # which may repeat the request
    if status == 429 or (inside and _RATE.search(said)):
        return "rate_limit"
    if code in _MODEL_CODES:
        return "not_found"
    if status in (401, 403):
        return "not_found" if _OPERATION.search(message) else "auth"
    if status == 402:
        return "quota"
    if status in (503, 529) or (inside and _BUSY.search(said)):
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


def _first(message: str) -> str:
    """The message, where how it begins may be a word about our account; else nothing."""
    return "" if len(message) > _LONGEST_OWN or _OF_A_REQUEST.search(message) else message


def _is_quota(status: int | None, names: str, message: str, first: str) -> bool:
    """That our account is used up; a rate limit's message may point to the pages of billing, too."""
    if _QUOTA.search(names) or _QUOTA_FIRST.match(first):
        return True
    return status in (402, 403, 429) and "rate_limit" not in names and _QUOTA.search(message) is not None


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


def _wait_told(message: str) -> float | None:
    """Seconds, from "Please try again in 1m30.5s" or "retry after 20 seconds", where no quotation marks are around it; the
    shortest of several. None where there is none."""
    told = [
        sum(float(number) * _unit(unit) for number, unit in re.findall(_SPAN, found[1], re.IGNORECASE))
        for found in _WAIT.finditer(_QUOTED.sub(" ", message[:LONGEST]))
    ]
    return min(min(told), LONGEST_WAIT) if told else None


def _unit(name: str) -> float:
    name = name.lower()
    return 0.001 if name.startswith(("ms", "milli")) else _SECONDS[name[0]]


def _number(text: str) -> float | None:
    """Seconds from 0 to a day; None where it is no number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return min(max(0.0, value), LONGEST_WAIT) if value == value else None


def redact(text: str) -> str:
    """A provider's words, safe to show: keys out, cut short, control characters blanked."""
    text = _SECRETS.sub("***", text[: LONGEST * 2])[:LONGEST]
    return "".join(c if c >= " " or c in "\n\t" else " " for c in text).strip()
