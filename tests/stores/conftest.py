"""One suite for all stores: `open_store` opens a second time what the first one wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headgate.core.ports import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.postgres import PostgresStore
from headgate.stores.sqlite import SqliteStore
from support.postgres import Server, needs_postgres

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "memory", pytest.param("postgres", marks=needs_postgres)])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    opened: list[Store] = []
    kept = MemoryStore()
    url = ""
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        url = server.new_database()

    async def make() -> Store:
        match request.param:
            case "memory":
                store: Store = kept
            case "postgres":
                store = PostgresStore(url)
            case _:
                store = SqliteStore(tmp_path / "headgate.db")
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
