"""Responses that the simulated OpenAI keeps, for `previous_response_id`, GET or DELETE /responses/{id} and its cancel.

One that was asked for in the background is queued, then in progress until its time has come; till then it may be cancelled.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

KEPT = 2000


class StoredResponses:
    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[list[Any], dict[str, Any]]] = OrderedDict()
        self._ready: dict[str, float] = {}

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

    def keep(self, body: bytes, answer: bytes, *, ready: float | None = None) -> dict[str, Any]:
        """Remembers an answer and the (expanded) request it was given to, unless the request forbade it. `ready`: the
        clock's seconds at which one of the background is made. What may be shown of it now."""
        request = msgspec.json.decode(body)
        shown = msgspec.json.decode(answer)
        if request.get("store") is False:
            return shown
        self._kept[shown["id"]] = (_items(request.get("input")), shown)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        if ready is None:
            return shown
        shown["background"] = True
        self._ready[shown["id"]] = ready
        return _unmade(shown, "queued")

    def find(self, number: str, now: float) -> dict[str, Any] | None:
        kept = self._kept.get(number)
        if kept is None:
            return None
        return _unmade(kept[1], "in_progress") if self._is_running(number, now) else kept[1]

    def cancel(self, number: str, now: float) -> dict[str, Any] | None:
        """The response as it is from now on; None where it was no longer, or never, being made in the background."""
        if number not in self._kept or not self._is_running(number, now):
            return None
        del self._ready[number]
        items, shown = self._kept[number]
        self._kept[number] = (items, _unmade(shown, "cancelled"))
        return self._kept[number][1]

    def _is_running(self, number: str, now: float) -> bool:
        return now < self._ready.get(number, now)

    def forget(self, number: str) -> bool:
        self._ready.pop(number, None)
        return self._kept.pop(number, None) is not None


def _unmade(shown: dict[str, Any], status: str) -> dict[str, Any]:
    """As OpenAI shows a response that has no output yet, or will have none."""
    return {**shown, "status": status, "output": [], "usage": None}


def _items(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given or ())
