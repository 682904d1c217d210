"""One of several processes that serve the same ports: `python -m headgate.server.worker FD`, started by a supervisor
(server/supervisor.py), of which it is told over the socket FD what to serve. It ends when the supervisor does."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from headgate.config.document import environment
from headgate.config.errors import ConfigError
from headgate.core.errors import StorageUnavailable
from headgate.server.link import Link, LinkLost
from headgate.server.options import NO_MODEL, Options, Order, Ready
from headgate.server.serve import Process, make_runner

GATHERED = 3.0
"""Seconds that all workers may take to answer one of them."""


def ready_of(process: Process) -> Ready:
    admin = process.admin
    return Ready(
        url=process.url,
        admin=admin.url,
        models=list(process.house.snapshot.entries),
        skipped=[f"{model.name} ({model.missing})" for model in process.house.snapshot.models() if model.missing],
        is_open=process.house.governor.open,
        first_key=process.first_key,
        admin_token=admin.token if admin.token_is_new else None,
        drain=process.config.server.drain,
    )


class Worker:
    """Core of serve.Group for its process: the other workers are reached through the supervisor."""

    def __init__(self) -> None:
        self._link = Link({"serve": self._serve, "ping": self._ping, "metrics": self._metrics, "reload": self._reload})
        self._order: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None

    async def run(self, sock: socket.socket) -> None:
        """Raises ConfigError, StorageUnavailable, OSError where it cannot start."""
        await self._link.start(sock)
        orphaned = asyncio.create_task(self._end_with_supervisor())
        order = await self._order
        self._process = process = Process(
            Options(
                config=None if order.config is None else Path(order.config),
                host=order.host,
                port=order.port,
                admin_port=order.admin_port,
                data_dir=Path(order.data_dir),
                env=environment(),
                worker=order.worker,
            ),
            self,
        )
        process.on_first_key = self._show_first_key
        if not process.house.snapshot.entries:
            raise StorageUnavailable(NO_MODEL)
        try:
            await process.run(self._announce)
        finally:
            orphaned.cancel()
            await self._link.close()

    async def _announce(self, process: Process) -> None:
        self._ready.set_result(ready_of(process))

    async def _end_with_supervisor(self) -> None:
        await self._link.lost.wait()
        if self._process is None:
            raise SystemExit(1)
        self._process.stop()

    # -- what the supervisor asks ------------------------------------------------------------------------------------
    async def _serve(self, order: Any) -> Any:
        self._order.set_result(msgspec.convert(order, Order))
        return msgspec.to_builtins(await self._ready)

    async def _ping(self, value: Any) -> float:
        """Seconds that a drain may take by the configuration in force."""
        return self._process.config.server.drain if self._process is not None else 0.0

    async def _metrics(self, value: Any) -> str:
        process = self._process
        assert process is not None
        return "" if process.plane.metrics is None else process.plane.metrics.render().decode()

    async def _reload(self, value: Any) -> str | None:
        return None if self._process is None else self._process.reload()

    # -- what this one asks of all -----------------------------------------------------------------------------------
    async def _show_first_key(self, secret: str) -> None:
        try:
            await self._link.ask("first_key", secret, seconds=GATHERED)
        except LinkLost as error:
            raise OSError("the supervisor is gone, and with it who would have shown the first key") from error

    async def metrics(self) -> bytes:
        """Of all workers that answer; of this one alone where the supervisor does not."""
        try:
            return (await self._link.ask("metrics", seconds=GATHERED)).encode()
        except LinkLost:
            return (await self._metrics(None)).encode()

    async def reload(self) -> str | None:
        try:
            return await self._link.ask("reload", seconds=GATHERED)
        except LinkLost:
            return await self._reload(None)


def main() -> None:
    sock = socket.socket(fileno=int(sys.argv[1]))

    async def live() -> None:
        await Worker().run(sock)

    try:
        with make_runner() as runner:
            runner.run(live())
    except* (ConfigError, StorageUnavailable, OSError) as group:
        for error in group.exceptions:
            sys.stderr.write(f"{error.message if isinstance(error, StorageUnavailable) else error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
