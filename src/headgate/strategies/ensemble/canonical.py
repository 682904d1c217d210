"""One form for answers that say the same: numbers, choices, one line, JSON; with their reasoning left out."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import msgspec

from headgate.core.fits import deeper

_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?|-?\d+(?:\.\d+)?|-?\.\d+")
_CHOICE = re.compile(
    r"\W*(?:(?:so|therefore|the|correct|right|best|final|answer|option|choice|is)\b\W+)*\(?([A-E])\)?\W*", re.IGNORECASE
)
_FENCE = re.compile(r"```[ \t]*(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_lenient = json.JSONDecoder(strict=False).decode
"""Models write line breaks into their strings as they are."""
_MEASURE = re.compile(rf"[$€£¥]?\s*({_NUMBER.pattern})\s*(?:%|°\w?|[A-Za-z]+(?: [A-Za-z]+){{0,2}})?\.?")
_NAMED = re.compile(r'"(?:final_)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\n]+)', re.DOTALL)
_LITERAL = ("'", '"', "[", "(", "{", "b'", 'b"')
ANSWERS = ("answer", "final_answer", "result")
PROSE = frozenset(
    ("reasoning", "explanation", "rationale", "analysis", "thought", "thoughts", "thinking", "justification", "steps",
     "working", "why", "chain_of_thought", "comment", "notes")
)  # fmt: skip
"""Names of leaves that tell how an answer was found. They are never equal, and say nothing of whether the answer is."""
LONGEST_LEAF = 200
DEEPEST = 100
"""Levels of JSON that are compared."""
LONGEST_LITERAL = 4000


def canonical(text: str) -> str | None:
    """One short answer in one form: a JSON value, a choice, a number, or one line. None for prose."""
    bare = text.strip().removeprefix("[simulated]").strip()
    found, value = json_in(bare)
    if found:
        return of_value(value)
    named = _NAMED.findall(bare) if 'answer"' in bare else None
    if named:  # JSON that is not quite JSON still names its answer
        return scalar(_unquoted(named[-1].strip()))
    if bare.startswith(("{", "[", "```")):
        return None
    boxed = _BOXED.findall(bare) if "\\boxed" in bare else None
    if boxed:
        return scalar(boxed[-1])
    last = bare.splitlines()[-1].strip() if bare else ""
    if match := _CHOICE.fullmatch(last):
        return match[1].upper()
    if len(last) < 200 and (numbers := _NUMBER.findall(last)):
        return number_of(numbers[-1])
    if "\n" not in bare and len(bare) <= 80:
        return re.sub(r"\s+", " ", bare.strip(" .!\"'`*")).lower()
    return None


def json_in(text: str) -> tuple[bool, Any]:
    """(True, value) where the text is a JSON object or array, bare or in the last fence; else (False, None), as for what
    is nested too deeply to be walked through."""
    bare = text.strip()
    fenced = _FENCE.findall(bare) if "```" in bare else None
    for body in (bare, fenced[-1].strip() if fenced else ""):
        if body.startswith(("{", "[")):
            try:
                value = _lenient(body)
            except (ValueError, RecursionError):
                continue
            if not deeper(value, DEEPEST):
                return True, value
    return False, None


def of_value(value: Any) -> str:
    """A JSON value without its reasoning; where one leaf is left that is named as the answer, that leaf alone."""
    if isinstance(value, dict):
        kept = {path: leaf for path, leaf in leaves(value).items() if not is_prose(path, leaf)}
        if len(kept) == 1 and (only := next(iter(kept)))[-1] in ANSWERS:
            return scalar(kept[only])
        named = next((value[name] for name in ANSWERS if name in value), None)
        if not kept and named is not None:
            return scalar(named)
        value = {"/".join(map(str, path)): scalar(leaf) for path, leaf in kept.items()} or value
    return as_json(value, ordered=True)


def as_json(value: Any, *, ordered: bool = False) -> str:
    try:
        return msgspec.json.encode(value, order="deterministic" if ordered else None).decode()
    except UnicodeEncodeError:  # half of a surrogate pair: an escape said it, and only an escape can
        return json.dumps(value, sort_keys=ordered)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """JSON by leaf: objects are entered, everything else is one value (arrays as wholes)."""
    if not isinstance(value, dict):
        return {path: value}
    out: dict[tuple[Any, ...], Any] = {}
    for key, inner in value.items():
        out |= leaves(inner, (*path, key))
    return out


def is_prose(path: tuple[Any, ...], leaf: Any) -> bool:
    """A leaf that explains, or is too long to be equal in two answers."""
    named = any(isinstance(step, str) and step.lower() in PROSE for step in path)
    return named or (isinstance(leaf, str) and len(leaf) > LONGEST_LEAF)


def scalar(value: Any) -> str:
    """One leaf in one form: `"$1,234.50"`, `1234.5` and `"1234.5 dollars"` are equal, and so are `'ab'` and `"ab"`."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return number_of(repr(value) if isinstance(value, float) else str(value))
    if not isinstance(value, str):
        return as_json(value, ordered=True)
    bare = value.strip()
    if bare.startswith(_LITERAL) and len(bare) <= LONGEST_LITERAL:
        found = _literal(bare)
        return found if isinstance(found, str) else repr(found)
    if measure := _MEASURE.fullmatch(bare):
        return number_of(measure[1])
    return bare.lower() if bare in ("True", "False", "None") else bare


def number_of(text: str) -> str:
    """`1,234.50` and `1234.5` are one number."""
    plain = text.replace(",", "")
    if "." in plain and "e" not in plain:
        plain = plain.rstrip("0").rstrip(".")
    plain = plain.replace("-.", "-0.") if plain.startswith("-.") else "0" + plain if plain.startswith(".") else plain
    return "0" if plain in ("", "-0") else plain


def _literal(text: str) -> Any:
    """A Python or JSON literal's value; the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    found = _literal(text)
    return found if isinstance(found, str) else text
