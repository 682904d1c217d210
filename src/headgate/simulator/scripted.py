"""A fake provider whose every answer is written by the test: which bytes, when, and how it ends.

It knows no wire format. A call finds its script by the header `x-sim-scenario`, by the model that it names (in the
body, or in a Gemini path), or falls to the default script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from headgate.core.clock import SYSTEM, Clock
from headgate.simulator import script as steps
from headgate.simulator.listener import Listener
from headgate.simulator.wire import Call, Wire

Answer = Sequence[steps.Step] | Callable[[Call], steps.Script]
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')
_PATH = re.compile(r"/models/([^/:]+)")


class FakeUpstream:
    """`async with FakeUpstream() as fake: fake.on("gpt", [answer, answer]); ... fake.base_url`.

    Each call of a name takes the name's next answer; the last one stays. Without any answer for it a call gets 404.
    """

    def __init__(self, *, clock: Clock = SYSTEM) -> None:
        self.wire = Wire(self.respond, clock=clock)
        self._answers: dict[str, list[Answer]] = {}
        self._taken: dict[str, int] = {}
        self._calls: list[Call] = []
        self._by_name: dict[str, list[Call]] = {}
        self.listener: Listener | None = None

    async def start(self, port: int = 0) -> str:
        self.listener = await self.wire.listen(port)
        return self.base_url

    @property
    def base_url(self) -> str:
        assert self.listener is not None
        return f"http://127.0.0.1:{self.listener.port}"

    @property
    def calls(self) -> list[Call]:
        """In order of arrival, over sockets or not."""
        return list(self._calls)

    def calls_of(self, name: str) -> list[Call]:
        return self._by_name.get(name, [])

    def forget(self) -> None:
        """The calls so far."""
        self._calls.clear()
        self._by_name.clear()

    def on(self, name: str, *answers: Answer) -> None:
        """What calls of `name` get, in order; the last for ever. Replaces what was set; `*` is the default."""
        self._answers[name] = list(answers)
        self._taken[name] = 0

    def respond(self, call: Call) -> steps.Script:
        name = call.headers.get("x-sim-scenario") or named_model(call)
        self._calls.append(call)
        self._by_name.setdefault(name, []).append(call)
        if name not in self._answers:
            name = "*"
        answers = self._answers.get(name)
        if not answers:
            return steps.reply_json(404, {"error": {"message": "no script for this call", "type": "not_found"}})
        number = min(self._taken[name], len(answers) - 1)
        self._taken[name] += 1
        answer = answers[number]
        return answer(call) if callable(answer) else answer

    async def aclose(self) -> None:
        await self.wire.aclose()

    async def __aenter__(self) -> FakeUpstream:
        await self.start()
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()


def named_model(call: Call) -> str:
    """The model that a call names, in its path (Gemini) or its body; "" where it names none."""
    in_path = _PATH.search(call.path)
    if in_path:
        return in_path.group(1)
    in_body = _MODEL.search(call.body)
    return in_body.group(1).decode("utf-8", "replace") if in_body else ""
