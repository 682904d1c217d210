"""Every route of both planes, asked by whoever may not: whatever is not named here as open to all refuses strangers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from starlette.routing import Mount, Route

from headgate.console.app import _Console
from headgate.console.auth import COOKIE, Sessions
from headgate.console.experiments import Experiments
from headgate.core.clock import SYSTEM
from headgate.server import doors
from support.served import ServedGateway

OPEN_DOORS = {"livez", "readyz", "health", "metrics", "openapi.json"}
"""For load balancers, monitoring and whoever writes a client."""
OPEN_PAGES = {"/sign-in", "/sign-out"}
STRANGERS = ("", "hg-" + "a" * 32, "hga-wrong", "x' OR '1'='1")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedGateway]:
    found = ServedGateway(tmp_path_factory.mktemp("served"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def key(gateway: ServedGateway) -> str:
    return gateway.ask_admin("/keys", {"name": "somebody"})["secret"]


def ask(url: str, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    """(status, location, body)"""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items() if value})
    answer = connection.getresponse()
    out = answer.status, answer.headers.get("location", ""), answer.read()
    connection.close()
    return out


# -- the data plane --------------------------------------------------------------------------------------------------------
def paths() -> dict[str, doors.Door]:
    """One path of every kind."""
    out = dict(doors._EXACT)
    out |= {f"{prefix}x_1": door for prefix, door in doors._WITH_ID}
    out |= {"/models/claude-4.7": doors.MODELS_DOOR, "/v1beta/models": doors.GEMINI_MODELS_DOOR}
    out |= {f"/v1beta/models/claude-4.7:{name}": door for name, (door, _) in doors._GEMINI.items()}
    return out | {f"/{name}": door for name, door in doors._OPERATIONS.items()}


def test_every_door_is_among_them() -> None:
    known = {id(door) for door in paths().values()}
    assert [name for name, door in vars(doors).items() if isinstance(door, doors.Door) and id(door) not in known] == []


def test_every_door_refuses_who_has_no_key(gateway: ServedGateway, key: str) -> None:
    asked = 0
    for path, door in paths().items():
        for method in door.methods:
            for stranger in (*STRANGERS, gateway.token):
                bearer = f"Bearer {stranger}" if stranger else ""
                status, _, body = ask(gateway.url, method, path, authorization=bearer)
                if door.name in OPEN_DOORS:
                    assert status == 200, (method, path)
                else:
                    assert status == 401, (method, path, stranger, body)
                    asked += 1
            assert ask(gateway.url, method, path, authorization=f"Bearer {key}")[0] != 401, (method, path)
    assert asked > 150
    assert gateway.loop.call(lambda: len(gateway.sim.log)) == 0, "no provider was asked"


# -- the admin plane -------------------------------------------------------------------------------------------------------
def routes() -> list[Route | Mount]:
    return _Console(None, None, None, None, Experiments(None, None)).routes()  # type: ignore[arg-type]


def test_only_styles_and_scripts_are_served_without_a_route_of_their_own() -> None:
    assert [route.path for route in routes() if isinstance(route, Mount)] == ["/static"]


def strangers(gateway: ServedGateway, key: str) -> list[dict[str, str]]:
    """Who may see nothing at all of the admin plane."""
    other = Sessions("hga-" + "b" * 40, SYSTEM)
    past = str(int(time.time()) - 10)
    ended = f"{past}.{Sessions(gateway.token, SYSTEM)._sign(past)}"
    cookies = [other.open(), "9999999999.", f"9999999999.{'0' * 64}", ended, gateway.token]
    found = [{"authorization": f"Bearer {word}"} for word in (*STRANGERS[1:], key)] + [{}]
    return found + [{"cookie": f"{COOKIE}={cookie}"} for cookie in cookies]


def test_every_route_of_the_admin_plane_refuses_strangers(gateway: ServedGateway, key: str) -> None:
    asked = 0
    for route in routes():
        if not isinstance(route, Route) or route.path in OPEN_PAGES:
            continue
        path = route.path.replace("{id}", "x_1").replace("{name}", "x")
        for method in route.methods or ():
            for stranger in strangers(gateway, key):
                status, location, body = ask(gateway.admin, method, path, **stranger)
                assert status in (401, 403) or (status, location) == (303, "/sign-in"), (method, path, stranger)
                assert len(body) < 300
                asked += 1
    assert asked > 400


def test_a_session_is_for_pages_and_the_token_for_programs(gateway: ServedGateway) -> None:
    """No page of another origin can use a session for what changes anything, and none at all for the API."""
    sessions = Sessions(gateway.token, SYSTEM)
    cookie = sessions.open()
    own = {"cookie": f"{COOKIE}={cookie}"}
    token = {"authorization": f"Bearer {gateway.token}"}
    for route in routes():
        if not isinstance(route, Route) or route.path in OPEN_PAGES:
            continue
        path = route.path.replace("{id}", "x_1").replace("{name}", "x")
        for method in route.methods or ():
            if path.startswith("/admin/"):
                assert ask(gateway.admin, method, path, **own)[0] == 401, (method, path)
            elif method == "POST":
                foreign = {"x_csrf_token": sessions.csrf(cookie), "origin": "http://evil.example"}
                for given in (own, {**own, "x_csrf_token": "0" * 64}, {**own, **foreign}, token):
                    assert ask(gateway.admin, method, path, **given)[0] == 403, (method, path, given)
            else:
                assert ask(gateway.admin, method, path, **token)[0] in (303, 401), (method, path)
    assert gateway.ask_admin("/keys")[0]["name"] == "somebody"
    assert len(gateway.ask_admin("/keys")) == 1, "nothing was made"


def test_who_is_nobody_yet_fills_no_memory(gateway: ServedGateway) -> None:
    """The sign-in is answered once enough of a body has come, be it never so long."""
    place = urlsplit(gateway.admin)
    with socket.create_connection((place.hostname, place.port), timeout=10) as wire:
        wire.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.sendall(b"4e20\r\n" + b"x" * 20_000 + b"\r\n")  # and no end
        assert wire.recv(100).startswith(b"HTTP/1.1 401 ")
