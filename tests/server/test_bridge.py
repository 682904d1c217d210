"""Cursor's agent mode: a Responses body at the chat door, answered in chat's shape to the official SDK."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

PROMPT = "What is 12*12?"
WEATHER = {"type": "function", "name": "get_weather", "description": "Weather of a city",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}  # fmt: skip
MODELS = ["gpt-5.5", "claude-4.7", "gemini-3.0", "deepseek-v4"]


@pytest.fixture
def client(stage):
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key="any", max_retries=0) as found:
        yield found


def ask(client: openai.OpenAI, body: dict[str, Any], *, stream: bool = False) -> Any:
    """The SDK's chat call with another body than it would make."""
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    if stream:
        body = {**body, "stream": True}
        return client.post(
            "/chat/completions", body=body, cast_to=ChatCompletion, stream=True,
            stream_cls=openai.Stream[ChatCompletionChunk],
        )  # fmt: skip
    return client.post("/chat/completions", body=body, cast_to=ChatCompletion)


def served(stage) -> Any:
    return stage.loop.call(lambda: stage.sim.log[-1])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("given", [PROMPT, [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]])
def test_40_input_without_messages_is_answered_as_chat(client, model, given):
    answer = ask(client, {"model": model, "input": given})
    assert answer.object == "chat.completion"
    assert "12*12 = " in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("asked", [True, False])
def test_40_a_bridged_stream_is_of_chunks_with_usage_where_it_was_asked_for(client, model, asked):
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(ask(client, {"model": model, "input": PROMPT, **options}, stream=True))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said.startswith("[simulated]")
    assert "12*12 = " in said
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert bool(chunks[-1].usage) is asked


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", ["flat", "nested"])
def test_a_bridged_conversation_uses_a_tool(client, model, form):
    tool = {"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}
    tools = [WEATHER if form == "flat" else tool]
    items: list[Any] = [{"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "What is the weather in Paris? Use get_weather."}]  # fmt: skip
    answer = ask(client, {"model": model, "input": items, "tools": tools, "store": False})
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] == "Paris"
    items += [
        {"type": "function_call", "call_id": call.id, "name": "get_weather", "arguments": call.function.arguments},
        {"type": "function_call_output", "call_id": call.id, "output": '{"sky": "clear as the sluice"}'},
    ]
    after = ask(client, {"model": model, "input": items, "tools": tools, "store": False})
    assert "clear as the sluice" in after.choices[0].message.content


def test_the_provider_is_sent_the_responses_request_without_fields_of_chat(stage, client):
    body = {"model": "gpt-5.5", "input": PROMPT, "stream_options": {"include_usage": True}, "include": []}
    list(ask(client, body, stream=True))
    sent = served(stage)
    assert sent.dialect == "openai_responses"
    assert b"stream_options" not in sent.call.body


def test_details_and_headers_are_those_of_the_chat_door(client):
    answer = ask(client, {"model": "auto", "input": PROMPT, "headgate": {"details": True}})
    assert answer.headgate["strategy"] == "route"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x", "messages": [{"role": "user", "content": "x"}]}, "input"),
        ({"input": 7}, "input"),
        ({"input": []}, "input"),
        ({"input": "x", "stream": "true"}, "stream"),
        ({"input": "x", "stream_options": "all"}, "stream_options"),
        ({"input": "x", "base_url": "http://169.254.169.254"}, "base_url"),
        ({"input": "x", "previous_response_id": "resp_other"}, "previous_response_id"),
    ],
)
def test_40_bad_bridged_bodies_are_refused_in_chats_words_without_a_call(stage, client, body, param):
    before = stage.calls()
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        ask(client, {"model": "gpt-5.5", **body})
    assert caught.value.param == param
    assert stage.calls() == before
