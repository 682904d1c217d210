"""Reading the store from a command: beside a running gateway or after it, never writing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from headgate.cli.output import fail

T = TypeVar("T")


def read(config: Path | None, data_dir: Path, ask: Callable[[Any], Awaitable[T]]) -> T:
    """What `ask` finds in the store that the configuration names. Ends the command where it cannot be read."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.config.model import Config
    from headgate.core.errors import StorageUnavailable
    from headgate.server.books import open_reader

    path = config or (Path("headgate.yaml") if Path("headgate.yaml").exists() else None)
    try:
        settings = (load_file(path, environment()).config if path else Config()).store
    except ConfigError as error:
        fail(str(error))

    async def run() -> T:
        reader = open_reader(settings, data_dir)
        try:
            return await ask(reader)
        finally:
            await reader.aclose()

    try:
        return asyncio.run(run())
    except StorageUnavailable as error:
        fail(error.message)
    except ValueError as error:
        fail(str(error), 2)


def moment(text: str, now: float) -> float:
    """Unix seconds. Ends the command where `text` is no time."""
    from headgate.config.values import moment as read_moment

    try:
        return read_moment(text, now)
    except ValueError as error:
        fail(str(error), 2)


def pairs(given: list[str], what: str) -> dict[str, str]:
    """`team=red` → {"team": "red"}."""
    out: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            fail(f"{what} is written NAME=VALUE, not {text!r}", 2)
        out[name.strip()] = value
    return out


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
