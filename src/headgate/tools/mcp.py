"""MCP servers named in the file, by the official SDK. Only tools on the operator's allow-list exist."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from headgate.tools.broker import Tool, ToolFailed
from headgate.tools.lifetime import Lifetime

CONNECT_TIME = 30.0
MOST_PAGES = 100
"""Of a list of tools; a server's list may have no end."""
LEAVE_TIME = 5.0
"""Seconds in which a server may end by itself."""


class Mcp:
    """core of ToolSource. One session serves all calls; when it is lost the next question begins another."""

    def __init__(
        self, name: str, *, command: Sequence[str] | None, url: str | None, allow: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self._name = name
        self._command = list(command) if command else None
        self._url = url
        self._allow = frozenset(allow)
        self._env = dict(env)
        self._session: _Session | None = None
        self._life = Lifetime(self.aclose)
        self._absent: dict[str, str] = {}

    async def tools(self) -> Sequence[Tool]:
        """Those on the allow-list that do not themselves say that they write: hints may only make our policy stricter."""
        async with self._life.used():
            listed = {tool.name: tool for tool in await self._ask(_all_tools)}
        self._absent = {
            name: "it says of itself that it writes" if name in listed else "the server has no such tool"
            for name in sorted(self._allow)
            if name not in listed or _writes(listed[name])
        }
        return [
            _Remote(self, tool.name, tool.description or "", tool.input_schema, only_reads=_only_reads(tool))
            for tool in listed.values()
            if tool.name in self._allow and not _writes(tool)
        ]

    def absent(self) -> Mapping[str, str]:
        return self._absent

    async def call(self, name: str, arguments: Mapping[str, Any], *, only_reads: bool = False) -> str:
        """`only_reads`: the tool says so of itself, and may be called twice. Any other is called once, after the server has
        shown that it is there."""
        async with self._life.used():
            if not only_reads:
                await self._ask(lambda client: client.list_tools(cache_mode="refresh"))
            result = await self._ask(lambda client: client.call_tool(name, dict(arguments)), twice=only_reads)
        text = "\n".join(getattr(part, "text", "") for part in result.content)
        if result.is_error:
            raise ToolFailed(f"{self._name}.{name}: {text[:500]}")
        return text

    async def _ask(self, question: Callable[[Any], Awaitable[Any]], *, twice: bool = True) -> Any:
        """The server's answer. A server that has died since the last question is begun anew and asked again, once, where
        that does nothing `twice`. One that is silent is not asked again, and given up."""
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        for again in (twice, False):
            session = await self._connected()
            try:
                async with asyncio.timeout(CONNECT_TIME):
                    return await question(session.client)
            except MCPError as error:
                if error.code == CONNECTION_CLOSED:
                    await self._drop(session)
                    if again:
                        continue
                raise ToolFailed(f"the MCP server {self._name!r} refused: {str(error)[:300]}") from error
            except (OSError, TimeoutError) as error:
                await self._drop(session)
                raise ToolFailed(f"the MCP server {self._name!r} does not answer", detail=repr(error)) from error
        raise AssertionError("unreachable")

    async def _connected(self) -> _Session:
        session = self._session
        if session is None or session.task.done():
            session = self._session = _Session(self._target())
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await asyncio.shield(session.ready)
        except TimeoutError as error:
            await self._drop(session)  # silent: the next question begins another
            raise ToolFailed(f"the MCP server {self._name!r} did not answer") from error
        except Exception as error:  # the SDK raises what its transports raise
            raise ToolFailed(f"the MCP server {self._name!r} cannot be reached", detail=repr(error)) from error
        return session

    def _target(self) -> Any:
        from mcp import StdioServerParameters

        if self._command is None:
            return self._url
        return StdioServerParameters(command=self._command[0], args=self._command[1:], env=self._env or None)

    async def _drop(self, session: _Session) -> None:
        """Several calls may find the same session lost: the one that the first of them began in its place stays."""
        if self._session is session:
            self._session = None
        await session.close()

    async def retire(self) -> None:
        await self._life.retire()

    async def aclose(self) -> None:
        if self._session is not None:
            await self._drop(self._session)


class _Session:
    """A client's life in a task of its own, as the SDK wants it: entered and left in one task. `ready` has what kept it
    from being entered."""

    def __init__(self, target: Any) -> None:
        loop = asyncio.get_running_loop()
        self.client: Any = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self._end = asyncio.Event()
        self.task = loop.create_task(self._live(target))

    async def _live(self, target: Any) -> None:
        from mcp import Client

        try:
            async with Client(target) as client:
                self.client = client
                self.ready.set_result(None)
                await self._end.wait()
        except Exception as error:  # noqa: BLE001  a task's root: whoever waits is told, a session that ends so is lost
            if not self.ready.done():
                self.ready.set_exception(error)

    async def close(self) -> None:
        """Ends the server too, one that never answered included."""
        self._end.set()
        await asyncio.wait([self.task], timeout=LEAVE_TIME if self.ready.done() else 0.0)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task], timeout=LEAVE_TIME)


async def _all_tools(client: Any) -> list[Any]:
    """A server may list its tools in pages."""
    out: list[Any] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        out += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return out


def _writes(tool: Any) -> bool:
    hints = tool.annotations
    return hints is not None and (hints.read_only_hint is False or hints.destructive_hint is True)


def _only_reads(tool: Any) -> bool:
    return tool.annotations is not None and tool.annotations.read_only_hint is True


class _Remote:
    def __init__(
        self, server: Mcp, name: str, description: str, schema: Mapping[str, Any], *, only_reads: bool
    ) -> None:
        self._server = server
        self._only_reads = only_reads
        self.name = name
        self.description = description
        self.schema = schema

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return await self._server.call(self.name, arguments, only_reads=self._only_reads)
