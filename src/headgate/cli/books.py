"""Reading the store from a command: beside a running gateway or after it, never writing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from headgate.cli.output import fail

T = TypeVar("T")
DAY = 86400.0


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
    """`24h`, `7d` (before now), `2026-11-01`, `2026-11-01T12:00` (UTC unless it says otherwise), `today`."""
    from headgate.config.values import duration

    if text == "now":
        return now
    if text == "today":
        return now // DAY * DAY
    if re.fullmatch(r"[\d.]+(ms|s|m|h|d)+.*", text):
        try:
            return now - duration(text)
        except ValueError:
            pass  # told below, for every form at once
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{text!r} is no time: write 24h, 7d, today, 2026-11-01 or 2026-11-01T12:00", 2)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


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
