"""How each provider words its errors and heads its answers: the shapes on the wire, not our own errors' rendering."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random
from typing import Any

from headgate.simulator import script as steps

Wording = tuple[int, str, str, str | None]
"""(status, message, type, code)"""

_OPENAI: dict[str, Wording] = {
    "server": (500, "The server had an error while processing your request. Sorry about that!", "server_error", None),
    "overloaded": (503, "The engine is currently overloaded, please try again later", "server_error", None),
    "rate_limit": (429, "Rate limit reached for {model} on requests per min (RPM): Limit 500, Used 500, Requested 1.",
                   "requests", "rate_limit_exceeded"),
    "quota": (429, "You exceeded your current quota, please check your plan and billing details.",
              "insufficient_quota", "insufficient_quota"),
    "auth": (401, "Incorrect API key provided: sk-sim****. You can find your API key in your dashboard.",
             "invalid_request_error", "invalid_api_key"),
    "forbidden": (403, "You are not allowed to sample from this model", "invalid_request_error", "model_not_allowed"),
    "not_found": (404, "The model `{model}` does not exist or you do not have access to it.",
                  "invalid_request_error", "model_not_found"),
    "context_length": (400, "This model's maximum context length is {limit} tokens. However, your messages resulted in "
                       "{tokens} tokens. Please reduce the length of the messages.",
                       "invalid_request_error", "context_length_exceeded"),
    "content_policy": (400, "Your request was rejected as a result of our safety system.",
                       "invalid_request_error", "content_policy_violation"),
    "bad_request": (400, "{detail}", "invalid_request_error", None),
}  # fmt: skip
_ANTHROPIC: dict[str, Wording] = {
    "server": (500, "Internal server error", "api_error", None),
    "overloaded": (529, "Overloaded", "overloaded_error", None),
    "rate_limit": (429, "This request would exceed your organization's rate limit of 50 requests per minute.",
                   "rate_limit_error", None),
    "quota": (400, "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
              "upgrade or purchase credits.", "invalid_request_error", None),
    "auth": (401, "invalid x-api-key", "authentication_error", None),
    "forbidden": (403, "Your API key does not have permission to use the specified resource", "permission_error", None),
    "not_found": (404, "model: {model}", "not_found_error", None),
    "context_length": (400, "prompt is too long: {tokens} tokens > {limit} maximum", "invalid_request_error", None),
    "content_policy": (400, "Output blocked by content filtering policy", "invalid_request_error", None),
    "bad_request": (400, "{detail}", "invalid_request_error", None),
}  # fmt: skip
_GEMINI: dict[str, Wording] = {
    "server": (500, "An internal error has occurred. Please retry or report in the developer forum.", "INTERNAL", None),
    "overloaded": (503, "The model is overloaded. Please try again later.", "UNAVAILABLE", None),
    "rate_limit": (429, "You exceeded your current quota, please check your plan and billing details.",
                   "RESOURCE_EXHAUSTED", None),
    "quota": (429, "You exceeded your current quota, please check your plan and billing details.",
              "RESOURCE_EXHAUSTED", None),
    "auth": (400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", "API_KEY_INVALID"),
    "forbidden": (403, "The caller does not have permission", "PERMISSION_DENIED", None),
    "not_found": (404, "models/{model} is not found for API version v1beta, or is not supported for generateContent.",
                  "NOT_FOUND", None),
    "context_length": (400, "The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit}).",
                       "INVALID_ARGUMENT", None),
    "content_policy": (400, "The request was blocked by the provider's policy.", "INVALID_ARGUMENT", None),
    "bad_request": (400, "{detail}", "INVALID_ARGUMENT", None),
}  # fmt: skip


def family(dialect: str) -> str:
    """openai, anthropic or gemini: whose words a format's errors are in."""
    if dialect == "anthropic_messages":
        return "anthropic"
    return "gemini" if dialect == "gemini" else "openai"


def kinds() -> frozenset[str]:
    return frozenset(_OPENAI)


def error_body(
    dialect: str, kind: str, *, status: int | None = None, retry_after: float | None = None, **words: Any
) -> tuple[int, dict[str, Any]]:
    """(status, body) of an error as this format's provider says it."""
    table = {"anthropic": _ANTHROPIC, "gemini": _GEMINI, "openai": _OPENAI}[family(dialect)]
    usual, message, kind_type, code = table[kind]
    filled = {"model": "", "limit": 0, "tokens": 0, "detail": "Invalid request", **words}
    text = message.format(**filled)
    status = status or usual
    match family(dialect):
        case "anthropic":
            body: dict[str, Any] = {
                "type": "error",
                "error": {"type": kind_type, "message": text},
                "request_id": "req_simulated",
            }
        case "gemini":
            details: list[dict[str, Any]] = []
            if code is not None:
                details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code})
            if retry_after is not None:
                details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after:g}s"})
            inner = {"code": status, "message": text, "status": kind_type}
            body = {"error": {**inner, "details": details} if details else inner}
        case _:
            body = {"error": {"message": text, "type": kind_type, "param": None, "code": code}}
    return status, body


def refusal(
    dialect: str, kind: str, *, headers: steps.Headers = (), retry_after: float | None = None, **words: Any
) -> list[steps.Step]:
    """A whole error answer. Gemini says `retry-after` only in the body, and blocks a prompt with a 200."""
    if family(dialect) == "gemini" and kind == "content_policy":
        blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 1}}
        return steps.reply_json(200, blocked, headers)
    status, body = error_body(dialect, kind, retry_after=retry_after, **words)
    if retry_after is not None and family(dialect) != "gemini":
        headers = (*headers, ("retry-after", f"{retry_after:g}"))
    return steps.reply_json(status, body, headers)


def stream_error(dialect: str, kind: str = "overloaded") -> bytes:
    """An error as it comes inside a stream that had begun well."""
    _, body = error_body(dialect, kind)
    match dialect:
        case "anthropic_messages":
            return b"event: error\ndata: " + _json({"type": "error", "error": body["error"]}) + b"\n\n"
        case "openai_responses":
            told = {"type": "error", "code": "server_error", "message": body["error"]["message"], "param": None,
                    "sequence_number": 99}  # fmt: skip
            return b"event: error\ndata: " + _json(told) + b"\n\n"
        case "gemini":
            return b"data: " + _json(body) + b"\r\n\r\n"
    return b"data: " + _json(body) + b"\n\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Window:
    """What is left of a provider's limit of requests in the running minute, for its rate-limit headers."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        self._since = float("-inf")

    def take(self, now: float) -> bool:
        """Counts one request; False where the limit is used up."""
        if now - self._since >= 60:
            self._since, self.used = now, 0
        self.used += 1
        return self.limit is None or self.used <= self.limit

    def resets_in(self, now: float) -> float:
        return max(0.0, self._since + 60 - now)


def headers(dialect: str, window: Window, *, now: float, wall: float, luck: Random) -> list[tuple[str, str]]:
    """What the provider's own answers carry: request id and rate limits, in its way of writing them."""
    limit = window.limit or 10_000
    left = max(0, limit - window.used)
    reset = window.resets_in(now)
    number = f"{luck.getrandbits(80):020x}"
    match family(dialect):
        case "anthropic":
            at = datetime.fromtimestamp(wall + reset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return [
                ("request-id", f"req_sim{number}"),
                ("anthropic-ratelimit-requests-limit", str(limit)),
                ("anthropic-ratelimit-requests-remaining", str(left)),
                ("anthropic-ratelimit-requests-reset", at),
                ("anthropic-ratelimit-tokens-limit", "4000000"),
                ("anthropic-ratelimit-tokens-remaining", "3990000"),
                ("anthropic-ratelimit-tokens-reset", at),
                ("x-simulated", "true"),
            ]
        case "gemini":
            return [("x-gemini-service-tier", "standard"), ("server-timing", "gfet4t7; dur=7"), ("x-simulated", "true")]
    return [
        ("x-request-id", f"req_sim{number}"),
        ("openai-processing-ms", "42"),
        ("x-ratelimit-limit-requests", str(limit)),
        ("x-ratelimit-remaining-requests", str(left)),
        ("x-ratelimit-reset-requests", f"{reset:.3f}s"),
        ("x-ratelimit-limit-tokens", "4000000"),
        ("x-ratelimit-remaining-tokens", "3990000"),
        ("x-ratelimit-reset-tokens", "150ms"),
        ("x-simulated", "true"),
    ]
