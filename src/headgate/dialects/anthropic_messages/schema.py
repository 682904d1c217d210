"""Any JSON Schema → one that Anthropic's constrained output takes.

Objects are closed there, and most limits on values do not exist: those become words in the description, as Anthropic's
own SDK writes them, and are named as lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from headgate.dialects.jsonio import encode

_UNKNOWN = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "uniqueItems", "contains", "minContains", "maxContains", "minProperties", "maxProperties", "propertyNames",
     "patternProperties", "dependentRequired", "dependentSchemas", "not", "if", "then", "else", "prefixItems",
     "unevaluatedProperties", "unevaluatedItems"}
)  # fmt: skip
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})


class Open(ValueError):
    """The schema asks for an object whose keys are not named in it: no closed object can stand for it."""


def closed(schema: Any, lost: set[str]) -> Any:
    """`schema` as Anthropic takes it; names of the keywords it cannot hold go into `lost`. Raises Open."""
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in schema.items():
        if _is_unknown(key, value):
            lost.add(key)
            notes.append(f"{key}: {value if isinstance(value, str) else encode(value).decode()}")
        elif key == "oneOf":
            out["anyOf"] = value
        elif key != "additionalProperties":
            out[key] = value
    for key, walk in _WALKS.items():
        if key in out:
            out[key] = walk(out[key], lost)
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in out:
        more = schema.get("additionalProperties")
        if isinstance(more, dict) or (more is not False and not out.get("properties")):
            raise Open("an object with free keys")
        out["additionalProperties"] = False
    if notes:
        words = "{" + ", ".join(notes) + "}"
        out["description"] = f"{out['description']}\n\n{words}" if out.get("description") else words
    return out


def _is_unknown(key: str, value: Any) -> bool:
    if key == "format":
        return value not in _FORMATS
    if key == "minItems":
        return value not in (0, 1)
    return key in _UNKNOWN


def _one(value: Any, lost: set[str]) -> Any:
    return closed(value, lost)


def _list(value: Any, lost: set[str]) -> Any:
    return [closed(item, lost) for item in value] if isinstance(value, list) else value


def _named(value: Any, lost: set[str]) -> Any:
    return {name: closed(item, lost) for name, item in value.items()} if isinstance(value, dict) else value


_WALKS: Mapping[str, Callable[[Any, set[str]], Any]] = {
    "properties": _named,
    "$defs": _named,
    "definitions": _named,
    "items": _one,
    "anyOf": _list,
    "allOf": _list,
}
