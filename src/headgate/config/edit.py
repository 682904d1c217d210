"""Adding an entry to a file that people write: every other line, with its comments, stays what it was."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml

from headgate.config.document import read
from headgate.config.errors import ConfigError, Problem
from headgate.config.load import load_text

_WORD = re.compile(r"[A-Za-z_][\w./-]*|\d+(\.\d+)?%?")
Tree = Mapping[str, "str | Tree"]


def flow(value: str | Tree) -> str:
    """As YAML in one line. Scalars of ours are text, so quotes change nothing."""
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else msgspec.json.encode(value).decode()
    return "{" + ", ".join(f"{flow(name)}: {flow(one)}" for name, one in value.items()) + "}"


def entry_lines(name: str, section: str, fields: Tree, indent: str = "  ") -> list[str]:
    """An entry of `models:`, one line a field and one an arm."""
    lines = [f"{indent}{flow(name)}:", f"{indent * 2}{section}:"]
    for field, value in fields.items():
        if field == "arms" and not isinstance(value, str):
            lines.append(f"{indent * 3}{field}:")
            lines += [f"{indent * 4}{flow(arm)}: {flow(side)}" for arm, side in value.items()]
        else:
            lines.append(f"{indent * 3}{field}: {flow(value)}")
    return lines


def with_entry(text: str, file: str, name: str, section: str, fields: Tree, env: Mapping[str, str]) -> tuple[str, int]:
    """The file's text with one more entry at the end of `models:`, and the entry's line. Raises ConfigError where the file
    is not valid, has the name already, or would not be valid with the entry, and where it cannot be put in by lines."""
    load_text(text, file, env)
    before = read(text, file, None).data
    if name in (before.get("models") or {}):
        raise ConfigError([Problem(f"there is an entry {name!r} already", file)])
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines()
    at, indent = _place(text, file)
    new = entry_lines(name, section, fields, indent or "  ")
    if indent is None:
        new.insert(0, "models:")
    made = newline.join([*lines[:at], *new, *lines[at:]]) + newline
    load_text(made, file, env)
    wanted = {**before, "models": {**(before.get("models") or {}), name: {section: _plain(fields)}}}
    if read(made, file, None).data != wanted:
        raise ConfigError([Problem("the entry cannot be put in by lines: add it by hand", file)])
    return made, at + 1 + (indent is None)


def replace(path: Path, text: str) -> None:
    """All of it or nothing: whoever reads meanwhile sees the old file or the new one. The file's owner and mode stay.
    Raises OSError, also where the owner cannot be kept: the gateway may run as somebody else than we do."""
    real = path.resolve()
    handle, made = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        before, now = real.stat(), Path(made).stat()
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            os.chown(made, before.st_uid, before.st_gid)
        Path(made).chmod(before.st_mode & 0o7777)
        Path(made).replace(real)
    except BaseException:
        with suppress(OSError):
            Path(made).unlink()
        raise


def _place(text: str, file: str) -> tuple[int, str | None]:
    """(the index of the line before which an entry goes, the indent of entries); no indent where there is no `models:`."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    models = next((value for key, value in pairs if key.value == "models"), None)
    if models is None:
        return len(text.splitlines()), None
    if not isinstance(models, yaml.MappingNode) or models.flow_style or not models.value:
        raise ConfigError([Problem("`models:` is written in braces: add the entry by hand", file)])
    end = _end(models)
    return end.line + (end.column > 0), " " * models.value[0][0].start_mark.column


def _end(node: yaml.Node) -> Any:
    """Where its last content ends; a block's own end is where the next thing begins, comments in between."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return node.end_mark


def _plain(fields: Tree) -> dict[str, Any]:
    return {name: value if isinstance(value, str) else _plain(value) for name, value in fields.items()}
