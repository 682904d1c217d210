"""What holds for every run of an agent, in 2,000 random ones on virtual time: plans of every kind, slow, broken and hanging
models, tools that fail in every way, clients that leave."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from headgate.core.money import NANO
from headgate.server.http import Request
from headgate.simulator import script as s
from headgate.tools.broker import Broker, Tool, ToolFailed
from support.virtual import MESSAGES, Heard, VirtualGateway, answer, either, streamed, virtually

BATCHES, RUNS = 40, 50
GRACE = 3.0
NAMES = ("one", "two", "three")


def config(luck: random.Random) -> tuple[str, int]:
    """(file, cap in nano-US$)."""
    cap = luck.choice((0.05, 0.2, 1.0, 5.0))
    price = {name: luck.choice((0.5, 2, 20)) for name in NAMES}
    models = "\n".join(
        f"  {name}: {{provider: openai, upstream: {name}, capabilities: [{'math' if name == 'two' else 'code'}],"
        f" price: {{input: {price[name]}, output: {price[name]}}}, timeout: {{first_token: 5s, idle: 5s, total: 20s}}}}"
        for name in NAMES
    )
    step = luck.choice(("", "step: {max_calls: 3, deadline: 12s}, "))
    agent = (
        f"{{planner: one, validator: {luck.choice(('two', 'null'))}, models: [two, three], tools: [files], "
        f"grace: {GRACE}s, budget: {{max_cost: {cap}, {step}deadline: 60s}}}}"
    )
    head = 'providers: {openai: {base_url: "http://one/v1"}}\ntools: {files: {root: "."}}\nmodels:\n'
    return f"{head}{models}\n  agent: {{agent: {agent}}}\n", round(cap * NANO)


class Trouble:
    """A tool that does whatever tools do."""

    name = "trouble"
    description = "Does something."
    schema: Mapping[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self.under_way = 0

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self.under_way += 1
        try:
            await asyncio.sleep(self._luck.choice((0.0, 0.5, 5.0, 100.0)))
        finally:
            self.under_way -= 1
        match self._luck.randrange(5):
            case 0:
                raise ToolFailed("it would not")
            case 1:
                raise RuntimeError("somebody else's defect")
            case 2:
                return "x" * 300_000
            case 3:
                return ""
            case _:
                return "7"


class Source:
    def __init__(self, tool: Trouble) -> None:
        self._tool = tool

    async def tools(self) -> Sequence[Tool]:
        return [self._tool]

    def absent(self) -> Mapping[str, str]:
        return {}

    async def aclose(self) -> None:
        return None


def plan(luck: random.Random) -> str:
    """One of every kind a planner may write."""
    kind = luck.choice(("fine",) * 6 + ("prose", "cycle", "nobody", "tool", "model", "empty", "long", "capability"))
    match kind:
        case "prose":
            return luck.choice(("No plan today.", '{"steps": ', "[]", '{"steps": [{"name": 3}]}', ""))
        case "cycle":
            return json.dumps({"steps": [{"name": "a", "query": "$b"}, {"name": "b", "query": "$a"}]})
        case "nobody":
            return json.dumps({"steps": [{"name": "a", "query": "$zz"}]})
        case "tool":
            return json.dumps({"steps": [{"name": "a", "tool": "shell", "args": {}}]})
        case "model":
            return json.dumps({"steps": [{"name": "a", "model": "four", "query": "x"}]})
        case "empty":
            return json.dumps({"steps": []})
        case "long":
            return json.dumps({"steps": [{"name": f"s{i}", "query": "x"} for i in range(30)]})
        case "capability":
            return json.dumps({"steps": [{"name": "a", "capability": luck.choice(("math", "flying")), "query": "x"}]})
    steps: list[dict[str, Any]] = []
    for number in range(luck.randint(1, 6)):
        needs = [f"s{n}" for n in range(number) if luck.random() < 0.4]
        step: dict[str, Any] = {"name": f"s{number}", "needs": needs}
        if luck.random() < 0.4:
            step |= {"tool": "trouble", "args": luck.choice(({}, {"text": "hi"}, {"text": 5}))}
        else:
            step |= {"query": "do " + " ".join(f"${need}" for need in needs)}
            if luck.random() < 0.5:
                step["model"] = luck.choice(NAMES)
        if luck.random() < 0.3:
            step["check"] = luck.choice(({"contains": "7"}, {"schema": {"type": "integer"}}, {"max_chars": 5}))
        steps.append(step)
    luck.shuffle(steps)
    return json.dumps({"steps": steps})


def behaviour(luck: random.Random) -> Any:
    """What one call of a model gets; planners get plans in any case, so that they matter."""
    after = luck.choice((0.0, 0.3, 2.0, 7.0))

    def script(call: Any) -> s.Script:
        if b"You are a planner" in call.body:
            return answer(plan(luck), after=min(after, 2.0))
        if b"You are a validator" in call.body:
            said = luck.choice(
                ('{"passed": true}', '{"passed": false, "reason": "no"}', "perhaps", '{"passed": "yes"}')
            )
            return answer(said, after=after)
        match luck.randrange(8):
            case 0:
                return s.reply_json(503, {"error": {"message": "down"}})
            case 1:
                return [s.Hang()]
            case 2:
                return s.reply_json(429, {"error": {"message": "slow down"}}, headers=(("retry-after", "1"),))
            case 3:
                return either(s.reply(200, b"{"), streamed("7 ", "and ", ending=s.Reset()))(call)
            case _:
                return either(answer("7", after=after), streamed("The ", "end: ", "7", after=after))(call)

    return script


@pytest.mark.parametrize("batch", range(BATCHES))
def test_of_any_run(batch: int):
    async def main() -> None:
        luck = random.Random(batch)
        text, cap = config(luck)
        it = VirtualGateway(text, seed=batch)
        tool = Trouble(luck)
        it.house.snapshot.strategy("agent").broker = Broker({"files": Source(tool)})  # type: ignore[attr-defined]
        for name in NAMES:
            it.fake.on(name, behaviour(luck))
        for _ in range(RUNS):
            await one(it, luck, cap, tool)
            await asyncio.sleep(120.0)  # what cools down is well again
        it.ledger.check()

    virtually(main)


async def one(it: VirtualGateway, luck: random.Random, cap: int, tool: Trouble) -> None:
    stream = luck.random() < 0.5
    leaves = luck.choice((None, None, 0.0, 0.4, 3.0, 9.0))
    body = json.dumps({"model": "agent", "messages": MESSAGES, "stream": stream, "max_tokens": 500}).encode()
    heard, given = Heard(), {"host": "localhost"}
    request = Request("POST", "/v1/chat/completions", "", given, list(given.items()), body)
    task = asyncio.create_task(it.plane(request, heard))
    began = it.clock.monotonic()
    if leaves is not None:
        await asyncio.wait([task], timeout=leaves)
        if not task.done():
            heard.left = True
            task.cancel()
    await asyncio.wait([task])
    took = it.clock.monotonic() - began
    if heard.left:
        assert leaves is not None
        assert took <= leaves + GRACE + 1.0  # all of it, children included, is over within a second of the grace
    else:
        assert heard.whole
        if heard.headers["content-type"].startswith("text/event-stream"):
            assert heard.finished != (heard.error is not None)
        elif heard.status == 200:
            assert heard.text
        else:
            assert heard.error is not None
            assert heard.error["code"]
    assert it.transport.open == 0
    assert tool.under_way == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    trace, record = it.house.recent(1)[0]
    children = [it.ledger.outcomes[attempt.id].cost or 0 for attempt in trace.attempts]
    assert sum(children) == (record.cost or 0) <= cap
