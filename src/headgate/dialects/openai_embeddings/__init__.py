"""The wire format `openai_embeddings` (POST /v1/embeddings). Requests and answers pass as bytes, in whatever form the
vectors have (lists of numbers or base64)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.dialect import Facts, Peek, Quirks, Wanted
from headgate.core.errors import UpstreamFault, fault
from headgate.core.usage import Usage
from headgate.dialects import openai_error as _error
from headgate.dialects.jsonio import decode_upstream
from headgate.dialects.opaque import Opaque
from headgate.dialects.openai_embeddings import peek as _peek


class _Skim(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    data: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_skim = msgspec.json.Decoder(_Skim)


class OpenAiEmbeddings(Opaque):
    name = "openai_embeddings"
    noun = "embeddings"
    paths = {"embeddings": "/embeddings"}

    def peek(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Peek:
        return _peek.peek(body, model=model)

    def splice(self, body: bytes, peek: Peek, *, model: str, quirks: Quirks) -> bytes | None:
        return _peek.splice(body, peek, model)

    def inspect_answer(self, body: bytes, quirks: Quirks, wanted: Wanted = "json") -> Facts:
        try:
            skim = _skim.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                skim = _loose(body)
            except UpstreamFault as error:
                return Facts(error=error)
        if skim.error:
            return Facts(error=_error.error_of(skim.error, None, {}))
        if not skim.data:
            return Facts(error=fault("invalid_answer", "the provider's answer holds no embeddings"))
        return Facts(content=True, usage=_usage(skim.usage), finish="stop", terminal=True, id=skim.id, model=skim.model)


def _loose(body: bytes) -> _Skim:
    """An answer whose ids or the like have unexpected types."""
    raw = decode_upstream(body)
    if not isinstance(raw, dict):
        raise fault("invalid_answer", "the provider's answer is not an object")
    data, usage = raw.get("data"), raw.get("usage")
    return _Skim(
        data=[msgspec.Raw(b"null")] * len(data) if isinstance(data, list) else None,
        usage=usage if isinstance(usage, dict) else None,
        error=raw.get("error"),
    )


def _usage(raw: Mapping[str, Any] | None) -> Usage | None:
    """prompt_tokens, or total_tokens alone (Voyage)."""
    for key in ("prompt_tokens", "total_tokens", "input_tokens"):
        value = raw.get(key) if raw else None
        if isinstance(value, int) and not isinstance(value, bool):
            return Usage(input=max(value, 0))
    return None


DIALECT = OpenAiEmbeddings()
__all__ = ["DIALECT"]
