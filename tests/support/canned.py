"""A provider that gives the answers it is told to, and notes what it was sent."""

from __future__ import annotations

from support.rawserver import Peer, RawServer

Answer = tuple[int, str, bytes]
"""(status, content type, body)."""


class Provider:
    """Answers every request with what is in `answers` by path, and keeps (method, path, headers, body). What is in `once`
    by path goes first, each of it a single time."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.once: dict[str, list[Answer]] = {}
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.server = RawServer(self._talk)

    async def _talk(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            first, *lines = head.decode("latin-1").strip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self.seen.append((method, path, headers, body))
            place = path.removeprefix("/v1").partition("?")[0]
            waiting = self.once.get(place)
            status, kind, answer = waiting.pop(0) if waiting else self.answers[place]
            said = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(answer)}\r\n\r\n"
            await peer.send(said.encode() + answer)
