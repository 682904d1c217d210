"""The file to be carried over: whoever reads a value says so, and what nobody has read is told at the end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headgate.config import document as yaml_document
from headgate.config.document import Path
from headgate.config.errors import ConfigError

_VARIABLE = re.compile(r"os\.environ/(\w+)")


class Note(msgspec.Struct, frozen=True):
    """One thing of the file and what became of it. `line` counts from 1."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}: {self.message}"


class Source:
    """`data` is the file's; `lost` and `changed` grow while it is read."""

    def __init__(self, text: str, file: str) -> None:
        """Raises ConfigError where it is no YAML with sections."""
        self._document = yaml_document.read(text, file, None, merge=True)
        if not isinstance(self._document.data, dict):
            raise ConfigError([self._document.problem((), "the file must hold sections such as `model_list:`")])
        self.data: dict[str, Any] = self._document.data
        self._seen: set[Path] = set()
        self.lost: list[Note] = []
        self.changed: list[Note] = []

    def take(self, *path: str | int) -> Any:
        """The value there, None where there is none: it is carried over now, with all that is in it."""
        self._seen.add(path)
        return self.look(*path)

    def look(self, *path: str | int) -> Any:
        """The value there, None where there is none: what is in it has to be taken."""
        found: Any = self.data
        for step in path:
            if isinstance(found, dict) and isinstance(step, str):
                found = found.get(step)
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found

    def number(self, *path: str | int) -> float | None:
        """A number that is carried over; where it is none, it is told and stays behind."""
        value = self.look(*path)
        if value is None:
            return None
        try:
            found = float(value)
        except (TypeError, ValueError):
            self.lose(path, "is no number")
            return None
        if not math.isfinite(found):
            self.lose(path, "is no finite number")
            return None
        self.take(*path)
        return found

    def section(self, *path: str | int) -> Mapping[str, Any]:
        found = self.look(*path)
        return found if isinstance(found, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        found = self.look(*path)
        return found if isinstance(found, list) else []

    def lose(self, path: Path, message: str) -> None:
        self._seen.add(path)
        self.lost.append(self._note(path, message))

    def change(self, path: Path, message: str) -> None:
        self.changed.append(self._note(path, message))

    def rest(self) -> Iterator[Path]:
        """The paths of all that nobody has taken, each as high up as nothing below it was taken."""
        touched = {path[:length] for path in self._seen for length in range(len(path))}

        def walk(path: Path, value: Any) -> Iterator[Path]:
            if path in self._seen or value is None:
                return
            inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            if path in touched or not path:
                for step, below in inner:
                    yield from walk((*path, step), below)
            else:
                yield path

        yield from walk((), self.data)

    def _note(self, path: Path, message: str) -> Note:
        problem = self._document.problem(path, message)
        return Note(problem.line, shown(path), message)


def shown(path: Path) -> str:
    """`model_list[0].litellm_params.model`"""
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else str(step)
    return out


def value_of(text: Any) -> Any:
    """`os.environ/NAME` as we write it: `${NAME}`. Everything else is what it was."""
    if not isinstance(text, str):
        return text
    return _VARIABLE.sub(r"${\1}", text.strip())
