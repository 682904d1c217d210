"""Reading files below one root: no way out by dots or links, nothing but regular files, everything capped."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headgate.tools.broker import Tool, ToolFailed

MOST_ENTRIES = 500


class Files:
    """core of ToolSource: `read_file` and `list_files`."""

    def __init__(self, root: str, *, max_bytes: int) -> None:
        self._root = Path(root)
        self._max_bytes = max_bytes

    async def tools(self) -> Sequence[Tool]:
        return [_Read(self), _List(self)]

    def absent(self) -> Mapping[str, str]:
        return {}

    async def retire(self) -> None:
        return None

    async def aclose(self) -> None:
        return None

    def read(self, path: str) -> str:
        """Raises ToolFailed."""
        descriptor = self._open(path, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ToolFailed(f"{path!r} is no regular file")
            if status.st_size > self._max_bytes:
                raise ToolFailed(f"{path!r} is larger than {self._max_bytes} bytes")
            data = b""
            while len(data) <= self._max_bytes and (piece := os.read(descriptor, 65536)):
                data += piece
        finally:
            os.close(descriptor)
        return data[: self._max_bytes].decode("utf-8", "replace")

    def names(self, path: str) -> list[str]:
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            found = sorted(os.listdir(descriptor))[:MOST_ENTRIES]
        finally:
            os.close(descriptor)
        return found

    def _open(self, path: str, flags: int) -> int:
        """Walks from the root one name at a time, following no link: what is opened is below the root."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if any(part == ".." or "\0" in part for part in parts) or path.startswith("/"):
            raise ToolFailed("a path stays below the root: no '..', no absolute path")
        try:
            current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ToolFailed("the files' root cannot be read") from error
        try:
            for place, part in enumerate(parts):
                last = place + 1 == len(parts)
                wanted = (flags if last else os.O_RDONLY | os.O_DIRECTORY) | os.O_NOFOLLOW | os.O_NONBLOCK
                following = os.open(part, wanted, dir_fd=current)
                os.close(current)
                current = following
        except (OSError, ValueError) as error:  # ValueError: half of a surrogate pair, which names no file
            os.close(current)
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "this is no file's name"
            raise ToolFailed(f"{path!r} cannot be opened: {reason}") from error
        return current


class _Read:
    name = "read_file"
    description = "Reads a text file below the root."
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
        "additionalProperties": False,
    }

    def __init__(self, files: Files) -> None:
        self._files = files

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return await asyncio.to_thread(self._files.read, str(arguments["path"]))


class _List:
    name = "list_files"
    description = "Lists the names in a folder below the root ('' for the root itself)."
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "additionalProperties": False,
    }

    def __init__(self, files: Files) -> None:
        self._files = files

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return "\n".join(await asyncio.to_thread(self._files.names, str(arguments.get("path", ""))))
