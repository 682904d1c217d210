"""What a dialect said beyond the vocabulary: kept beside the node it stood on, and put back by the same dialect.

`{"rest": {...}}` holds fields as they came (unknown ones, and known ones that were null or empty); other keys are the
dialect's own notes on the form. Rendering starts from the rest, so that what was edited since wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.chat import Extensions, Node


def leftover(source: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Fields that nobody consumed: unknown names, and known names that hold nothing."""
    return {key: value for key, value in source.items() if key not in known or value is None or value == []}


def extension(dialect: str, rest: Mapping[str, Any], **notes: Any) -> Extensions:
    """The `extensions` of a node; empty where there is nothing to note."""
    out: dict[str, Any] = {key: value for key, value in notes.items() if value is not None}
    if rest:
        out["rest"] = dict(rest)
    return {dialect: out} if out else {}


def notes_of(node: Node, dialect: str) -> dict[str, Any]:
    return node.extensions.get(dialect, {})


def rest_of(node: Node, dialect: str) -> dict[str, Any]:
    """A fresh dict to render into."""
    return dict(node.extensions.get(dialect, {}).get("rest", {}))


def foreign(node: Node, dialect: str) -> list[str]:
    """Names of other dialects' leftover fields that carried something: what rendering elsewhere loses."""
    lost: list[str] = []
    for name, notes in node.extensions.items():
        if name != dialect:
            lost += [key for key, value in notes.get("rest", {}).items() if value not in (None, [], {}, "")]
    return lost
