"""A fleet of real processes for tests: PostgreSQL, Valkey, simulated providers, and gateways over all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headgate.simulator.app import Simulator
from support import postgres, valkey
from support.gateway import Loop
from support.served import FILE, Served
from support.sim import INSTANT


def is_possible() -> bool:
    return postgres.programs() is not None and valkey.program() is not None


class Stores:
    """Both servers, shared by a module's tests: each fleet gets empty databases of its own."""

    def __init__(self) -> None:
        self.postgres = postgres.Server()
        self.valkey = valkey.Server()
        self.postgres.start()
        self.valkey.start()

    def close(self) -> None:
        self.postgres.remove()
        self.valkey.stop()


class Fleet:
    """`replicas` gateways with data directories of their own, as on so many machines. `more` is configuration."""

    def __init__(
        self, folder: Path, stores: Stores, more: str = "", *, replicas: int = 0, specs: Any = INSTANT
    ) -> None:
        self.folder = folder
        self.loop = Loop()
        self.sim = Simulator(specs)
        urls = self.loop.run(self.sim.start(0))
        self.store_url = stores.postgres.new_database()
        self.shared_url = stores.valkey.new_database()
        self.file = folder / "headgate.yaml"
        store = f'store: {{url: "{self.store_url}", shared: "{self.shared_url}"}}\n'
        self.file.write_text(FILE.format(**urls) + store + more)
        self.replicas = [self.add(f"data{number}") for number in range(1, replicas + 1)]

    def add(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> Served:
        return Served(self.file, self.folder / name, *arguments, env=env)

    def served(self) -> int:
        """Calls that the providers have seen."""
        return self.loop.call(lambda: len(self.sim.log))

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()
        self.loop.run(self.sim.aclose())
        self.loop.close()


ASK = {"model": "claude-4.7", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


async def fetch(url: str, key: str | None, body: dict[str, Any] = ASK, **headers: str) -> tuple[int, bytes]:
    """One chat request on a connection of its own; its status (-1 where the connection was refused or cut before one came)
    and what followed the head."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    data = json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    if key is not None:
        lines.append(f"authorization: Bearer {key}\r\n")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n{''.join(lines)}"
    answer = b""
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"{head}content-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data)
            while piece := await reader.read(65536):
                answer += piece
        finally:
            writer.transport.abort()
    except OSError:
        pass
    top, _, rest = answer.partition(b"\r\n\r\n")
    return (int(top.split(b" ", 2)[1]) if top.startswith(b"HTTP/1.1 ") else -1), rest


async def post(url: str, key: str | None, body: dict[str, Any] = ASK, **headers: str) -> int:
    return (await fetch(url, key, body, **headers))[0]


class Crowd:
    """Many requests at once, over all `urls` in turn; those that are not answered yet hang until `leave`."""

    def __init__(self, urls: Sequence[str], key: str | None, count: int, body: dict[str, Any] = ASK) -> None:
        self._tasks = [asyncio.create_task(post(urls[n % len(urls)], key, body)) for n in range(count)]

    @property
    def answered(self) -> list[int]:
        return [task.result() for task in self._tasks if task.done()]

    async def until(self, waiting: int, seconds: float = 60.0) -> None:
        """All but so many are answered."""
        async with asyncio.timeout(seconds):
            while sum(not task.done() for task in self._tasks) > waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
