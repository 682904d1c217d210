"""What the agent itself costs per step: `python bench/agent.py [--runs 200]`.

The providers are in this process and answer at once; a run of 20 steps is compared with one of 1 step, by processor time,
so that planning, writing and the rest of a request fall out. `tool`: steps that call a tool which does nothing. `model`:
steps that ask a model; the whole call is in that figure, and the same call as a plain request stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.config.load import load_text
from headgate.engine.gateway import Gateway
from headgate.simulator import script as s
from headgate.simulator.inprocess import InProcess
from headgate.simulator.scripted import FakeUpstream
from headgate.tools.broker import Broker, Tool

CONFIG = """
providers: {openai: {base_url: "http://one/v1", api_key: none}}
tools: {files: {root: "."}}
models:
  planner: {provider: openai, upstream: planner, price: {input: 1, output: 1}}
  worker: {provider: openai, upstream: worker, price: {input: 1, output: 1}}
  agent: {agent: {planner: planner, models: [worker], tools: [files], budget: {max_cost: 5.00}}}
"""
STEPS = 20


class Nothing:
    name = "nothing"
    description = "Does nothing."
    schema: Mapping[str, Any] = {"type": "object"}

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return "done"

    async def tools(self) -> Sequence[Tool]:
        return [self]

    def absent(self) -> Mapping[str, str]:
        return {}

    async def retire(self) -> None:
        return None

    async def aclose(self) -> None:
        return None


def said(text: str) -> list[s.Step]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return s.reply_json(200, {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                              "usage": usage})  # fmt: skip


def plan(kind: str, steps: int) -> str:
    """A chain and its side branches: half of the steps need the one before."""
    out: list[dict[str, Any]] = []
    for number in range(steps):
        needs = [f"s{number - 1}"] if number % 2 else []
        what = {"tool": "nothing"} if kind == "tool" else {"model": "worker", "query": "Say done."}
        out.append({"name": f"s{number}", "needs": needs, **what})
    return json.dumps({"steps": out})


async def measure(runs: int) -> None:
    fake = FakeUpstream()
    fake.on("worker", said("done"))
    config = load_text(CONFIG, "bench.yaml", {}).config
    async with Gateway(config, env={}, transport=InProcess(fake.respond)) as gateway:
        gateway.house.snapshot.strategy("agent").broker = Broker({"files": Nothing()})  # type: ignore[attr-defined]

        async def once(kind: str, steps: int) -> float:
            fake.on("planner", said(plan(kind, steps)), said("The end."))
            began = time.process_time()
            answer = await gateway.chat(model="agent", messages=[{"role": "user", "content": "Go"}])
            assert len(answer.details["agent"]["steps"]) == steps
            return time.process_time() - began

        async def plain() -> float:
            began = time.process_time()
            await gateway.chat(model="worker", messages=[{"role": "user", "content": "Say done."}])
            return time.process_time() - began

        await plain()
        print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {runs} runs each")
        print(
            f"a plain request: {statistics.median([await plain() for _ in range(runs)]) * 1000:.2f} ms of processor time"
        )
        for kind in ("tool", "model"):
            await once(kind, 1)
            one = statistics.median([await once(kind, 1) for _ in range(runs)])
            many = statistics.median([await once(kind, STEPS) for _ in range(runs)])
            print(f"{kind}: {(many - one) / (STEPS - 1) * 1000:.2f} ms of processor time per step (medians)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    asyncio.run(measure(parser.parse_args().runs))
