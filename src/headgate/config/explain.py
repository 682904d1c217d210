"""Problems in words that say what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headgate.config.document import Document, Path
from headgate.config.errors import Problem
from headgate.core.tasks import LABELS

FEW = 12
"""Keys of a section that are listed where one is unknown and none is like it."""


def explain(error: Any, document: Document, root: type[BaseModel]) -> Problem:
    """pydantic's error on `root` in our words, at its place in the file."""
    path, message = said(error, root)
    where = ".".join(str(step) for step in path)
    return document.problem(path, f"{where}: {message}" if where and error["type"] != "extra_forbidden" else message)


def said(error: Any, root: type[BaseModel]) -> tuple[Path, str]:
    """Where pydantic's error on `root` is, and our words for it."""
    path: Path = tuple(step for step in error["loc"] if not (isinstance(step, str) and ("-" in step and "[" in step)))
    return path, _said(error, path, root)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _said(error: Any, path: Path, root: type[BaseModel]) -> str:
    given, about = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {str(path[-1])!r}" + _misplaced(path, root)
        case "missing":
            return f"`{path[-1]}` is missing"
        case "model_type":
            return "a section (key: value) is expected here" + _like(path, root, given)
        case "dict_type":
            names = ": each with a name of your own, NAME: ..." if isinstance(given, list) else ""
            return "a section (key: value) is expected here" + (": an empty one is {}" if given is None else names)
        case "list_type":
            return "a list is expected here" + (f": [{given}]" if isinstance(given, str) else "")
        case "string_type":
            return "one name or text is expected here, not " + ("a list" if isinstance(given, list) else "a section")
        case "literal_error":
            expected = about["expected"]
            return f"{str(given)!r} is not one of {expected}" + did_you_mean(
                str(given), re.findall(r"'([^']+)'", expected)
            )
        case "float_parsing" | "int_parsing" | "float_type" | "int_type" | "int_from_float":
            return f"a number is expected here, not {_short(given)}" + _percent(given)
        case "bool_parsing" | "bool_type":
            return f"true or false is expected here, not {_short(given)}"
        case "less_than_equal":
            return f"at most {about['le']:g} is expected here, not {_short(given)}" + (
                _percent(given) if about["le"] <= 1 else ""
            )
        case "greater_than_equal":
            return f"at least {about['ge']:g} is expected here, not {_short(given)}"
        case "less_than":
            return f"less than {about['lt']:g} is expected here, not {_short(given)}"
        case "greater_than":
            return f"more than {about['gt']:g} is expected here, not {_short(given)}"
        case "too_short":
            least = about["min_length"]
            return f"at least {least} {'is' if least == 1 else 'are'} needed here, not {about['actual_length']}"
        case "string_too_short":
            return "an empty text says nothing here"
        case "too_long":
            return f"at most {about['max_length']} may stand here, not {about['actual_length']}"
        case "string_pattern_mismatch":
            info = _section(path[:-1], root).get(str(path[-1]))
            form = info.description if info is not None and info.description else f"the pattern is {about['pattern']}"
            return f"{_short(given)} is not of the form that is read here: {form}"
    return re.sub(r"^Value error, ", "", error["msg"])


def _misplaced(path: Path, root: type[BaseModel]) -> str:
    """What was meant by a key that is not known here."""
    name, fields = str(path[-1]), _section(path[:-1], root)
    if "tasks" in fields and name in LABELS:
        return f": rules stand under `tasks:`, as `tasks: {{{name}: ...}}`"
    known = [info.alias or field for field, info in fields.items()]
    return did_you_mean(name, known) or (f": known are {', '.join(known)}" if 0 < len(known) <= FEW else "")


def _like(path: Path, root: type[BaseModel], given: Any) -> str:
    """The keys that such a section cannot do without."""
    if given is None:
        return ": an empty one is {}"
    fields = _section(path, root)
    needed = [info.alias or name for name, info in fields.items() if info.is_required()]
    return f": {{{', '.join(f'{name}: ...' for name in needed)}}}" if needed else ""


def _percent(given: Any) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", str(given).strip())
    if match is None or not 0 < float(match[1]) <= 100:
        return ""
    return f": a part of one, as {float(match[1]) / 100:g} for {float(match[1]):g} %"


def _short(given: Any) -> str:
    if isinstance(given, list):
        return "a list"
    return "a section" if isinstance(given, dict) else repr(str(given)[:40])


def _section(path: Sequence[str | int], root: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that the section at `path` knows; keys of mappings and indices of lists are passed over."""
    current: type[BaseModel] | None = root
    for step in path:
        known = {info.alias or name: info for name, info in current.model_fields.items()} if current is not None else {}
        if str(step) in known:
            current = _section_in(known[str(step)].annotation)
    return {} if current is None else dict(current.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section type inside Optional, Annotated, dict or list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _section_in(inner)) is not None:
            return found
    return None
