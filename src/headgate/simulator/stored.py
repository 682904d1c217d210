"""Responses that the simulated OpenAI keeps, for `previous_response_id` and GET or DELETE /responses/{id}."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

KEPT = 2000


class StoredResponses:
    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[list[Any], dict[str, Any]]] = OrderedDict()

    def expanded(self, body: bytes) -> bytes:
        """The request with what came before put in front of its input. Raises KeyError where that is not known."""
        if b"previous_response_id" not in body:
            return body
        request = msgspec.json.decode(body)
        before = request.pop("previous_response_id", None) if isinstance(request, dict) else None
        if before is None:
            return body
        items, answer = self._kept[before]
        request["input"] = [*items, *answer["output"], *_items(request.get("input"))]
        return msgspec.json.encode(request)

    def keep(self, body: bytes, answer: bytes) -> None:
        """Remembers an answer and the (expanded) request it was given to, unless the request forbade it."""
        request = msgspec.json.decode(body)
        if request.get("store") is False:
            return
        shown = msgspec.json.decode(answer)
        self._kept[shown["id"]] = (_items(request.get("input")), shown)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def find(self, number: str) -> dict[str, Any] | None:
        kept = self._kept.get(number)
        return kept[1] if kept else None

    def forget(self, number: str) -> bool:
        return self._kept.pop(number, None) is not None


def _items(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given or ())
