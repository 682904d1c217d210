"""Does a JSON value fit a JSON Schema? Both may come from strangers: nothing is fetched, no pattern runs, work is bounded.

A schema may name a document elsewhere (an address of the gateway's own network, say), hold a regular expression that takes
a lifetime, or refer to itself without end. Such schemas are still sent to the provider; here they count as fitting as far
as they can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import msgspec

STEPS = 50_000
"""Keywords that one check may look at; a large answer to a large schema takes some thousands. Following a reference takes
as long as many others."""
REFERENCE = 25
COMPARED = 8
"""Values compared with one another that take as long as one keyword."""
LARGEST_SCHEMA = 256 * 1024
_PATTERNS = b'"patternProperties"'
_steps_left: ContextVar[list[int]] = ContextVar("steps_left")


class _TooMuch(Exception):
    pass


def misfit(schema: Mapping[str, Any], value: Any) -> str | None:
    """Where and how `value` breaks `schema`; None where it fits, and where nobody here can tell: the schema is none, refers
    to another document, or takes too much work."""
    from referencing.exceptions import Unresolvable

    token = _steps_left.set([STEPS])
    try:
        checker = _checker(msgspec.json.encode(schema))
        error = next(checker.iter_errors(value), None) if checker is not None else None
    except (_TooMuch, RecursionError, Unresolvable):
        return None
    finally:
        _steps_left.reset(token)
    return None if error is None else f"{error.json_path}: {error.message[:200]}"


def deeper(value: Any, levels: int) -> bool:
    """Are there more than `levels` of objects and arrays in each other?"""
    inside = [value]
    for _ in range(levels + 1):
        found = [one for one in inside if isinstance(one, dict | list)]
        if not found:
            return False
        inside = [inner for one in found for inner in (one.values() if isinstance(one, dict) else one)]
    return True


@lru_cache(maxsize=256)
def _checker(schema: bytes) -> Any:
    """Compiled once per schema; jsonschema is only loaded where somebody asks for JSON."""
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError
    from jsonschema_specifications import REGISTRY  # the drafts themselves; it retrieves nothing

    if len(schema) > LARGEST_SCHEMA:
        return None
    document = msgspec.json.decode(schema)
    draft = validators.validator_for(document, default=validators.Draft202012Validator)
    try:
        draft.check_schema(document)
    except SchemaError:
        return None
    keywords = {
        name: _counted(
            keyword, REFERENCE if name in ("$ref", "$dynamicRef", "$recursiveRef") else 1, _COMPARING.get(name)
        )
        for name, keyword in draft.VALIDATORS.items()
    }
    for name in ("pattern", "patternProperties") + (_BY_PATTERNS if _PATTERNS in schema else ()):
        if name in keywords:
            keywords[name] = _passed_by
    return validators.extend(draft, keywords)(document, registry=REGISTRY)


_BY_PATTERNS = ("additionalProperties", "unevaluatedProperties")
_Keyword = Callable[[Any, Any, Any, Any], Iterable[Any] | None]


def _counted(keyword: _Keyword, steps: int, compared: Callable[[Any, Any], int] | None = None) -> _Keyword:
    """`compared`: how many values a keyword compares, from its own value and what it is applied to."""

    def counting(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any] | None:
        left = _steps_left.get()
        left[0] -= steps + (0 if compared is None else compared(value, instance) // COMPARED)
        if left[0] < 0:
            raise _TooMuch
        return keyword(validator, value, instance, schema)

    return counting


def _listed(value: Any, instance: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _pairs(value: Any, instance: Any) -> int:
    """What can be sorted is; of all else every one is compared with every other one."""
    if not value or not isinstance(instance, list):
        return 0
    sortable = all(isinstance(one, str) for one in instance) or all(isinstance(one, int | float) for one in instance)
    return len(instance) if sortable else len(instance) ** 2 // 2


_COMPARING = {"enum": _listed, "required": _listed, "uniqueItems": _pairs}


def _passed_by(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[Any]:
    return ()
