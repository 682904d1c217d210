"""Instances of a JSON Schema: valid ones that a model might have written, and broken ones as a poor model's are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

_DEPTH = 12
Hint = Callable[[str, Mapping[str, Any]], Any]
"""(property name, its schema) -> a value, or MISSING where it has none."""
MISSING: Any = object()

_BY_FORMAT = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/simulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def no_hint(name: str, schema: Mapping[str, Any]) -> Any:
    return MISSING


def instance(schema: Mapping[str, Any] | None, luck: Random, hint: Hint = no_hint, *, optional: bool = True) -> Any:
    """A value valid under `schema` as far as the keywords in common use go. Optional properties are filled too, or only
    where the hint knows a value."""
    root = schema or {}
    return _value(root, "", _Context(root, luck, hint, optional), 0)


class _Context:
    def __init__(self, root: Mapping[str, Any], luck: Random, hint: Hint, optional: bool) -> None:
        self.root, self.luck, self.hint, self.optional = root, luck, hint, optional


def _value(schema: Any, name: str, context: _Context, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEPTH:
        return {} if schema is True else None
    schema = _resolved(schema, context.root)
    if "const" in schema:
        return schema["const"]
    hinted = context.hint(name, schema) if name else MISSING
    if hinted is not MISSING:
        return hinted
    if schema.get("enum"):
        return context.luck.choice(list(schema["enum"]))
    for key in ("anyOf", "oneOf"):
        options = [option for option in schema.get(key, ()) if not _is_null(option)]
        if options:
            return _value({**_bare(schema, key), **options[0]}, name, context, depth + 1)
    if schema.get("allOf"):
        merged = _bare(schema, "allOf")
        for part in schema["allOf"]:
            part = _resolved(part, context.root)
            merged = {
                **merged,
                **part,
                "properties": {**merged.get("properties", {}), **part.get("properties", {})},
                "required": [*merged.get("required", ()), *part.get("required", ())],
            }
        return _value(merged, name, context, depth + 1)
    return _typed(schema, name, context, depth)


def _typed(schema: Mapping[str, Any], name: str, context: _Context, depth: int) -> Any:
    match _type(schema):
        case "object":
            return _object(schema, context, depth)
        case "array":
            count = max(int(schema.get("minItems", 0)), min(2, int(schema.get("maxItems", 2))))
            prefix = [_value(item, name, context, depth + 1) for item in schema.get("prefixItems", ())]
            items = schema.get("items")
            rest = 0 if items is None and prefix else max(0, count - len(prefix))
            return prefix + [_value(items or {}, name, context, depth + 1) for _ in range(rest)]
        case "string":
            return _string(schema, name)
        case "integer":
            return int(_number(schema, context.luck))
        case "number":
            return _number(schema, context.luck)
        case "boolean":
            return True
        case "null":
            return None
    return f"simulated {name}".strip()


def _object(schema: Mapping[str, Any], context: _Context, depth: int) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = schema.get("required", ())
    out: dict[str, Any] = {}
    for name, sub in properties.items():
        if name not in required:
            sub_schema = _resolved(sub, context.root) if isinstance(sub, Mapping) else {}
            known = context.hint(name, sub_schema) is not MISSING
            if not known and not (context.optional and depth < 3):
                continue
        out[name] = _value(sub, name, context, depth + 1)
    for name in required:
        if name not in out:
            out[name] = _value(properties.get(name, {}), name, context, depth + 1)
    extra = schema.get("additionalProperties")
    if not properties and isinstance(extra, Mapping):
        out["simulated"] = _value(extra, "simulated", context, depth + 1)
    return out


def _string(schema: Mapping[str, Any], name: str) -> str:
    if schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    text = f"simulated {re.sub(r'[_-]+', ' ', name)}".strip()
    if "pattern" in schema and not re.search(schema["pattern"], text):
        text = _of_pattern(schema["pattern"])
    low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
    text = text + "." * max(0, low - len(text))
    return text if high is None else text[: int(high)]


def _of_pattern(pattern: str) -> str:
    """A string for the simple patterns that schemas use; the first of some guesses that fits."""
    guesses = "abc ABC a A 1 12 123 1234 12345 A1 abc-123 2026-01-15 1.0.0 #a1b2c3"
    return next((guess for guess in guesses.split() if re.search(pattern, guess)), "")


def _number(schema: Mapping[str, Any], luck: Random) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1)
    low = 0 if low is None and (high is None or high >= 0) else (high - 10 if low is None else low)
    high = low + 10 if high is None else high
    start = low + (step if "exclusiveMinimum" in schema else 0)
    if "multipleOf" in schema:
        start = math.ceil(start / step) * step
    steps = max(0, int((high - start) / step) - (1 if "exclusiveMaximum" in schema else 0))
    value = start + step * luck.randint(0, min(steps, 10))
    return value if value <= high else (low + high) / 2


def _type(schema: Mapping[str, Any]) -> str | None:
    declared = schema.get("type")
    if isinstance(declared, list):
        declared = next((t for t in declared if str(t).lower() != "null"), "null")
    if isinstance(declared, str):
        return declared.lower()  # Gemini writes them in capitals
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else None


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        target: Any = root
        for step in reference.lstrip("#/").split("/") if reference != "#" else ():
            target = target.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
        schema = {**_bare(schema, "$ref"), **target} if isinstance(target, Mapping) else {}
    return schema


def _bare(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _is_null(option: Any) -> bool:
    return isinstance(option, Mapping) and str(option.get("type", "")).lower() == "null"


def spoiled(value: Any, schema: Mapping[str, Any] | None, luck: Random) -> Any:
    """`value` made invalid: a required property gone, or the whole of another type."""
    required = list((schema or {}).get("required", ()))
    if isinstance(value, dict) and required:
        gone = luck.choice(required)
        return {name: inner for name, inner in value.items() if name != gone}
    return {"simulated_mistake": value} if not isinstance(value, dict) else [value]
