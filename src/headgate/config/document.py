"""YAML as text with positions: scalars stay what was written, and every error knows its line and column."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import yaml

from headgate.config.errors import ConfigError, Problem

Path = tuple[str | int, ...]
MOST_NODES = 50_000
DEEPEST = 50
_PLACEHOLDER = re.compile(r"\$\{(file:)?([^}:]+)(?::-([^}]*))?\}")


class Document:
    """`data`: dicts, lists, strings and None. `places`: path → (line, column) of the key (or item), from 1."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.data: Any = {}
        self.places: dict[Path, tuple[int, int]] = {}

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at `path`, or at its nearest ancestor that has a place."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (0, 0))
        return Problem(message, self.file, line, column)


def read(text: str, file: str, env: Mapping[str, str] | None, *, merge: bool = False) -> Document:
    """`env` None: placeholders stay as they are. `merge`: `<<` is understood (other programs' files use it). Raises
    ConfigError for what is no plain YAML, for duplicate keys, foreign tags and unset variables."""
    document = Document(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        hint = ": indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise ConfigError([Problem(f"{error.problem or 'not YAML'}{hint}", file, line, column)]) from error
    except RecursionError as error:
        raise ConfigError([Problem("the file is nested too deeply", file)]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([Problem(f"not YAML: {error}", file)]) from error
    if node is None:
        return document
    walker = _Walker(document, env, merge)
    document.data = walker.value(node, (), 0)
    if walker.problems:
        raise ConfigError(walker.problems)
    return document


class _Walker:
    def __init__(self, document: Document, env: Mapping[str, str] | None, merge: bool) -> None:
        self._document = document
        self._env = env
        self._merge = merge
        self._count = 0
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        place = self._counted(node, depth)
        self._document.places.setdefault(path, place)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._note(f"the tag {node.tag!r} is not allowed", place)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index), depth + 1) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, place)

    def _counted(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """Where it stands. An alias counts each time that it is followed."""
        self._count += 1
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        if self._count > MOST_NODES or depth > DEEPEST:
            raise ConfigError([Problem("the file is too large or nested too deeply", self._document.file, *place)])
        return place

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in self._merged(node, depth) if self._merge else node.value:
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self._note("a key must be a plain word", place)
                continue
            if key.value == "<<":
                self._note("merge keys are not supported: write the fields out", place)
                continue
            if key.value in out:
                first = self._document.places[(*path, key.value)]
                self._note(f"the key {key.value!r} is there twice (first in line {first[0]})", place)
                continue
            self._document.places[(*path, key.value)] = place
            out[key.value] = self.value(value, (*path, key.value), depth + 1)
        return out

    def _merged(self, node: yaml.MappingNode, depth: int) -> list[tuple[yaml.Node, yaml.Node]]:
        """Its pairs, then those of `<<` that it does not say itself."""
        out = [(key, value) for key, value in node.value if key.value != "<<"]
        names = {key.value for key, _ in out if isinstance(key, yaml.ScalarNode)}
        sources = [value for key, value in node.value if key.value == "<<"]
        for source in [one for value in sources for one in (value.value if value.id == "sequence" else [value])]:
            if isinstance(source, yaml.MappingNode):
                self._counted(source, depth + 1)
                more = self._merged(source, depth + 1)
                out += [(key, value) for key, value in more if key.value not in names]
                names |= {key.value for key, _ in more if isinstance(key, yaml.ScalarNode)}
        return out

    def _scalar(self, node: yaml.ScalarNode, place: tuple[int, int]) -> str | None:
        if node.style is None and node.value in ("", "~", "null"):
            return None
        if self._env is None:
            return node.value
        try:
            return expand(node.value, self._env)
        except KeyError as error:
            self._note(
                f"the environment variable {error.args[0]} is not set (write ${{{error.args[0]}:-}} to allow that)",
                place,
            )
        except OSError as error:
            self._note(f"cannot read {error.filename}: {error.strerror}", place)
        except ValueError:
            self._note("cannot read the file that is named here: it is not UTF-8, or this is no file's name", place)
        return ""

    def _note(self, message: str, place: tuple[int, int]) -> None:
        self.problems.append(Problem(message, self._document.file, *place))


def expand(text: str, env: Mapping[str, str]) -> str:
    """`${VAR}`, `${VAR:-default}`, `${file:/path}` in one value. KeyError(name) where a variable is not set."""

    def one(match: re.Match[str]) -> str:
        is_file, name, default = match.groups()
        if is_file:
            return FilePath(name).read_text(encoding="utf-8").rstrip("\n")
        value = env.get(name)
        if value:
            return value
        if default is not None:
            return default
        if value is None:
            raise KeyError(name)
        return value

    return _PLACEHOLDER.sub(one, text) if "${" in text else text


def environment() -> Mapping[str, str]:
    """The process's environment: the only door to it."""
    return os.environ
