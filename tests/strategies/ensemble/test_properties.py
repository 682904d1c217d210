"""Two thousand random ensembles on virtual time: prices, delays, failures, malformed judges, caps, clients that leave.

What holds for each: it costs no more than its cap; it ends in exactly one answer or one clean error; what it started is
cancelled within a second of the client leaving; the children's costs are the parent's."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from headgate.core.money import NANO
from headgate.simulator import script as s
from headgate.simulator.inprocess import run_virtually
from headgate.simulator.wire import Call
from support.virtual import DONE, SSE_HEAD, Heard, VirtualGateway, chunk

RUNS, BATCH, HOUSES = 2000, 200, 20
MEMBERS = ("a", "b", "c", "d")
TEXTS = ("391", "The answer is 391.", "390", '{"answer": 391, "why": "sums"}', "A long story of sums.\n\nIt ends.", "B")
JUDGED = ("7", "10", "0", "3.5", "11", "-1", "ten", "7/10", "A", "B", "T", "(B)", "", "Score: 9", "7 because", "\n8\n",
          "ＡＢ", "B\nB", '{"score": 10}', "9" * 500)  # fmt: skip
ENDINGS = (s.Reset(), s.Close(), s.Hang(), s.End())
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def config(luck: random.Random) -> str:
    prices = {name: (luck.randint(0, 12), luck.randint(0, 12)) for name in MEMBERS}
    prices["j"] = (luck.randint(0, 150), luck.randint(0, 150))
    models = "".join(
        f"  {name}: {{provider: openai, upstream: {name}, price: {{input: {i}, output: {o}}}, max_output: 900,"
        " timeout: {first_token: 20s, idle: 10s, total: 60s}}\n"
        for name, (i, o) in prices.items()
    )

    def ensemble(**fields: str) -> str:
        count = luck.randint(2, 4)
        members = ", ".join(f"{name}: {luck.randint(1, 9)}" for name in luck.sample([*MEMBERS, "chain"], count))
        budget = []
        if luck.random() < 0.4:
            budget.append(f"max_cost: {luck.choice([0.0003, 0.01, 0.05, 0.2])}")
        if luck.random() < 0.4:
            budget.append(f"deadline: {luck.choice([1, 5, 30])}s")
        rest = "".join(f", {key}: {value}" for key, value in fields.items())
        rest += f", grace: {luck.choice([0, 1, 3])}s, budget: {{{', '.join(budget)}}}"
        return f"{{ensemble: {{members: {{{members}}}{rest}}}}}"

    return f"""
providers: {{openai: {{base_url: "http://one/v1"}}}}
models:
{models}
  chain: {{fallback: [a, b]}}
  scored: {ensemble(judge="{model: j, timeout: 5s}")}
  dueled: {ensemble(judge="{model: j, style: pairwise, timeout: 5s}")}
  voted: {ensemble(mode="vote")}
  both: {ensemble(mode="vote", judge="j")}
  fused: {ensemble(mode="fuse", judge="j")}
  plain: {ensemble()}
  tagged: {ensemble(when="{tags: [critical]}")}
  outer: {{fallback: [tagged, d]}}
"""


ENTRIES = ("scored", "dueled", "voted", "both", "fused", "plain", "outer")


class Provider:
    """An honest one in what it bills: never more tokens than it was sent, or was allowed to write."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck
        self.kinds: dict[str, str] = {}

    def shuffle(self) -> None:
        kinds = ["well"] * 16 + [
            "status",
            "empty",
            "refusal",
            "length",
            "html",
            "malformed",
            "cut",
            "hang",
            "call",
            "error",
        ]
        self.kinds = {name: self.luck.choice(kinds) for name in (*MEMBERS, "j")}

    def respond(self, call: Call) -> s.Script:
        body = json.loads(call.body)
        luck, name = self.luck, body["model"]
        kind = self.kinds[name] if luck.random() < 0.9 else "well"
        yield s.Pause(luck.choice([0.0, 0.1, 0.5, 2.0, 8.0]))
        if kind == "status":
            status = luck.choice([400, 401, 404, 429, 500, 503])
            yield from s.reply_json(status, {"error": {"message": "no", "type": "t"}})
        elif kind == "hang":
            yield s.Hang()
        elif kind == "html":
            yield from s.html()
        elif kind == "malformed":
            yield from s.reply(200, b'{"choices": [{"mess')
        elif kind == "error":
            yield from s.reply_json(200, {"error": {"message": "overloaded"}})
        elif kind == "cut":
            yield s.Head(200, (("content-type", s.JSON),), "length", 500)
            yield s.Body(b'{"choices": [')
            yield luck.choice(ENDINGS)
        elif body.get("stream"):
            yield from self._stream(body)
        else:
            yield from s.reply_json(200, self._whole(body, kind))

    def _usage(self, body: dict[str, Any]) -> dict[str, int]:
        read = sum(len(str(m.get("content") or "")) for m in body["messages"]) // 4 + 4 * len(body["messages"])
        longest = body.get("max_completion_tokens") or body.get("max_tokens") or 900
        wrote = self.luck.randint(1, min(longest, 900))
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

    def _whole(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        text = self.luck.choice(JUDGED if body["model"] == "j" else TEXTS)
        message: dict[str, Any] = {"role": "assistant", "content": "" if kind == "empty" else text}
        finish = "length" if kind == "length" else "stop"
        if kind == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I cannot say."}
        if kind == "call" and body.get("tools"):
            arguments = self.luck.choice(['{"city": "Rome"}', '{"city":"Oslo"}', "{bad", "{}"])
            name = self.luck.choice(["weather", "weather", "wether"])
            calls = [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}]
            message, finish = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        usage = self._usage(body)
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    def _stream(self, body: dict[str, Any]) -> s.Script:
        yield SSE_HEAD
        for word in ("Fu", "sed", "."):
            yield s.Body(chunk({"content": word}))
            yield s.Pause(self.luck.choice([0.0, 0.2, 3.0]))
            if self.luck.random() < 0.05:
                yield self.luck.choice(ENDINGS)
                return
        yield s.Body(chunk({}, "stop"))
        usage = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
                 "usage": self._usage(body)}  # fmt: skip
        yield s.Body(b"data: " + json.dumps(usage).encode() + b"\n\n")
        yield s.Body(DONE)
        yield s.End()


async def one(it: VirtualGateway, luck: random.Random, model: str, cap: float | None) -> None:
    stream = luck.random() < 0.4
    leaves = luck.choice([0.05, 0.7, 2.5, 9.0]) if luck.random() < 0.25 else None
    headers = {"x-headgate-timeout": f"{luck.choice([2, 20, 90])}s"}
    if luck.random() < 0.4:
        headers["x-headgate-max-cost"] = f"{luck.choice([0.00001, 0.005, 0.02, 0.1, 0.5])}"
        cap = min(float(headers["x-headgate-max-cost"]), 1e9 if cap is None else cap)
    if luck.random() < 0.5:
        headers["x-headgate-tags"] = "critical"
    more: dict[str, Any] = {"max_tokens": luck.randint(1, 900)} if luck.random() < 0.5 else {}
    if luck.random() < 0.25:
        more["tools"] = [WEATHER]
    messages = [{"role": "user", "content": "How many? " * luck.choice([1, 50])}]
    calls_before, began = len(it.fake.calls), it.clock.monotonic()
    task = asyncio.ensure_future(it.ask(model, stream=stream, headers=headers, messages=messages, **more))
    done, _ = await asyncio.wait([task], timeout=leaves)
    if not done:
        left = it.clock.monotonic()
        task.cancel()
        await asyncio.wait([task])
        assert it.clock.monotonic() - left <= 1.0
        for call in it.fake.calls[calls_before:]:
            assert call.complete or call.left is not None
            assert call.left is None or call.at + call.left <= left + 1.0
    else:
        _ended_well(task.result(), stream, whole=model != "outer")
        assert it.clock.monotonic() - began <= 95.0
    assert it.transport.open == 0
    assert it.house.inflight == 0
    trace, record = it.house.recent(1)[0]
    costs = [it.ledger.outcomes[a.id].cost or 0 for a in trace.attempts if a.outcome != "skipped"]
    assert sum(costs) == (record.cost or 0) == trace.cost
    if cap is not None:
        assert sum(costs) <= cap * NANO


def _ended_well(heard: Heard, stream: bool, *, whole: bool) -> None:
    """`whole`: an answer is never empty (a chain's single model may say nothing)."""
    assert heard.whole
    if heard.status != 200:
        assert heard.error is not None
        assert heard.error["message"]
        assert heard.status in (400, 402, 404, 429, 502, 503, 504), heard.body
    elif stream:
        assert heard.finished is (heard.error is None), heard.body
        assert heard.body.count(b"[DONE]") == (1 if heard.finished else 0)
    else:
        [choice] = heard.json()["choices"]
        message = choice["message"]
        assert (
            not whole or bool(message.get("content")) or bool(message.get("tool_calls")) or bool(message.get("refusal"))
        )


@pytest.mark.parametrize("batch", range(RUNS // BATCH))
def test_whatever_happens_it_ends_well_and_adds_up(batch):
    async def main() -> None:
        for house in range(HOUSES):
            luck = random.Random(f"{batch}/{house}")
            it = VirtualGateway(config(luck), seed=batch)
            provider = Provider(luck)
            it.fake.on("*", provider.respond)
            for run in range(BATCH // HOUSES):
                provider.shuffle()
                model = luck.choice(ENTRIES)
                cost = it.house.snapshot.strategy("tagged" if model == "outer" else model)
                own = None if model == "outer" or cost.max_cost is None else cost.max_cost / NANO
                try:
                    await one(it, luck, model, own)
                except AssertionError as error:
                    raise AssertionError(f"batch {batch}, house {house}, run {run}, {model}: {error}") from error
            assert not [error for error in it.errors if error.code == "internal_error"], it.errors
            it.ledger.check()

    run_virtually(main())
