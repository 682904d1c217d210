"""MCP servers named in the file, by the official SDK. Only tools on the operator's allow-list exist."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from headgate.tools.broker import Tool, ToolFailed

CONNECT_TIME = 30.0


class Mcp:
    """core of ToolSource. The session lives in a task of its own, as the SDK wants it: entered and left in one task."""

    def __init__(
        self, name: str, *, command: Sequence[str] | None, url: str | None, allow: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self._name = name
        self._command = list(command) if command else None
        self._url = url
        self._allow = frozenset(allow)
        self._env = dict(env)
        self._client: Any = None
        self._host: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._end = asyncio.Event()

    async def tools(self) -> Sequence[Tool]:
        """Those on the allow-list that do not themselves say that they write: hints may only make our policy stricter."""
        await self._connect()
        listed = await self._asked(self._client.list_tools())
        return [
            _Remote(self, tool.name, tool.description or "", tool.input_schema)
            for tool in listed.tools
            if tool.name in self._allow and not _writes(tool)
        ]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        await self._connect()
        result = await self._asked(self._client.call_tool(name, dict(arguments)))
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        if result.is_error:
            raise ToolFailed(f"{self._name}.{name}: {text[:500]}")
        return text

    async def _asked(self, question: Awaitable[Any]) -> Any:
        """Where the server does not answer any more, the next question finds a new session."""
        from mcp import MCPError

        try:
            async with asyncio.timeout(CONNECT_TIME):
                return await question
        except MCPError as error:
            reason = f"the MCP server {self._name!r} refused: {str(error)[:300]}"
            if "closed" in reason.lower():
                await self.aclose()
            raise ToolFailed(reason) from error
        except (OSError, TimeoutError) as error:
            await self.aclose()
            raise ToolFailed(f"the MCP server {self._name!r} does not answer", detail=repr(error)) from error

    async def aclose(self) -> None:
        self._end.set()
        if self._host is not None:
            await asyncio.wait([self._host], timeout=5.0)
            self._host = None

    async def _connect(self) -> None:
        if self._host is None or self._host.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._end.clear()
            self._host = asyncio.get_running_loop().create_task(self._live(self._ready))
        assert self._ready is not None
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            raise ToolFailed(f"the MCP server {self._name!r} did not answer") from error

    async def _live(self, ready: asyncio.Future[None]) -> None:
        from mcp import Client, StdioServerParameters

        target: Any = self._url
        if self._command is not None:
            target = StdioServerParameters(command=self._command[0], args=self._command[1:], env=self._env or None)
        try:
            async with Client(target) as client:
                self._client = client
                ready.set_result(None)
                await self._end.wait()
        except Exception as error:  # noqa: BLE001  a task's root: the SDK raises what its transports raise
            if not ready.done():
                ready.set_exception(ToolFailed(f"the MCP server {self._name!r} cannot be reached", detail=repr(error)))


def _writes(tool: Any) -> bool:
    hints = tool.annotations
    return hints is not None and (hints.read_only_hint is False or hints.destructive_hint is True)


class _Remote:
    def __init__(self, server: Mcp, name: str, description: str, schema: Mapping[str, Any]) -> None:
        self._server = server
        self.name = name
        self.description = description
        self.schema = schema

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return await self._server.call(self.name, arguments)
