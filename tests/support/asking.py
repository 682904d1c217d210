"""A plain HTTP client for the chat door, and what a streamed answer said."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

ASK = [{"role": "user", "content": "Name three uses of a headgate in irrigation."}]


def ask(url: str, model: str, *, stream: bool, **more: Any) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body), with details asked for."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    body = {"model": model, "messages": ASK, "stream": stream, **more}
    headers = {"content-type": "application/json", "x-headgate-details": "true"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


def told(body: bytes) -> tuple[str, bool, dict[str, Any] | None, dict[str, Any] | None]:
    """(text, finished, error, details) of a streamed answer."""
    text, finished, error, details = "", False, None, None
    for frame in body.decode().split("\n\n"):
        if not frame.startswith("data: ") or frame == "data: [DONE]":
            continue
        chunk = json.loads(frame[6:])
        error = chunk.get("error") or error
        details = chunk.get("headgate") or details
        for choice in chunk.get("choices", []):
            text += choice["delta"].get("content") or ""
            finished = finished or bool(choice.get("finish_reason"))
    return text, finished, error, details
