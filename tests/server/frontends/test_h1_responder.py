"""What our own front end writes at once: each write wakes the client, and costs as much as making it."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.server.frontends.h1_responder import H1Responder

TEXT = (("content-type", "text/plain"),)


class Connection:
    closing = gone = paused = False

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert data
        self.written.append(data)


def responder(version: str = "1.1", method: str = "GET") -> tuple[H1Responder, list[bytes]]:
    connection: Any = Connection()
    return H1Responder(connection, method, version, keep=True), connection.written


async def test_a_streams_head_and_its_first_piece_are_one_write() -> None:
    answer, written = responder()
    await answer.start(200, TEXT)
    await answer.write(b"one")
    await answer.write(b"two")
    await answer.finish()
    first, *rest = written
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert rest == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


async def test_an_empty_write_sends_the_head() -> None:
    answer, written = responder()
    await answer.start(200, TEXT)
    await answer.write(b"")
    assert [one[-4:] for one in written] == [b"\r\n\r\n"]
    await answer.write(b"one")
    assert written[1:] == [b"3\r\none\r\n"]


@pytest.mark.parametrize(
    ("version", "method", "end"), [("1.1", "GET", b"0\r\n\r\n"), ("1.0", "GET", b""), ("1.1", "HEAD", b"")]
)
async def test_a_stream_that_says_nothing_has_a_head(version: str, method: str, end: bytes) -> None:
    answer, written = responder(version, method)
    await answer.start(200, TEXT)
    await answer.finish()
    (only,) = written
    assert only.startswith(b"HTTP/1.1 200 OK\r\n")
    assert only.endswith(b"\r\n\r\n" + end)
    assert only.count(b"\r\n\r\n") == 1 + bool(end)
