"""Error answers in Anthropic's words, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError, UpstreamFault, http_status
from headgate.dialects.faults import classify

# CLIENTS §2: Anthropic's error types by HTTP status.
TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# The status that an error inside a stream would have had.
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    """Anthropic's object, Google's (Vertex: also as a list of one), `{"message"}`, plain text, HTML: whatever it holds."""
    try:
        raw = msgspec.json.decode(body.strip())
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace")[:500].strip()
        start, end = text.find("{"), text.rfind("}")
        if text.startswith(("event:", "data:")) and 0 <= start < end:
            return parse_error(status, headers, text[start : end + 1].encode())  # a refused stream, told as one
        return classify(status=status, headers=headers, message="" if text.startswith("<") else text)
    return error_of(raw, status, headers)


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """The fault in `{"type": "error", "error": {"type", "message"}}`, or in what stands in its place. `status` is None
    for an error inside a 200; then the error's own type decides."""
    if isinstance(raw, list) and raw:
        raw = raw[0]
    error = raw.get("error") if isinstance(raw, dict) else None
    if not isinstance(error, dict):
        error = raw if isinstance(raw, dict) else {}
    message = next((error[key] for key in ("message", "detail", "error") if isinstance(error.get(key), str)), "")
    kind = next((error[key] for key in ("type", "status") if isinstance(error.get(key), str)), None)
    code = error.get("code")
    if status is None:
        status = _STATUS.get(kind or "")
    return classify(
        status=status,
        headers=headers,
        message=message,
        code=str(code) if isinstance(code, str | int) and not isinstance(code, bool) else None,
        type=None if kind == "error" else kind,
    )


def render_error(error: HeadgateError, request_id: str) -> dict[str, Any]:
    status = http_status(error)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
