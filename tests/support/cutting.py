"""A way to a PostgreSQL server that loses the answer to a commit."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Cut = Literal["before", "after"]


class Cutter:
    """`cut`: the connection whose client sends `mark` next is cut at its commit, before the server has it, or after that
    and before the answer. Once; until then, and after, all is passed on."""

    def __init__(self, url: str, *, mark: bytes) -> None:
        self._server = urlsplit(url)
        self._mark = mark
        self._listening: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut: Cut | None = None
        self.url = ""

    async def start(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        place = self._server.netloc.rpartition(":")[0]
        self.url = urlunsplit(self._server._replace(netloc=f"{place}:{port}"))

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._server.hostname is not None
        theirs, ours = await asyncio.open_connection(self._server.hostname, self._server.port)
        answers = asyncio.create_task(_pass_on(theirs, writer))
        self._tasks |= {answers}
        marked = False
        try:
            while data := await reader.read(65536):
                marked = marked or (self.cut is not None and self._mark in data)
                if marked and b"COMMIT" in data and self.cut is not None:
                    after, self.cut = self.cut == "after", None
                    answers.cancel()
                    await asyncio.wait([answers])  # two cannot read from the server at a time
                    if after:
                        ours.write(data)
                        await ours.drain()
                        await theirs.read(1)  # the server has done it
                    break
                ours.write(data)
                await ours.drain()
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            for one in (ours, writer):
                one.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
