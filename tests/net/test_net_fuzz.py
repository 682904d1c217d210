"""Packets mean nothing, and no bytes whatever bring a connection down or make a cut answer look whole."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.net.transport.h1_connection import Connection
from headgate.net.transport.protocol import Limits, TransportError
from support.wiretap import Wiretap, split

LIMITS = Limits(header_bytes=2000, body_bytes=5000)
HEADS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx: y\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 500 Oops\r\nconnection: close\r\n",
    ]
)
BODIES = st.lists(st.binary(max_size=60), max_size=4)


@st.composite
def answers(draw) -> bytes:
    head, pieces = draw(HEADS), draw(BODIES)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        return head + b"content-length: %d\r\n\r\n" % sum(map(len, pieces)) + b"".join(pieces)
    if framing == "chunked":
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"\r\n" + b"".join(pieces)


def hear(pieces: list[bytes]) -> tuple[int, bytes, bool, type | None, bool]:
    """(status, body, complete, error, may be used again) of an answer in these packets, after which the server ends."""
    loop = asyncio.new_event_loop()
    try:
        connection = Connection(loop, lambda _: None, lambda _: None, 30.0)
        connection.connection_made(Wiretap())
        connection.begin(b"GET / HTTP/1.1\r\n\r\n", b"", LIMITS, loop.time() + 60, False)
        for piece in pieces:
            if connection.error() is not None:
                break
            connection.data_received(piece)
        reusable = connection.reusable
        if connection.error() is None:
            connection.connection_lost(None)
        connection.abort()
        error = connection.error()
        assert error is None or isinstance(error, TransportError)
        assert (error is None) == connection.done
        return connection.status, connection.take(), connection.done, type(error) if error else None, reusable
    finally:
        loop.close()


@settings(max_examples=150, deadline=None)
@given(answers(), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_packets_give_the_same_answer(wire, cuts):
    assert hear(split(wire, cuts)) == hear([wire])


@settings(max_examples=150, deadline=None)
@given(answers(), st.integers(1, 200))
def test_a_framed_answer_that_is_cut_is_never_complete(wire, missing):
    whole = hear([wire])
    if not whole[2]:
        return
    head = wire.partition(b"\r\n\r\n")[0]
    framed = b"content-length" in head or b"transfer-encoding" in head
    cut = hear([wire[:-missing]])
    if framed and whole[0] != 204 and b"\r\n\r\n" in wire[:-missing]:
        assert not cut[2] or cut[1] == whole[1] == b""  # an announced length of 0 is complete with its head


@settings(max_examples=300, deadline=None)
@given(answers(), st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=3)), min_size=1, max_size=4))
def test_broken_bytes_end_in_an_answer_or_an_error_of_ours(wire, edits):
    data = bytearray(wire)
    for place, new in edits:
        at = place % (len(data) + 1)
        data[at : at + len(new)] = new
    hear([bytes(data)])


@settings(max_examples=100, deadline=None)
@given(answers(), answers())
def test_a_second_answer_never_leaves_a_reusable_connection(one, two):
    assert not hear([one + two])[4]
