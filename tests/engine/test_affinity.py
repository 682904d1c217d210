"""A conversation is the same from its first turn to its last, in every door's format, and not another one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.engine.affinity import affinity_of

LONG = "You are the assistant of a large company. " * 400


def key(body: Any, who: str = "k") -> str:
    return affinity_of(who, json.dumps(body).encode())


def chat(*said: str, system: str = LONG) -> dict[str, Any]:
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
    return {"model": "m", "messages": [{"role": "system", "content": system}, *turns], "stream": True}


def messages(*said: str, system: str = LONG) -> dict[str, Any]:
    """As Claude Code writes it: the mark for the cache stands on the last turn, wherever that is."""
    turns: list[dict[str, Any]] = [
        {"role": ("user", "assistant")[number % 2], "content": [{"type": "text", "text": text}]}
        for number, text in enumerate(said)
    ]
    turns[-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
    return {"model": "m", "system": [{"type": "text", "text": system}], "messages": turns, "max_tokens": 9}


def responses(*said: str, system: str = LONG) -> dict[str, Any]:
    turns = [{"role": "user", "content": [{"type": "input_text", "text": text}]} for text in said]
    return {"model": "m", "instructions": system, "input": turns}


def gemini(*said: str, system: str = LONG) -> dict[str, Any]:
    turns = [{"role": ("user", "model")[number % 2], "parts": [{"text": text}]} for number, text in enumerate(said)]
    return {"systemInstruction": {"parts": [{"text": system}]}, "contents": turns}


@pytest.mark.parametrize("door", [chat, messages, responses, gemini])
def test_later_turns_change_nothing_and_another_beginning_does(door):
    first = key(door("Hi"))
    assert key(door("Hi", "Hello!", "And now?")) == first
    assert key(door("Hi", "Hello!", "And now?" * 1000, "So.")) == first
    assert key(door("Ho")) != first
    assert key(door("Hi", system="Be brief.")) != first
    assert key(door("Hi"), who="another") != first


def test_a_responses_text_is_a_conversations_first_turn():
    assert key({"model": "m", "input": "Hi"}) == key({"model": "m", "input": [{"role": "user", "content": "Hi"}]})
    assert key({"model": "m", "input": "Hi"}) != key({"model": "m", "input": "Ho"})


@pytest.mark.parametrize("body", [b"--form\r\nx", b"", b'{"messages": 3}', b'{"messages":' + b"[" * 100_000, b"\xff"])
def test_what_is_no_conversation_is_known_by_its_beginning(body):
    assert affinity_of("k", body) == affinity_of("k", body)
    assert affinity_of("k", body) != affinity_of("l", body)


def chat_of_image(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"prompt": "A red house"}, {"prompt": "A blue house"}),
        ({"input": [1, 2, 3]}, {"input": [4, 5, 6]}),
        ({"query": "q", "documents": ["a"]}, {"query": "p", "documents": ["a"]}),
        (chat_of_image("http://a"), chat_of_image("http://b")),
    ],
)
def test_what_has_no_words_of_a_conversation_does_not_all_go_to_one_deployment(one, other):
    assert key({"model": "m", **one}) == key({"model": "m", **one})
    assert key({"model": "m", **one}) != key({"model": "m", **other})


def test_content_as_deep_as_it_goes_is_no_failure_of_ours():
    depth = 900
    nested = b'{"messages":[{"role":"user","content":' + b"[" * depth + b'"x"' + b"]" * depth + b"}]}"
    assert affinity_of("k", nested)
