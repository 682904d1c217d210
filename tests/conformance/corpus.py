"""Which recordings a run takes, and who answers with them."""

from __future__ import annotations

import os
from typing import Any

from conformance.extract import STREAMS, format_of
from support.corpus import rows

STEP = 1 if os.environ.get("HEADGATE_CONFORMANCE") == "all" else 29
"""`make test` takes every STEP-th row, `make conformance` all of them."""
_PROVIDER = {"anthropic_messages": "anthropic", "gemini": "google"}
_BY_API = {"mistral": "mistral", "groq": "groq", "deepseek": "deepseek", "xai": "xai", "openrouter": "openrouter"}


def provider_of(fmt: str, row: dict[str, Any], door: str | None = None) -> str:
    """The recording's provider; where a door's format is also OpenAI's own, a vendor that has only the recording's."""
    if fmt in _PROVIDER:
        return _PROVIDER[fmt]
    if fmt == "openai_responses":
        return "only-responses"
    found = _BY_API.get(row["api"].partition(".")[0], "openai")
    return "only-chat" if door == "openai_responses" and found == "openai" else found


def chosen(fmt: str) -> list[dict[str, Any]]:
    found = [r for r in rows() if format_of(r["api"]) == fmt and r["response"]["kind"] in ("json", *STREAMS)]
    return found[::STEP]
