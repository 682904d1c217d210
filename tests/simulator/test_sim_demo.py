"""The demo's five providers: where they are, how fast, and as a process of their own."""

import asyncio
import json
import sys

from headgate.simulator.demo import MODELS, DemoSimulator
from support.sim import ask, port_of

PROVIDERS = ["anthropic", "openai", "google", "meta", "deepseek"]
CHAT = {"model": "llama-4-maverick", "messages": [{"role": "user", "content": "What is 17 * 23?"}]}
KEYED = {"authorization": "Bearer k"}


async def test_each_provider_has_an_address_of_its_own():
    sim = DemoSimulator(speed=0)
    urls = await sim.start()
    try:
        assert list(urls) == PROVIDERS
        assert len({port_of(url) for url in urls.values()} | {port_of(sim.url)}) == 6
        assert urls["anthropic"].endswith("/anthropic/v1")
        assert urls["google"].endswith("/google/v1beta")
        heard = await ask(port_of(urls["meta"]), CHAT, "/meta/compat/v1/chat/completions", headers=KEYED)
        assert "x-simulated: true" in heard.head.decode()
        assert heard.json()["id"].startswith("chatcmpl-sim")
        assert heard.json()["usage"]["prompt_tokens"] > 0
    finally:
        await sim.aclose()


def test_speeds_are_sensible():
    assert all(0.05 <= spec.ttft <= 0.3 and 100 <= spec.tokens_per_second <= 200 for spec in MODELS)
    assert [spec.name for spec in MODELS] == ["claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4"]
    twice = DemoSimulator(speed=2).models["gpt-5.5"].spec
    assert (twice.ttft, twice.tokens_per_second) == (0.09, 280)
    instant = DemoSimulator(speed=0).models["gpt-5.5"].spec
    assert (instant.ttft, instant.tokens_per_second) == (0, 0)


async def test_as_a_process_of_its_own():
    command = [sys.executable, "-m", "headgate.simulator", "--speed", "0", "--one-port"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        port = port_of(told["control"])
        assert {port_of(url) for url in told["base_urls"].values()} == {port}
        await ask(port, {"break": "503"}, "/_sim/models/llama-4")
        assert (await ask(port, CHAT, "/meta/compat/v1/chat/completions", headers=KEYED)).status == 503
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
