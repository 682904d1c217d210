"""Agreement without a judge: short canonical answers, JSON by leaf, tool calls."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headgate.strategies.ensemble.candidates import Candidate

_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?")
_CHOICE = re.compile(r"^\W*(?:the )?(?:answer|option|choice)?\W*(?:is)?\W*\(?([A-Ea-e])\)?\W*$")


def canonical(text: str) -> str | None:
    """One short answer in one form: a JSON value, a choice, the last number of few words, or one line. None for prose."""
    bare = text.strip().removeprefix("[simulated]").strip()
    if bare.startswith(("{", "[")):
        try:
            value = msgspec.json.decode(bare.encode())
        except msgspec.DecodeError:
            return None
        return msgspec.json.encode(value, order="deterministic").decode()
    last = bare.splitlines()[-1].strip() if bare else ""
    if match := _CHOICE.match(last):
        return match[1].upper()
    numbers = _NUMBER.findall(last)
    if numbers and len(last) < 200:
        return number_of(numbers[-1])
    if "\n" not in bare and len(bare) <= 80:
        return re.sub(r"\s+", " ", bare.strip(" .!\"'`*")).lower()
    return None


def number_of(text: str) -> str:
    """`1,234.50` and `1234.5` are one number."""
    plain = text.replace(",", "")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return plain or "0"


def call_key(candidate: Candidate) -> str | None:
    """The calls of a candidate as name and canonical arguments, None where it calls nothing."""
    if not candidate.calls:
        return None
    return msgspec.json.encode([[call.name, _arguments(call.arguments)] for call in candidate.calls]).decode()


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.encode(msgspec.json.decode(text.encode()), order="deterministic").decode()
    except msgspec.DecodeError:
        return text


def agree(
    candidates: Sequence[Candidate], key: Callable[[Candidate], str | None]
) -> tuple[Candidate | None, float, dict[str, float]]:
    """(winner, its share of all weight, weight by key). Ties go to the incumbent's key, then to the first.

    A candidate without a key has no voice; None where nobody has one."""
    weights: dict[str, float] = defaultdict(float)
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        if (found := key(candidate)) is not None:
            weights[found] += candidate.weight
            if found not in first or candidate.incumbent:
                first[found] = candidate
    if not weights:
        return None, 0.0, {}
    best = max(weights, key=lambda k: (round(weights[k], 9), first[k].incumbent))
    return first[best], weights[best] / sum(c.weight for c in candidates), dict(weights)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """JSON by leaf: objects are entered, everything else is one value (arrays as wholes)."""
    if not isinstance(value, dict):
        return {path: value}
    out: dict[tuple[Any, ...], Any] = {}
    for key, inner in value.items():
        out |= leaves(inner, (*path, key))
    return out


def merge_json(candidates: Sequence[Candidate]) -> Any:
    """The object each of whose leaves most weight agrees on; None where the candidates are no objects of one shape."""
    objects: list[tuple[dict[tuple[Any, ...], Any], Candidate]] = []
    for candidate in candidates:
        try:
            value = msgspec.json.decode(candidate.text.strip().encode())
        except msgspec.DecodeError:
            return None
        if not isinstance(value, dict):
            return None
        objects.append((leaves(value), candidate))
    if not objects or any(found.keys() != objects[0][0].keys() for found, _ in objects):
        return None
    out: dict[str, Any] = {}
    for path in objects[0][0]:
        weights: dict[bytes, float] = defaultdict(float)
        for found, candidate in objects:
            weights[msgspec.json.encode(found[path])] += candidate.weight + (1e-9 if candidate.incumbent else 0.0)
        place = out
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = msgspec.json.decode(max(weights, key=lambda k: weights[k]))
    return out
