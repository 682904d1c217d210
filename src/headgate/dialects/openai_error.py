"""Error answers in the words of OpenAI, and of those who nearly speak them: read, and written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError, UpstreamFault, wire_type
from headgate.dialects.faults import classify


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamFault:
    """`{"error": {...}}`, Mistral's flat object, `{"detail"}`, a list of one, a bare string, HTML: whatever it holds."""
    try:
        raw: Any = msgspec.json.decode(body.strip())
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[:500].decode("utf-8", "replace") if not body.lstrip().startswith(b"<") else ""
        if b"data:" in body[:200]:  # an error told as a stream of one frame
            start = body.find(b"{")
            end = body.rfind(b"}")
            if 0 <= start < end:
                return parse_error(status, headers, body[start : end + 1])
        return classify(status=status, headers=headers, message=text)
    if isinstance(raw, list) and raw:
        raw = raw[0]
    if isinstance(raw, dict) and raw.get("error"):
        return error_of(raw["error"], status, headers)
    if isinstance(raw, dict):
        message = raw.get("message") or raw.get("detail") or raw.get("msg") or ""
        if not isinstance(message, str):
            message = msgspec.json.encode(message).decode()[:500]
        return error_of({"message": message, "type": raw.get("type"), "code": raw.get("code")}, status, headers)
    return classify(status=status, headers=headers, message=str(raw)[:500])


def error_of(raw: Any, status: int | None, headers: Mapping[str, str]) -> UpstreamFault:
    """The fault in OpenAI's `error` object, or whatever stands in its place."""
    if not isinstance(raw, dict):
        return classify(status=status, headers=headers, message=str(raw))
    code = raw.get("code")
    message = raw.get("message")
    if isinstance((meta := raw.get("metadata")), dict) and isinstance(meta.get("raw"), str):
        message = f"{message}: {meta['raw']}"  # OpenRouter: the provider's own words are behind its own
    inside = raw.get("status_code") or raw.get("status")
    return classify(
        status=inside if status is None and isinstance(inside, int) else status,
        headers=headers,
        message=message if isinstance(message, str) else str(raw)[:500],
        code=None if code is None else str(code),
        type=raw.get("type") if isinstance(raw.get("type"), str) else None,
    )


def render_error(error: HeadgateError) -> dict[str, Any]:
    kind, code = wire_type(error)
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}
