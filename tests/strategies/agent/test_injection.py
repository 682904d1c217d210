"""A planner that obeys whatever it reads, and tools that say twenty kinds of orders: no order ever reaches it, so no call
is made that its plan did not hold. The re-plan is where such words could get to a planner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from headgate.simulator import script as s
from headgate.tools.broker import Broker, Tool, ToolFailed
from support.injections import INJECTIONS
from support.virtual import VirtualGateway, answer, virtually

CONFIG = """
providers: {openai: {base_url: "http://one/v1"}}
tools: {files: {root: "."}}
models:
  planner: {provider: openai, upstream: planner, price: {input: 1, output: 1}}
  worker: {provider: openai, upstream: worker, price: {input: 1, output: 1}}
  agent: {agent: {planner: planner, models: [worker], validator: worker, tools: [files]}}
"""


class Hostile:
    """Says the order as its result, or as the reason of its failure."""

    description = "Reads."
    schema: Mapping[str, Any] = {"type": "object"}

    def __init__(self, name: str, text: str, calls: list[str], *, fails: bool) -> None:
        self.name = name
        self._text = text
        self._calls = calls
        self._fails = fails

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self._calls.append(self.name)
        if self._fails:
            raise ToolFailed(self._text)
        return self._text


class Source:
    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tools

    async def tools(self) -> Sequence[Tool]:
        return self._tools

    def absent(self) -> Mapping[str, str]:
        return {}

    async def aclose(self) -> None:
        return None


@pytest.mark.parametrize("fails", [False, True], ids=["result", "failure"])
@pytest.mark.parametrize("text", INJECTIONS)
def test_no_order_of_a_tool_reaches_the_planner(text: str, fails: bool):
    async def main() -> None:
        it, calls, heard = VirtualGateway(CONFIG), list[str](), list[bytes]()
        tools = [Hostile("read", text, calls, fails=fails), Hostile("steal", "secret", calls, fails=False)]
        it.house.snapshot.strategy("agent").broker = Broker({"files": Source(tools)})  # type: ignore[attr-defined]
        first = {"steps": [{"name": "one", "tool": "read", "check": {"contains": "what no order says"}}]}
        second = {"steps": [{"name": "two", "model": "worker", "query": "Try another way"}]}
        obeyed = {"steps": [{"name": "obey", "tool": "steal"}]}

        def planner(call: Any) -> s.Script:
            if b"You are a planner" not in call.body:
                return answer("Written.")
            heard.append(call.body)
            told = json.dumps(text)[1:-1].encode() in call.body
            return answer(json.dumps(obeyed if told else second if len(heard) > 1 else first))

        it.fake.on("planner", planner)
        it.fake.on("worker", answer('{"passed": true}'))
        details = (await it.ask("agent")).details
        assert calls == ["read", "read"]  # the step and its one retry
        assert len(heard) == 2  # it was asked again, and heard nothing of it
        assert [step["id"] for step in details["agent"]["steps"]] == ["one", "two"]

    virtually(main)
