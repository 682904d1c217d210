"""Arguments of a function call that come in pieces (Vertex, `streamFunctionCallArguments`), put together.

The first chunk names the function, later ones set values by JSON path (`$.places[0].name`) or lengthen the string at
the path, and the one without `willContinue` ends the call.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from headgate.core.errors import fault
from headgate.dialects.gemini.names import get

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,5})\]|\[(['\"])(.+?)\3\]")
_VALUES = ("stringValue", "numberValue", "boolValue")
MOST_ITEMS = 10_000


class PartialCall:
    """One call in the making. Raises an invalid_answer fault where a path does not fit what is there."""

    def __init__(self, call: dict[str, Any], wire: dict[str, Any]) -> None:
        self._call = {key: value for key, value in call.items() if key not in _PIECES}
        self._wire = {key: value for key, value in wire.items() if key not in ("functionCall", "function_call")}
        self._args: dict[str, Any] = {}
        self._lengthen: str | None = None

    def add(self, call: dict[str, Any], wire: dict[str, Any]) -> dict[str, Any] | None:
        """The whole part once it is complete."""
        signature = get(wire, "thoughtSignature")
        if signature is not None:
            self._wire["thoughtSignature"] = signature
        pieces = get(call, "partialArgs")
        for piece in pieces if isinstance(pieces, list) else []:
            if isinstance(piece, dict):
                self._set(piece)
        if get(call, "willContinue"):
            return None
        return {**self._wire, "functionCall": {**self._call, "args": self._args}}

    def _set(self, piece: dict[str, Any]) -> None:
        path = str(get(piece, "jsonPath") or "")
        steps: list[str | int] = [int(m[2]) if m[2] else m[1] or m[4] for m in _STEP.finditer(path)]
        if not steps:
            raise fault("invalid_answer", "a piece of a function call's arguments names no place")
        value = next((found for name in _VALUES if (found := get(piece, name)) is not None), None)
        place: Any = self._args
        for step, after in pairwise(steps):
            have = _at(place, step)
            if not isinstance(have, dict | list):
                have = [] if isinstance(after, int) else {}
                _put(place, step, have)
            place = have
        if self._lengthen == path and isinstance(value, str) and isinstance(have := _at(place, steps[-1]), str):
            value = have + value
        _put(place, steps[-1], value)
        self._lengthen = path if get(piece, "willContinue") else None


_PIECES = ("partialArgs", "partial_args", "willContinue", "will_continue", "args")


def is_partial(call: Any) -> bool:
    return isinstance(call, dict) and (get(call, "partialArgs") is not None or bool(get(call, "willContinue")))


def _at(place: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return place[step] if isinstance(place, list) and step < len(place) else None
    return place.get(step) if isinstance(place, dict) else None


def _put(place: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int) and isinstance(place, list) and step < MOST_ITEMS:
        place.extend([None] * (step + 1 - len(place)))
        place[step] = value
    elif isinstance(step, str) and isinstance(place, dict):
        place[step] = value
    else:
        raise fault("invalid_answer", "a piece of a function call's arguments does not fit the others")
