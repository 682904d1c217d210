"""The official SDKs, pointed straight at the simulator: chat, embeddings, images, speech and every provider's errors."""

import base64
import io
import json
import wave

import anthropic
import openai
import pytest
from google import genai
from google.genai import types as gtypes
from pydantic import BaseModel

from headgate.core.usage import Usage
from support.sim import simulator

PROMPT = "Explain how tides work"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASK_WEATHER = "Compare the weather in Paris and London"


class Person(BaseModel):
    name: str
    age: int


def openai_at(sim, provider="openai", **options):
    return openai.AsyncOpenAI(base_url=sim.base_url(provider), api_key="k", max_retries=0, **options)


def anthropic_at(sim):
    return anthropic.AsyncAnthropic(base_url=sim.base_url("anthropic").removesuffix("/v1"), api_key="k", max_retries=0)


def google_at(sim):
    base = sim.base_url("google").removesuffix("/v1beta")
    return genai.Client(api_key="k", http_options=gtypes.HttpOptions(base_url=base))


# -- chat --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "gpt-5.5"), ("meta", "llama-4-maverick"), ("deepseek", "deepseek-chat")]
)
async def test_chat_plain_and_streamed_are_alike(provider, model):
    async with simulator() as sim, openai_at(sim, provider) as client:
        messages = [{"role": "user", "content": PROMPT}]
        plain = await client.chat.completions.create(model=model, messages=messages)
        text, usage, finish = "", None, None
        stream = await client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        assert plain.choices[0].message.content == text
        assert text.startswith("[simulated]")
        assert plain.choices[0].finish_reason == finish == "stop"
        assert plain.usage.prompt_tokens == usage.prompt_tokens
        assert plain.usage.completion_tokens == usage.completion_tokens > 20
        assert plain.id.startswith("chatcmpl-sim")
        assert plain.model == model


async def test_chat_tools_in_parallel_and_their_results():
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
    async with simulator() as sim, openai_at(sim) as client:
        messages = [{"role": "user", "content": ASK_WEATHER}]
        async with client.chat.completions.stream(model="gpt-5.5", messages=messages, tools=tools) as stream:
            answer = (await stream.get_final_completion()).choices[0]
        assert answer.finish_reason == "tool_calls"
        calls = answer.message.tool_calls
        assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "London"}]
        messages.append(answer.message.model_dump(exclude_none=True))
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": f"{n} degrees"} for n, call in enumerate(calls)
        ]
        told = await client.chat.completions.create(model="gpt-5.5", messages=messages, tools=tools)
        assert "0 degrees" in told.choices[0].message.content
        assert "1 degrees" in told.choices[0].message.content


async def test_chat_json_schema_and_choices():
    async with simulator() as sim, openai_at(sim) as client:
        messages = [{"role": "user", "content": "Describe someone"}]
        parsed = await client.chat.completions.parse(model="gpt-5.5", messages=messages, response_format=Person)
        assert isinstance(parsed.choices[0].message.parsed, Person)
        several = await client.chat.completions.create(model="gpt-5.5", messages=messages, n=3)
        assert len(several.choices) == 3


async def test_chat_reasoning_shows_in_usage_only_or_as_text():
    async with simulator() as sim:
        messages = [{"role": "user", "content": PROMPT}]
        async with openai_at(sim) as client:
            hidden = await client.chat.completions.create(model="gpt-5.5", messages=messages, reasoning_effort="low")
            assert hidden.usage.completion_tokens_details.reasoning_tokens > 0
            assert not getattr(hidden.choices[0].message, "reasoning_content", None)
        async with openai_at(sim, "deepseek") as client:
            shown = await client.chat.completions.create(
                model="deepseek-chat", messages=messages, reasoning_effort="low"
            )
            assert "tides" in shown.choices[0].message.reasoning_content


async def test_errors_become_the_sdks_own():
    async with simulator() as sim:
        async with openai_at(sim) as client:
            for mode, kind in [
                ("429", openai.RateLimitError),
                ("500", openai.InternalServerError),
                ("auth", openai.AuthenticationError),
                ("context_length", openai.BadRequestError),
                ("not_found", openai.NotFoundError),
                ("refuse", openai.APIConnectionError),
            ]:
                await sim.break_model("gpt-5.5", mode)
                with pytest.raises(kind):
                    await client.chat.completions.create(model="gpt-5.5", messages=[{"role": "user", "content": "x"}])
            await sim.break_model("gpt-5.5", "error_in_stream")
            with pytest.raises(openai.APIError):
                stream = await client.chat.completions.create(
                    model="gpt-5.5", messages=[{"role": "user", "content": PROMPT}], stream=True
                )
                async for _ in stream:
                    pass
        async with anthropic_at(sim) as client:
            for mode, kind in [
                ("529", anthropic.APIStatusError),
                ("429", anthropic.RateLimitError),
                ("auth", anthropic.AuthenticationError),
            ]:
                await sim.break_model("claude-4.7", mode)
                with pytest.raises(kind):
                    await client.messages.create(
                        model="claude-opus-4-7", max_tokens=100, messages=[{"role": "user", "content": "x"}]
                    )
        await sim.break_model("gemini-3.0", "503")
        with pytest.raises(genai.errors.ServerError):
            await google_at(sim).aio.models.generate_content(model="gemini-3-pro", contents="x")


async def test_embeddings():
    async with simulator() as sim, openai_at(sim) as client:
        got = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
        assert len(got.data) == 2
        assert len(got.data[0].embedding) == 1536


async def test_images_and_speech():
    async with simulator() as sim, openai_at(sim) as client:
        made = await client.images.generate(model="gpt-5.5", prompt="a weir", n=2)
        pictures = [base64.b64decode(one.b64_json or "") for one in made.data or []]
        assert [picture[:8] for picture in pictures] == [b"\x89PNG\r\n\x1a\n"] * 2
        assert made.usage is not None
        served = sim.served("gpt-5.5")[-1]
        assert served.usage == Usage(input=made.usage.input_tokens, output=made.usage.output_tokens)
        spoken = await client.audio.speech.create(model="gpt-5.5", voice="alloy", input="Mind the gate.")
        with wave.open(io.BytesIO(spoken.content)) as sound:
            assert sound.getnframes() / sound.getframerate() == pytest.approx(14 / 20)
        await sim.break_model("gpt-5.5", "no_usage")
        assert (await client.images.generate(model="gpt-5.5", prompt="a weir")).usage is None
        await sim.break_model("gpt-5.5", "429")
        with pytest.raises(openai.RateLimitError):
            await client.images.generate(model="gpt-5.5", prompt="a weir")
        await sim.break_model("gpt-5.5", "cut_stream")
        with pytest.raises(openai.APIConnectionError):
            await client.audio.speech.create(model="gpt-5.5", voice="alloy", input="Mind the gate.")
        await sim.mend()
        with pytest.raises(openai.BadRequestError):
            await client.audio.speech.create(model="gpt-5.5", voice="alloy", input="")
