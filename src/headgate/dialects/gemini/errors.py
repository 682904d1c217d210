"""`{"error": {"code", "message", "status", "details": [...]}}` ↔ the closed tree of errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError, UpstreamFault, fault, http_status
from headgate.dialects.faults import classify

_STATUS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_RPC = "type.googleapis.com/google.rpc."
_DELAY = re.compile(r"(\d{1,6}(?:\.\d+)?)s")
_PLACE = re.compile(r"location is not supported|not available in your (country|region)", re.IGNORECASE)


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """`raw` is the error object. The wait of a 429 stands in a RetryInfo detail, the exact reason in an ErrorInfo."""
    if not isinstance(raw, dict):
        return classify(status=status, headers=headers, message=str(raw)[:500])
    code = raw.get("code")
    rows = raw.get("details")
    details = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    reason = next((row["reason"] for row in details if isinstance(row.get("reason"), str)), None)
    message = raw.get("message") if isinstance(raw.get("message"), str) else ""
    found = classify(
        status=status if status not in (None, 200) else code if isinstance(code, int) else None,
        headers=headers,
        message=message or "",
        code=reason,
        type=raw.get("status") if isinstance(raw.get("status"), str) else None,
    )
    wait = next((m for row in details if (m := _DELAY.fullmatch(str(row.get("retryDelay"))))), None)
    kind, after = found.kind, found.retry_after
    if wait is not None:
        # Gemini words its rate limits as quotas; one that says when to come back is a rate limit.
        kind = "rate_limit" if kind == "quota" else kind
        after = after if after is not None else float(wait[1])
    if kind == "bad_request" and _PLACE.search(message or ""):
        kind = "auth"  # where our account may call from is ours to mend, not the client's
    if (kind, after) == (found.kind, found.retry_after):
        return found
    return fault(
        kind, found.message, upstream_status=found.upstream_status, native_code=found.native_code, retry_after=after
    )


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    text = body.strip()
    if text.startswith(b"data:"):
        text = text[5:].strip()  # a refused stream tells its error in a frame
    try:
        raw: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "" if text.startswith(b"<") else text[:500].decode("utf-8", "replace")
        return classify(status=status, headers=headers, message=message)
    if isinstance(raw, list):
        raw = raw[0] if raw else {}
    return error_of(raw.get("error") or raw if isinstance(raw, dict) else raw, status, headers)


def render_error(error: HeadgateError, request_id: str) -> dict[str, Any]:
    """With our own code as an ErrorInfo, in the capitals that such reasons have."""
    code = http_status(error)
    info: dict[str, Any] = {"@type": f"{_RPC}ErrorInfo", "reason": error.code.upper(), "domain": "headgate"}
    if error.param is not None:
        info["metadata"] = {"param": error.param}
    details = [info]
    if error.retry_after is not None:
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{round(error.retry_after, 3):g}s"})
    if request_id:
        details.append({"@type": f"{_RPC}RequestInfo", "requestId": request_id})
    return {
        "error": {
            "code": code,
            "message": error.message,
            "status": _STATUS.get(code, "INVALID_ARGUMENT" if code < 500 else "INTERNAL"),
            "details": details,
        }
    }
