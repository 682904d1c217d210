"""The tools of a configuration behind one interface: listed for planners, called with caps, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from headgate.core.errors import HeadgateError
from headgate.core.fits import misfit
from headgate.tools.lifetime import end_each

LONGEST_RESULT = 100_000
"""Characters of a tool's result that are kept; the cut is marked."""
CALL_TIME = 30.0


class ToolFailed(HeadgateError):
    """A tool refused, failed or was too slow. The message is safe to show."""

    status = 502
    type = "tool_error"
    code = "tool_failed"


class Tool(Protocol):
    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of the arguments."""

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The result as text. Raises ToolFailed."""
        ...


class ToolSource(Protocol):
    """Where tools come from; opened when first asked for."""

    async def tools(self) -> Sequence[Tool]: ...
    def absent(self) -> Mapping[str, str]:
        """Tools that the operator allows and `tools` has not found, each with the reason."""
        ...

    async def retire(self) -> None:
        """Ends what is open once no call uses it any more."""
        ...

    async def aclose(self) -> None: ...


class Broker:
    """`sources` by the name that an agent's `tools:` uses."""

    def __init__(self, sources: Mapping[str, ToolSource]) -> None:
        self._sources = sources

    async def offered(self, names: Sequence[str]) -> tuple[dict[str, Tool], dict[str, str]]:
        """(tools by their own names, sources and allowed tools that cannot be had and why). Where two sources have a tool
        of one name, the later source's is called `source.tool`."""
        out: dict[str, Tool] = {}
        unreachable: dict[str, str] = {}
        for name in names:
            source = self._sources.get(name) or self._sources.get(name.removeprefix("mcp."))
            try:
                if source is None:
                    raise ToolFailed(f"there is no tool {name!r}")
                for tool in await source.tools():
                    out[tool.name if tool.name not in out else f"{name}.{tool.name}"] = tool
                unreachable |= {f"{name}.{tool}": why for tool, why in source.absent().items()}
            except ToolFailed as error:
                unreachable[name] = error.message
        return out, unreachable

    async def retire(self) -> None:
        await end_each({name: source.retire() for name, source in self._sources.items()})

    async def aclose(self) -> None:
        await end_each({name: source.aclose() for name, source in self._sources.items()})


async def call(tool: Tool, arguments: Mapping[str, Any], *, seconds: float = CALL_TIME) -> str:
    """One call with its caps: time, and size of what comes back. Raises ToolFailed, whatever the tool does."""
    try:
        _check(tool, arguments)
        async with asyncio.timeout(seconds):
            found = await tool.call(arguments)
    except TimeoutError as error:
        raise ToolFailed(
            f"the tool {tool.name!r} gave no answer within {seconds:.3g} s", code="tool_timeout"
        ) from error
    except ToolFailed:
        raise
    except Exception as error:  # the tools' edge: they are other people's code
        raise ToolFailed(f"the tool {tool.name!r} failed", detail=repr(error)) from error
    if len(found) > LONGEST_RESULT:
        return found[:LONGEST_RESULT] + f"\n[cut: {len(found)} characters in all]"
    return found


def _check(tool: Tool, arguments: Mapping[str, Any]) -> None:
    problem = misfit(tool.schema, dict(arguments))
    if problem is not None:
        raise ToolFailed(f"the arguments of {tool.name!r} do not fit: {problem}")
