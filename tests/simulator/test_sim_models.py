"""Simulated models over real sockets: streams in each format, the ways they break, determinism, limits, the log."""

import asyncio
import json

import pytest

from headgate.simulator.spec import SimModel
from support.sim import ask, port_of, simulator

KEYED = {"authorization": "Bearer k"}
PROMPT = "Explain how tides work"
SAY = [{"role": "user", "content": PROMPT}]
FORMATS = {
    "openai_chat": ("gpt-5.5", "/openai/v1/chat/completions", {"model": "gpt-5.5", "messages": SAY}),
    "openai_responses": ("gpt-5.5", "/openai/v1/responses", {"model": "gpt-5.5", "input": PROMPT}),
    "anthropic_messages": (
        "claude-4.7",
        "/anthropic/v1/messages",
        {"model": "claude-4.7", "max_tokens": 2000, "messages": SAY},
    ),
    "gemini": (
        "gemini-3.0",
        "/google/v1beta/models/gemini-3.0:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]},
    ),
}
ENDS = {
    "openai_chat": b"data: [DONE]",
    "openai_responses": b"response.completed",
    "anthropic_messages": b"message_stop",
    "gemini": b'"finishReason"',
}
each_format = pytest.mark.parametrize("dialect", FORMATS)


class Still:
    """A clock that stands: what the simulator says no longer depends on when."""

    def monotonic(self):
        return 0.0

    def time(self):
        return 1_800_000_000.0

    async def sleep(self, seconds):
        await asyncio.sleep(0)


async def stream(sim, dialect, *, extra=None, **options):
    _, path, body = FORMATS[dialect]
    asked = {**body, **({} if dialect == "gemini" else {"stream": True}), **(extra or {})}
    return await ask(port_of(sim.url), asked, path, headers=KEYED, **options)


@each_format
async def test_a_stream_is_complete(dialect):
    async with simulator() as sim:
        heard = await stream(sim, dialect)
        assert heard.status == 200
        assert heard.raw.endswith(b"0\r\n\r\n")
        assert ENDS[dialect] in heard.body
        assert b"x-simulated: true" in heard.head
        served = sim.log[-1]
        assert served.text.startswith("[simulated] About")
        assert served.call.complete
        assert served.usage.input > 0
        assert served.usage.output > 20
        assert len(heard.packets) > 10


@each_format
async def test_ways_in_which_a_stream_breaks(dialect):
    name = FORMATS[dialect][0]
    async with simulator() as sim:
        whole = await stream(sim, dialect)
        for mode, end, marker in [
            ("cut_stream", "eof", None),
            ("reset_stream", "reset", None),
            ("error_in_stream", "eof", b"error"),
            ("malformed_stream", "eof", b'{"broken\n'),
            ("truncate_finish", "eof", None),
        ]:
            await sim.break_model(name, mode, after=4)
            heard = await stream(sim, dialect)
            assert heard.status == 200, mode
            assert heard.end == end, mode
            assert ENDS[dialect] not in heard.body, mode
            assert b"[simulated]" in heard.body, mode
            assert marker is None or marker in heard.body, mode
            framed = heard.raw.endswith(b"0\r\n\r\n")
            assert framed == (mode in ("error_in_stream", "malformed_stream", "truncate_finish")), mode
            if mode != "truncate_finish":
                assert len(heard.body) < len(whole.body), mode


@each_format
async def test_stalling_and_slow_first_tokens(dialect):
    name = FORMATS[dialect][0]
    async with simulator() as sim:
        await sim.break_model(name, "stall", after=2)
        heard = await stream(sim, dialect, timeout=0.15)
        assert heard.end == "timeout"
        assert b"About" in heard.body + b"About" * (dialect == "openai_responses")
        served = sim.log[-1]
        await served.call.ended.wait()
        assert served.call.left is not None
        await sim.break_model(name, "slow_first_token", delay=0.2)
        heard = await stream(sim, dialect, timeout=0.15)
        assert heard.end == "timeout"
        assert b"About" not in heard.raw
        await sim.mend(name)
        assert (await stream(sim, dialect)).end == "eof"


async def test_gemini_without_alt_sse_is_one_json_array():
    name, path, body = FORMATS["gemini"]
    path = path.removesuffix("?alt=sse")
    async with simulator() as sim:
        heard = await ask(port_of(sim.url), body, path, headers=KEYED)
        assert "STOP" in [c.get("finishReason") for chunk in heard.json() for c in chunk["candidates"]]
        await sim.break_model(name, "error_in_stream", after=2)
        *said, last = (await ask(port_of(sim.url), body, path, headers=KEYED)).json()
        assert (len(said), last["error"]["status"]) == (2, "UNAVAILABLE")


@each_format
async def test_whole_answers_and_their_breaks(dialect):
    name, path, body = FORMATS[dialect]
    path = path.replace("streamGenerateContent?alt=sse", "generateContent")
    async with simulator() as sim:

        async def whole():
            return await ask(port_of(sim.url), body, path, headers=KEYED)

        heard = await whole()
        assert b"About" in heard.body
        assert b"content-length" in heard.head
        await sim.break_model(name, "cut_stream")
        with pytest.raises(json.JSONDecodeError):
            (await whole()).json()
        for mode in ("malformed_stream", "truncate_finish"):
            await sim.break_model(name, mode)
            heard = await whole()
            assert f"content-length: {len(heard.body)}".encode() in heard.head
            with pytest.raises(json.JSONDecodeError):
                heard.json()
        await sim.break_model(name, "error_in_stream")
        assert "error" in (await whole()).json()
        await sim.break_model(name, "wrong")
        assert b"I am not sure" in (await whole()).body
        await sim.break_model(name, "no_usage")
        assert not {"usage", "usageMetadata"} & (await whole()).json().keys()
        heard = await stream(sim, dialect)
        assert ENDS[dialect] in heard.body
        assert b'"usage":{' not in heard.body
        assert b"usageMetadata" not in heard.body
        await sim.break_model(name, "length")
        assert (await whole()).status == 200
        assert sim.log[-1].usage.output == 5
        await sim.break_model(name, "refusal")
        assert (await whole()).status == 200
        await sim.mend()
        assert (await ask(port_of(sim.url), b'{"model": "gpt-5.5"', path, headers=KEYED)).status in (400, 404)


@each_format
async def test_the_same_seed_says_the_same_bytes(dialect):
    async def bytes_of(seed):
        async with simulator(seed=seed, clock=Still()) as sim:
            return [(await stream(sim, dialect)).raw for _ in range(3)]

    first, again, other = await bytes_of(1), await bytes_of(1), await bytes_of(2)
    assert first == again
    assert first != other
    assert len(set(first)) == 3  # asked again, it is another answer: ids differ


async def test_a_break_may_hit_streams_that_are_on_their_way():
    spec = SimModel(name="slow", provider="openai", upstream="slow", tokens_per_second=300)
    async with simulator(spec) as sim:
        body = {"model": "slow", "messages": SAY, "stream": True}
        asking = asyncio.ensure_future(ask(port_of(sim.url), body, "/openai/v1/chat/completions", headers=KEYED))
        await asyncio.sleep(0.15)
        await sim.break_model("slow", "cut_stream", running=True)
        heard = await asking
        assert heard.end == "eof"
        assert b"About" in heard.body
        assert b"[DONE]" not in heard.body


async def test_pace_is_kept():
    spec = SimModel(name="m", provider="openai", upstream="m", ttft=0.1, tokens_per_second=1000)
    async with simulator(spec) as sim:
        loop = asyncio.get_running_loop()
        before = loop.time()
        path = "/openai/v1/chat/completions"
        await ask(port_of(sim.url), {"model": "m", "messages": SAY, "stream": True}, path, headers=KEYED)
        took = loop.time() - before
        assert 0.1 + sim.log[-1].usage.output / 1000 * 0.8 < took < 2


async def test_refusals_by_ability_context_and_signature():
    spec = SimModel(name="m", provider="openai", upstream="m", context=300, supports=frozenset())
    async with simulator(spec) as sim:

        async def error(**fields):
            asked = {"model": "m", "messages": SAY, **fields}
            heard = await ask(port_of(sim.url), asked, "/openai/v1/chat/completions", headers=KEYED)
            assert heard.status == 400
            return heard.json()["error"]

        long = [{"role": "user", "content": "word " * 400}]
        assert (await error(messages=long))["code"] == "context_length_exceeded"
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        assert "tools" in (await error(tools=[tool]))["message"]
        picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        assert "vision" in (await error(messages=[{"role": "user", "content": [picture]}]))["message"]


async def test_capacity():
    spec = SimModel(name="m", provider="openai", upstream="m", ttft=0.1, capacity=2)
    async with simulator(spec) as sim:
        path = "/openai/v1/chat/completions"
        asked = [
            ask(port_of(sim.url), {"model": "m", "messages": SAY, "user": str(n)}, path, headers=KEYED)
            for n in range(5)
        ]
        statuses = [heard.status for heard in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200, 200, 503, 503, 503]
        assert sim.models["m"].active == 0


async def test_automatic_prompt_caches_are_read():
    long = "All about tides and the moon. " * 300
    async with simulator() as sim:
        body = {"model": "gpt-5.5", "messages": [{"role": "user", "content": long}]}
        used = [
            (await ask(port_of(sim.url), body, "/openai/v1/chat/completions", headers=KEYED)).json()["usage"]
            for _ in range(2)
        ]
        assert [u["prompt_tokens_details"]["cached_tokens"] for u in used] == [0, used[0]["prompt_tokens"] // 128 * 128]


async def test_scripts_reach_the_wire():
    async with simulator() as sim:
        sim.scripts.on("tides", {"text": "the moon", "output": 7}, {"mode": "503"}, "done")
        _, path, body = FORMATS["openai_chat"]
        heard = [await ask(port_of(sim.url), body, path, headers=KEYED) for _ in range(3)]
        assert [each.status for each in heard] == [200, 503, 200]
        first = heard[0].json()
        assert first["choices"][0]["message"]["content"] == "the moon"
        assert first["usage"]["completion_tokens"] == 7
        assert [served.mode for served in sim.log] == [None, "503", None]


async def test_times_and_share_are_counted_and_seeded():
    async def hits(seed):
        async with simulator(seed=seed) as sim:
            await sim.break_model("gpt-5.5", "500", share=0.5)
            for number in range(20):
                body = {**FORMATS["openai_chat"][2], "user": str(number)}
                await ask(port_of(sim.url), body, "/openai/v1/chat/completions", headers=KEYED)
            return [served.mode for served in sim.log]

    assert await hits(1) == await hits(1) != await hits(2)
    assert 4 <= (await hits(1)).count("500") <= 16
    async with simulator() as sim:
        await sim.break_model("gpt-5.5", "500", times=2)
        statuses = [(await stream(sim, "openai_chat")).status for _ in range(3)]
        assert statuses == [500, 500, 200]
