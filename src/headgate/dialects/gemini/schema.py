"""Gemini's older schema language → JSON Schema. The other way is not needed: its newer fields take JSON Schema itself."""

from __future__ import annotations

from typing import Any

_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
_MAPS = frozenset({"properties", "$defs", "definitions", "defs", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"enum", "const", "default", "example", "examples", "required"})  # hold values, not schemas
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})


def plain_schema(schema: Any) -> Any:
    """Upper-case types as JSON Schema has them, `nullable` as a type of its own, counts (int64: strings) as numbers."""
    if isinstance(schema, list):
        return [plain_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: _field(key, value) for key, value in schema.items()}
    kind = schema.get("type")
    if isinstance(kind, str) and kind.lower() in _TYPES:
        out["type"] = kind.lower()
        if schema.get("nullable") is True:
            del out["nullable"]
            out["type"] = [kind.lower(), "null"]
    return out


def _field(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _MAPS and isinstance(value, dict):
        return {name: plain_schema(schema) for name, schema in value.items()}
    if key in _COUNTS and isinstance(value, str) and value.isdigit():
        return int(value)
    return plain_schema(value)
