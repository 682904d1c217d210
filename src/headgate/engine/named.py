"""Files that a request's body names. Another key's do not exist, in a body no more than in a path.

A file that nobody made here (an operator's, uploaded at the provider) is anybody's to name: whose it is, nobody knows."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_FIELDS = frozenset({"file_id", "file_ids"})
_NAME = b"file_id"
_ESCAPED = re.compile(rb"\\u00[56]")
"""A letter of the fields' names, written in another way."""


def files_in(body: bytes) -> list[str]:
    """Each once. Decodes only what may name one."""
    if _NAME not in body and (b"\\u00" not in body or _ESCAPED.search(body) is None):
        return []
    try:
        todo: list[Any] = [msgspec.json.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []  # a form, or nothing that goes on
    found: dict[str, None] = {}
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo += value
        elif isinstance(value, dict):
            for field in _FIELDS & value.keys():
                named = value[field]
                found |= dict.fromkeys(
                    one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)
                )
            todo += value.values()
    return list(found)
