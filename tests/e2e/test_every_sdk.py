"""The three official Python SDKs over all nine names of the demo's configuration, streaming and not."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest
from google import genai

from headgate.simulator.app import Simulator
from support.gateway import ENV, EXAMPLE, Loop, RunningGateway
from support.sim import INSTANT

NAMES = ("claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4", "reliable", "auto", "careful", "agent")
ASK = "Name three uses of a headgate in irrigation."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    loop, sim = Loop(), Simulator(INSTANT)
    urls = loop.run(sim.start(0))
    gateway = loop.call(lambda: RunningGateway(EXAMPLE.read_text(encoding="utf-8"), urls, env=ENV))
    loop.run(gateway.start())
    yield gateway.url
    loop.run(gateway.house.snapshot.aclose())
    loop.run(gateway.stop())
    loop.run(sim.aclose())
    loop.close()


def thought_of(name: str, thought: str) -> None:
    """An agent's progress comes as thinking; the plan and each step's end are in it."""
    if name == "agent":
        assert "Plan: gather" in thought
        assert "gather passed" in thought
        assert "write passed" in thought


@pytest.mark.parametrize("name", NAMES)
def test_openai_chat(url: str, name: str):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    messages = [{"role": "user", "content": ASK}]
    whole = client.chat.completions.create(model=name, messages=messages)  # type: ignore[arg-type]
    assert "[simulated]" in (whole.choices[0].message.content or "")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.total_tokens > 0
    text, thought, finish = "", "", None
    for chunk in client.chat.completions.create(model=name, messages=messages, stream=True):  # type: ignore[arg-type]
        for choice in chunk.choices:
            text += choice.delta.content or ""
            thought += getattr(choice.delta, "reasoning_content", None) or ""
            finish = choice.finish_reason or finish
    assert "[simulated]" in text
    assert finish == "stop"
    thought_of(name, thought)


@pytest.mark.parametrize("name", NAMES)
def test_openai_responses(url: str, name: str):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    whole = client.responses.create(model=name, input=ASK)
    assert "[simulated]" in whole.output_text
    with client.responses.stream(model=name, input=ASK) as events:
        final = [event for event in events][-1].response  # type: ignore[union-attr]
    assert final.status == "completed"
    assert "[simulated]" in final.output_text
    if name == "agent":
        thinking = final.output[0]
        assert (thinking.type, final.output[-1].type) == ("reasoning", "message")
        thought_of(name, thinking.summary[0].text)


@pytest.mark.parametrize("name", NAMES)
def test_anthropic(url: str, name: str):
    client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
    asked = {"model": name, "max_tokens": 1000, "messages": [{"role": "user", "content": ASK}]}
    whole = client.messages.create(**asked)
    assert any(block.type == "text" and "[simulated]" in block.text for block in whole.content)
    with client.messages.stream(**asked) as events:
        final = events.get_final_message()
    assert final.stop_reason == "end_turn"
    assert "[simulated]" in "".join(block.text for block in final.content if block.type == "text")
    thought_of(name, "".join(block.thinking for block in final.content if block.type == "thinking"))


@pytest.mark.parametrize("name", NAMES)
def test_google(url: str, name: str):
    client = genai.Client(api_key="any", http_options={"base_url": url})
    assert "[simulated]" in (client.models.generate_content(model=name, contents=ASK).text or "")
    text, thought = "", ""
    for chunk in client.models.generate_content_stream(model=name, contents=ASK):
        for part in chunk.candidates[0].content.parts or []:  # type: ignore[index, union-attr]
            if part.thought:
                thought += part.text or ""
            else:
                text += part.text or ""
    assert "[simulated]" in text
    thought_of(name, thought)
