"""What tests of several rooms stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.postgres import Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One server for all of them: each takes databases of its own."""
    server = Server()
    server.start()
    yield server
    server.remove()
