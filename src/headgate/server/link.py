"""Questions between a supervisor and one of its workers, both ways over a socket pair: one JSON text per line.

`{"id": 7, "ask": "metrics", "value": null}` is answered by `{"id": 7, "said": ...}`, or `{"id": 7, "failed": "why"}`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

LONGEST = 64_000_000
"""Bytes of one message: the metrics of a worker with many models are some 100 KB."""
Answer = Callable[[Any], Awaitable[Any]]


class LinkLost(Exception):
    """The other end is gone, or could not answer."""


class _Message(msgspec.Struct, omit_defaults=True):
    id: int
    ask: str | None = None
    value: Any = None
    said: Any = None
    failed: str | None = None


class Link:
    """One end. `answers`: what this end can be asked. `lost` is set once the other end is gone."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.lost = asyncio.Event()

    async def start(self, sock: socket.socket) -> None:
        """Takes the socket over."""
        sock.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=sock, limit=LONGEST)
        self._reader = asyncio.create_task(self._read(reader))

    async def ask(self, what: str, value: Any = None, *, seconds: float | None = None) -> Any:
        """Raises LinkLost, also where no answer came in `seconds`."""
        if self.lost.is_set():
            raise LinkLost("the other process is gone")
        number = next(self._numbers)
        found = self._open[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(_Message(number, ask=what, value=value))
            async with asyncio.timeout(seconds):
                return await found
        except TimeoutError as error:
            raise LinkLost(f"no answer to {what!r} in {seconds} s") from error
        finally:
            self._open.pop(number, None)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        for task in self._working:
            task.cancel()

    def _send(self, message: _Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(message) + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(OSError):
                while line := await reader.readline():
                    self._take(msgspec.json.decode(line, type=_Message))
        finally:
            self.lost.set()
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(LinkLost("the other process is gone"))
            if self._writer is not None:
                self._writer.close()

    def _take(self, message: _Message) -> None:
        if message.ask is not None:
            task = asyncio.create_task(self._answer(message))
            self._working.add(task)
            task.add_done_callback(self._working.discard)
            return
        waiting = self._open.get(message.id)
        if waiting is None or waiting.done():
            return
        if message.failed is not None:
            waiting.set_exception(LinkLost(message.failed))
        else:
            waiting.set_result(message.said)

    async def _answer(self, message: _Message) -> None:
        answer = self._answers.get(message.ask or "")
        if answer is None:
            self._send(_Message(message.id, failed=f"nobody answers {message.ask!r}"))
            return
        try:
            self._send(_Message(message.id, said=await answer(message.value)))
        except LinkLost as error:
            self._send(_Message(message.id, failed=str(error)))
