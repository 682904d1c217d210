"""A fleet of real processes for tests: PostgreSQL, Valkey, simulated providers, and gateways over all of them."""

from __future__ import annotations

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
