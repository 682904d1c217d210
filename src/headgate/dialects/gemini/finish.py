"""Why an answer ended: this format's words and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import FinishReason

_FILTERED = (
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
)
# `$alt=json;enum-encoding=int` gives numbers. 10 is LANGUAGE at one of the two APIs and MODEL_ARMOR at the other.
_NUMBERS: Mapping[str, str] = {
    "0": "FINISH_REASON_UNSPECIFIED",
    "1": "STOP",
    "2": "MAX_TOKENS",
    "3": "SAFETY",
    "4": "RECITATION",
    "5": "OTHER",
    "6": "BLOCKLIST",
    "7": "PROHIBITED_CONTENT",
    "8": "SPII",
    "9": "MALFORMED_FUNCTION_CALL",
    "10": "MODEL_ARMOR",
}
_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
}
_OTHERS = (
    "FINISH_REASON_UNSPECIFIED",
    "OTHER",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
    "NO_IMAGE",
    "IMAGE_OTHER",
)
_KNOWN = frozenset(_FINISH) | frozenset(_OTHERS)
_NATIVE: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "STOP",
    "pause": "STOP",
    "other": "OTHER",
}


def finish_of(native: Any, called: bool) -> FinishReason:
    """STOP, and even what counts as a mishap, is said where functions were called; some answers say nothing at all."""
    word = _NUMBERS.get(str(native), str(native))
    reason = _FINISH.get(word, "other") if native is not None else "stop"
    return "tool_calls" if called and reason in ("stop", "other") else reason


def native_of(reason: FinishReason, native: str | None) -> str:
    """The word to say: the provider's own where it is one of this format."""
    word = _NUMBERS.get(native or "", native)
    return word if word in _KNOWN else _NATIVE[reason]
