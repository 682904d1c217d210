"""A real MCP server over stdio with a tool that takes its time, and writes down in a folder what became of the call."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

folder = Path(sys.argv[1])
server = MCPServer("slow")


@server.tool()
async def wait(seconds: float) -> str:
    (folder / "began").touch()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        (folder / "cancelled").touch()
        raise
    return "done"


@server.tool()
def pid() -> str:
    return str(os.getpid())


def _die(counter: str) -> str:
    with (folder / counter).open("a") as file:
        file.write("x")
    os._exit(1)


@server.tool()
def die() -> str:
    return _die("deaths")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def die_reading() -> str:
    return _die("deaths-reading")


server.run("stdio")
