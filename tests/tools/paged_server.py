"""A real MCP server over stdio that lists one tool a page, for as many pages as it is told; 0: it never comes to an end."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool

PAGES = int(sys.argv[1])


async def listed(context: Any, asked: Any) -> ListToolsResult:
    number = int(asked.cursor or 1) if asked is not None else 1
    more = None if number == PAGES else str(number + 1)
    return ListToolsResult(tools=[Tool(name=f"tool{number}", input_schema={"type": "object"})], next_cursor=more)


async def called(context: Any, asked: Any) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=f"{asked.name} was here")])


async def main() -> None:
    server = Server("paged", on_list_tools=listed, on_call_tool=called)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


asyncio.run(main())
