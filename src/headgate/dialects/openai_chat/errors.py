"""Error answers of OpenAI's format and of those who nearly speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import UpstreamFault
from headgate.dialects.faults import classify
from headgate.dialects.openai_chat.answer import error_of


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
