"""An upper bound of a request's input tokens, without a tokenizer."""

from __future__ import annotations

PER_MESSAGE = 8
PER_MEDIUM = 3_000
"""Tokens: the largest images of the large providers cost 1,600 to 3,000."""


def input_bound(text_bytes: int, messages: int, media: int) -> int:
    """UTF-8 bytes / 3 plus constants: no tokenizer of the large providers makes more of natural text or code. Bytes of
    base64 are not text: callers leave them out."""
    return text_bytes // 3 + messages * PER_MESSAGE + media * PER_MEDIUM + 16
