"""What commands print: text for people, JSON for programs, colour only on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_json(value: Any) -> None:
    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def fail(message: str, code: int = 1) -> NoReturn:
    """Ends the command: 1 the answer is no, 2 usage."""
    sys.stderr.write(message.rstrip() + "\n")
    raise SystemExit(code)


def myself() -> str:
    """What to type to call this program again: its bare name where the shell would find it, else its path from here."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if found is not None and called.exists() and Path(found).resolve() == called.resolve():
        return called.name
    if called.name != "headgate":
        return f"{sys.executable} -m headgate.cli"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def no_gateway(url: str, error: OSError) -> NoReturn:
    reason = getattr(error, "reason", error)
    said = getattr(reason, "strerror", None) or reason
    fail(
        f"no gateway answers at {url} ({said}): start one with `{myself()} serve` or `{myself()} demo`, or name its --url"
    )


def colour(text: str, code: str) -> str:
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def dim(text: str) -> str:
    return colour(text, "2")


def bold(text: str) -> str:
    return colour(text, "1")


_UNSEEN = {
    code: "�" for code in (*range(32), *range(127, 160), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def plain(text: str) -> str:
    """Without what would move the cursor, colour the screen or turn the line round: names are other people's."""
    return text.translate(_UNSEEN)


def table(rows: list[list[str]], heads: list[str]) -> str:
    """Columns as wide as they must be."""
    everything = [heads, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in everything
    ]
    return "\n".join([bold(lines[0]), *lines[1:]])
