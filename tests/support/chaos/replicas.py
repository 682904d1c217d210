"""The same world with replicas beside the one that dies: each has a journal of its own, all share one PostgreSQL and one
Valkey, and clients ask all of them. Replicas die too, and either server goes away now and then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import valkey
from support.chaos.world import Life, World, Zygote
from support.postgres import Server

REST = 20.0
"""Seconds until what replicas had under way is in the books, on a loaded machine."""


@dataclass
class Replica:
    """One beside the victim. `life`: None while it is dead."""

    data: Path
    life: Life | None = None
    url: str = ""


class FleetWorld(World):
    """`count` replicas beside the one that dies in every life."""

    def __init__(
        self, folder: Path, zygote: Zygote, *, seed: int, server: Server, shared: valkey.Server, count: int = 2,
        **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(folder, zygote, seed=seed, server=server, shared=shared.new_database(), **more)
        self._valkey = shared
        self._replicas = [Replica(folder / f"replica{number}") for number in range(count)]

    def live(self, point: str | None = None) -> None:
        self._all_live()
        super().live(point)

    def _all_live(self) -> None:
        """Whoever died is started again: what it had under way is in its own journal."""
        for replica in self._replicas:
            if replica.life is None:
                replica.data.mkdir(exist_ok=True)
                replica.life = self._start("", replica.data)
                ready = self._ready(replica.life)
                assert ready is not None, self._log.read_text()[-3000:]
                replica.url = ready["url"]

    def last(self) -> None:
        """Everybody ends in good order: nothing is open and nobody holds anything."""
        self._all_live()
        for replica in self._replicas:
            if replica.life is not None:
                os.kill(replica.life.pid, signal.SIGTERM)
                assert self._zygote.dead(replica.life, 30)
                replica.life = None
        super().last()

    def _others(self) -> list[str]:
        return [replica.url for replica in self._replicas if replica.life is not None]

    def _meanwhile(self) -> None:
        """The others serve on for a moment; sometimes one more dies."""
        time.sleep(self.rng.uniform(0.0, 0.4))
        replica = self.rng.choice(self._replicas)
        if replica.life is not None and self.rng.random() < 0.3:
            os.kill(replica.life.pid, signal.SIGKILL)
            assert self._zygote.dead(replica.life, 30)
            replica.life = None
            self._died("replica")

    def _keep_journal(self) -> Path | None:
        """A second replay is for a store that rests (I4, in the world of one process)."""
        return None

    def _take_store_down(self) -> Callable[[], None]:
        if self.rng.random() < 0.5:
            return super()._take_store_down()
        self._valkey.stop()
        return self._valkey.start

    def _judge(self) -> None:
        """Nobody asks, but replicas may still write down what they had under way: what is wrong must go away by itself."""
        deadline = time.monotonic() + REST
        while found := self._found(self._holders()):
            if time.monotonic() > deadline:
                self.violations += [f"life {self.lives}: {line}" for line in found]
                return
            time.sleep(0.2)

    def _holders(self) -> set[str]:
        folders = [self._data, *(replica.data for replica in self._replicas if replica.life is not None)]
        return {path.name.partition(".")[0] for folder in folders for path in (folder / "journal").glob("*.alive")}
