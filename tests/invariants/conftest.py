from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.chaos.world import Zygote
from support.fleet import Stores
from support.postgres import Server, needs_postgres


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    found = Zygote()
    yield found
    found.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
def server(request: pytest.FixtureRequest) -> Iterator[Server | None]:
    """The database server, or None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    found = Server()
    found.start()
    yield found
    found.remove()


@pytest.fixture
def stores() -> Iterator[Stores]:
    """PostgreSQL and Valkey, for replicas."""
    found = Stores()
    yield found
    found.close()
