"""Pages of a console whose store is away."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from headgate.console.app import _Console
from headgate.console.auth import COOKIE, Sessions
from headgate.core.clock import SYSTEM
from headgate.core.errors import StorageUnavailable
from headgate.governance.desk import Desk
from headgate.stores.memory import MemoryStore


class Away(MemoryStore):
    async def keys(self) -> Any:
        raise StorageUnavailable("the database does not answer")


@pytest.mark.parametrize("path", ["/keys", "/teams", "/budgets", "/activity"])
def test_a_page_says_that_the_store_is_away(path: str) -> None:
    sessions, nothing = Sessions("hga-" + "t" * 40, SYSTEM), cast("Any", None)
    console = _Console(nothing, sessions, nothing, Desk(Away()), nothing_to_try())
    app = next(route.app for route in console.routes() if getattr(route, "path", "") == path)
    cookie = f"{COOKIE}={sessions.open()}".encode()
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"cookie", cookie)]}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 503
    assert b"the database does not answer" in sent[1]["body"]


def nothing_to_try() -> Any:
    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return lambda: {}

    return Nothing()


def test_a_cookie_of_any_letters_is_no_session():
    assert not Sessions("hga-" + "x" * 30, SYSTEM).is_open("9.\u00e9")
