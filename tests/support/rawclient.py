"""An HTTP client of plain sockets: sends what it is told, reads what comes, and knows how it ended."""

import asyncio
from dataclasses import dataclass
from typing import Self


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes = b""


class RawClient:
    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a packet of its own, as far as that can be had. A server that has closed is no error here."""
        for piece in pieces:
            try:
                self.writer.write(piece)
                await self.writer.drain()
            except (ConnectionError, RuntimeError):  # RuntimeError: uvloop's word for a closed transport
                return
            if len(pieces) > 1:
                await asyncio.sleep(0.002)

    async def head(self) -> Answer:
        """Status and headers of the next answer; the body stays unread."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name
        }
        return Answer(int(lines[0].split(" ")[1]), headers, b"", head)

    async def chunk(self) -> bytes:
        """The next chunk; b"" for the last."""
        size = int(await asyncio.wait_for(self.reader.readline(), 5), 16)
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, complete."""
        answer = await self.head()
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while data := await self.chunk():
                answer.body += data
        elif "content-length" in answer.headers:
            answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
        else:
            answer.body = await asyncio.wait_for(self.reader.read(), 5)
        return answer

    async def ended(self, within: float = 5.0) -> bytes:
        """What still comes until the server closes; a reset counts as closing."""
        try:
            return await asyncio.wait_for(self.reader.read(), within)
        except ConnectionError:
            return b""


def get(path: str = "/", *headers: str, method: str = "GET", version: str = "1.1", host: str = "a") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def post(body: bytes = b"{}", path: str = "/", *headers: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body
