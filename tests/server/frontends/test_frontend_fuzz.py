"""Our own front end without sockets: packets mean nothing, and no bytes make it hear requests that were not sent."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import HeadgateError, http_status
from headgate.server.frontends.h1 import H1FrontEnd
from headgate.server.frontends.h1_connection import Connection
from headgate.server.http import HttpLimits, Request, Responder
from support.wiretap import Wiretap, split

PATHS = st.sampled_from(["/", "/v1/models", "/v1/chat/completions?x=1"])
EXTRA = st.lists(st.sampled_from(["x: y", "Accept: */*", "X-Long: " + "z" * 50]), max_size=3)


@st.composite
def requests(draw) -> bytes:
    body = draw(st.binary(max_size=80))
    lines = ["POST " + draw(PATHS) + " HTTP/1.1", "Host: a", *draw(EXTRA)]
    if draw(st.booleans()):
        lines.append(f"Content-Length: {len(body)}")
    else:
        lines.append("Transfer-Encoding: chunked")
        body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def hear(pieces: list[bytes]) -> tuple[list[tuple[str, str, bytes]], list[int], bytes]:
    """(requests that reached the handler, statuses of refusals, what was written)."""
    seen: list[tuple[str, str, bytes]] = []
    refused: list[int] = []

    async def handle(request: Request, responder: Responder) -> None:
        seen.append((request.method, request.path, request.body))
        await responder.reply(200, (), b"ok")

    async def refuse(error: HeadgateError, path: str, responder: Responder) -> None:
        refused.append(http_status(error))
        await responder.reply(http_status(error), (), b"no")

    async def serve() -> bytes:
        front = H1FrontEnd(handle, refuse, HttpLimits(body=1000, header_bytes=1000, headers=20))
        connection = Connection(front, asyncio.get_running_loop())
        tap = Wiretap()
        connection.connection_made(tap)
        for piece in pieces:
            if not tap.closed:
                connection.data_received(piece)
        for _ in range(60):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert not front.connections
        return bytes(tap.written)

    written = asyncio.run(serve())
    return seen, refused, written


@settings(max_examples=80, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_packets_give_the_same_requests(wires, cuts):
    wire = b"".join(wires)
    seen, refused, written = hear(split(wire, cuts))
    assert (seen, refused) == hear([wire])[:2]
    assert len(seen) == len(wires)
    assert refused == []
    assert written.count(b"HTTP/1.1 200 OK") == len(wires)


@settings(max_examples=250, deadline=None)
@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 800), st.binary(max_size=3)), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_broken_bytes_are_refused_once_and_last(wires, edits, cuts):
    data = bytearray(b"".join(wires))
    for place, new in edits:
        at = place % (len(data) + 1)
        data[at : at + len(new)] = new
    seen, refused, written = hear(split(bytes(data), cuts))
    assert len(refused) <= 1
    assert all(path.startswith("/") for _, path, _ in seen)
    assert written.count(b"HTTP/1.1 ") == len(seen) + len(refused)
    if refused:
        last = written.rpartition(b"HTTP/1.1 ")[2]
        assert int(last[:3]) == refused[0]
        assert b"connection: close" in last
