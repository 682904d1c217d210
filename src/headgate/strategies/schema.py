"""Does an answer fit the JSON that was asked for?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from headgate.core.chat import ChatRequest, ToolCall, text_of
from headgate.core.events import ChatAnswer


def breaks_schema(request: ChatRequest, answer: ChatAnswer) -> str | None:
    """What is wrong with the first choice's text, None where it fits or nothing was asked. Tool calls are no breach."""
    output = request.output
    if output is None or output.kind == "text" or not answer.choices:
        return None
    choice = answer.choices[0]
    if any(isinstance(part, ToolCall) for part in choice.parts) or choice.finish in ("refusal", "content_filter"):
        return None
    try:
        value = msgspec.json.decode(text_of(choice.parts).encode())
    except (msgspec.DecodeError, UnicodeEncodeError):
        return "not JSON"
    if output.kind == "json_object":
        return None if isinstance(value, dict) else "not a JSON object"
    if output.schema is None:
        return None
    return breaks_value(output.schema, value)


def breaks_value(schema: Mapping[str, Any], value: Any) -> str | None:
    """Where and how a JSON value breaks a schema; None where it fits."""
    error = next(_validator(msgspec.json.encode(schema)).iter_errors(value), None)
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


@lru_cache(maxsize=256)
def _validator(schema: bytes):
    """Compiled once per schema; jsonschema is only loaded where somebody asks for JSON."""
    from jsonschema import validators

    document = msgspec.json.decode(schema)
    return validators.validator_for(document, default=validators.Draft202012Validator)(document)
