"""A gateway in front of a provider that gives canned answers, for the doors that pass bytes through."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import openai

from support.canned import Provider
from support.gateway import Loop, RunningGateway

FORM = "multipart/form-data; boundary=B"


def form(sound: bytes = b"xx", **fields: str) -> bytes:
    """A form with a file in it, as FORM says."""
    told = b"".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    return told + b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + sound + b"\r\n--B--\r\n"


class Stage:
    """`config` names two providers, near and chatty: both are the provider that gives the answers it is told to."""

    def __init__(self, config: str) -> None:
        self.loop = Loop()
        self.provider = Provider()
        self.loop.run(self.provider.server.__aenter__())
        url = f"http://127.0.0.1:{self.provider.server.port}/v1"
        self.gateway = self.loop.call(lambda: RunningGateway(config, {"near": url, "chatty": url}, env={"X": "y"}))
        self.loop.run(self.gateway.start())
        self.client = openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key="sk-any", max_retries=0)

    def answer(self, path: str, body: Any, *, status: int = 200, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.provider.answers[path] = (status, kind, data)

    def last(self) -> tuple[str, str, dict[str, str], bytes]:
        return self.provider.seen[-1]

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> tuple[int, Any]:
        """(status, JSON) of a plain request."""
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": kind} if data else {})
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def raw(
        self, path: str, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        connection.request("POST", path, body, {"content-type": kind, **(headers or {})})
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str | None, bytes]:
        """(status, content type, body)."""
        connection = http.client.HTTPConnection(self.gateway.url.removeprefix("http://"), timeout=10)
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        found = answer.status, answer.getheader("content-type"), answer.read()
        connection.close()
        return found

    def cost(self) -> int | None:
        """Nano-US$ of the newest attempt."""
        return self.loop.call(lambda: list(self.gateway.ledger.outcomes.values())[-1].cost)

    def close(self) -> None:
        self.client.close()
        self.loop.run(self.gateway.stop())
        self.loop.run(self.provider.server.__aexit__())
        self.loop.close()
