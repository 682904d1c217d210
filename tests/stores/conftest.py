"""One suite for all stores: `open_store` opens a second time what the first one wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from headgate.core.ports import Store
from headgate.stores.memory import MemoryStore
from headgate.stores.sqlite import SqliteStore

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite", "memory"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    opened: list[Store] = []
    kept = MemoryStore()

    async def make() -> Store:
        store = kept if request.param == "memory" else SqliteStore(tmp_path / "headgate.db")
        opened.append(store)
        return store

    yield make
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
