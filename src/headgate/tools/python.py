"""Python in a sandbox (pydantic-monty: a worker process, deny by default, a subset of the language)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.tools.broker import Tool, ToolFailed
from headgate.tools.lifetime import Lifetime


class Python:
    """core of ToolSource: `python`. The pool starts with the first call and is kept."""

    def __init__(self, *, timeout: float, memory: int) -> None:
        self._timeout = timeout
        self._memory = memory
        self._pool: Any = None
        self._starting = asyncio.Lock()
        self._life = Lifetime(self.aclose)

    async def tools(self) -> Sequence[Tool]:
        return [_Run(self)]

    def absent(self) -> Mapping[str, str]:
        return {}

    async def retire(self) -> None:
        await self._life.retire()

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)

    async def run(self, code: str, inputs: Mapping[str, Any] | None = None) -> str:
        """What was printed, then the value of the last expression. Raises ToolFailed."""
        import pydantic_monty as monty

        printed = monty.CollectString()
        limits: Any = {"max_feed_duration_secs": self._timeout, "max_memory": self._memory}
        try:
            async with self._life.used(), (await self._started()).checkout(limits=limits) as session:
                value = await session.feed_run(code, inputs=dict(inputs or {}), print_callback=printed)
        except (monty.MontyError, OSError, RuntimeError) as error:  # no process to be had; or closed meanwhile
            raise ToolFailed(f"python: {str(error)[:500]}") from error
        shown = getattr(printed, "output", "") or ""
        try:
            return shown + ("" if value is None else str(value))
        except (ValueError, RecursionError) as error:  # thousands of digits; lists in lists
            raise ToolFailed("python: the last value cannot be shown") from error

    async def _started(self) -> Any:
        """The pool; of several that want it first one starts it and the others wait."""
        import pydantic_monty as monty

        async with self._starting:
            if self._pool is None:
                pool = monty.AsyncMonty(max_processes=2)
                await pool.__aenter__()
                self._pool = pool
            return self._pool


class _Run:
    name = "python"
    description = (
        "Runs a short Python program in a sandbox (no files, no network) and gives what it prints and its last value."
    )
    schema: Mapping[str, Any] = {
        "type": "object",
        "properties": {"code": {"type": "string"}},
        "required": ["code"],
        "additionalProperties": False,
    }

    def __init__(self, python: Python) -> None:
        self._python = python

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return await self._python.run(str(arguments["code"]))
