"""Proto JSON allows two spellings of every field: camelCase and snake_case. Reading takes both, writing keeps the form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

NAME = "gemini"
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")
_SCORE = re.compile(r"_([a-z])")


@lru_cache(maxsize=256)
def snake(name: str) -> str:
    return _HUMP.sub(lambda m: "_" + m[1].lower(), name)


def camel(name: str) -> str:
    return _SCORE.sub(lambda m: m[1].upper(), name)


def get(raw: Mapping[str, Any], name: str) -> Any:
    """Value of `name` (camelCase) in either spelling, None where it is absent."""
    value = raw.get(name)
    return raw.get(snake(name)) if value is None else value


def spelled(raw: Mapping[str, Any], name: str) -> str | None:
    """The spelling in which the field is there."""
    if name in raw:
        return name
    other = snake(name)
    return other if other in raw else None


def both(*names: str) -> frozenset[str]:
    return frozenset(names) | {snake(name) for name in names}


def forms(raw: Mapping[str, Any], names: frozenset[str]) -> dict[str, str] | None:
    """Which of `names` are spelled otherwise than in camelCase; None where none is."""
    out = {camel(key): key for key in raw if key in names and camel(key) != key}
    return out or None


def respell(out: dict[str, Any], noted: Mapping[str, str] | None) -> None:
    """Gives the fields of `out` the spelling that `forms` noted."""
    for name, form in (noted or {}).items():
        if name in out:
            out[form] = out.pop(name)
