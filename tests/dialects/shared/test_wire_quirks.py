"""Quirks seen in recorded traffic, one by one (ids of tests/data/traffic). That every recording survives every door is
tests/conformance; here is what the odd ones must be read as."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from conformance.extract import format_of
from headgate.core.chat import Reasoning, Refusal, Text, ToolCall, text_of
from headgate.core.dialect import Quirks
from headgate.core.events import ChatAnswer, Collector, Event, Failed
from headgate.providers.registry import dialect_of
from support.corpus import rows

Q = Quirks()


def row_of(row_id: str) -> dict[str, Any]:
    return next(row for row in rows() if row["id"] == row_id)


def events(row_id: str) -> list[Event]:
    row = row_of(row_id)
    dialect = dialect_of(str(format_of(row["api"])))
    splitter, parser = dialect.splitter(), dialect.event_parser(Q)
    frames = splitter.feed(row["response"]["body"].encode())
    return [event for frame in frames for event in parser.feed(frame)] + parser.close()


def answer(row_id: str) -> ChatAnswer:
    row = row_of(row_id)
    if row["response"]["kind"] == "json":
        return dialect_of(str(format_of(row["api"]))).parse_answer(row["response"]["body"].encode(), Q)
    collector = Collector()
    for event in events(row_id):
        collector.feed(event)
    assert collector.finished
    return collector.answer()


def parts(row_id: str, kind: type) -> list[Any]:
    return [part for part in answer(row_id).choices[0].parts if isinstance(part, kind)]


def finish(row_id: str) -> str:
    return answer(row_id).choices[0].finish


def text(row_id: str) -> str:
    return text_of(answer(row_id).choices[0].parts)


def fails(row_id: str) -> bool:
    return any(isinstance(event, Failed) for event in events(row_id))


def usage_sums(row_id: str) -> bool:
    """Output holds the thinking: input and output are the total that the provider gives."""
    found = answer(row_id).usage
    last = [u for chunk in raw_chunks(row_id) if (u := chunk.get("usage"))][-1]
    return found is not None and found.input + found.output == last["total_tokens"] and found.reasoning <= found.output


def raw_chunks(row_id: str) -> list[dict[str, Any]]:
    body, kind = row_of(row_id)["response"]["body"], row_of(row_id)["response"]["kind"]
    if kind == "json":
        return [json.loads(body)]
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:") and "{" in line]


READ_AS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "Azure: a first chunk without choices": ("tll-0c4f4f79b9", lambda i: bool(text(i))),
    "Azure: a filtered choice without a message": ("tll-4ab286c025", lambda i: finish(i) == "content_filter"),
    "OpenAI: parallel calls share a stream by index": ("pai-617da59962", lambda i: len(parts(i, ToolCall)) > 1),
    "OpenAI: a refusal finishes with stop": (
        "tll-17b3350e77",
        lambda i: finish(i) == "refusal" and bool(parts(i, Refusal)),
    ),
    "OpenAI: the legacy function_call": ("tll-bbe54df73f", lambda i: finish(i) == "tool_calls"),
    "OpenAI: several choices in one stream": ("tll-fc7edc3aea", lambda i: len(answer(i).choices) > 1),
    "OpenAI: padding against packet sizes": ("pai-38ea36344e", lambda i: bool(finish(i))),
    "Mistral: whole calls without an index": ("mag-20837ffcf2", lambda i: len(parts(i, ToolCall)) == 2),
    "Mistral: thinking as parts of the content": (
        "pai-ca3c003887",
        lambda i: bool(parts(i, Reasoning)) and bool(parts(i, Text)),
    ),
    "Groq: usage three times": ("fan-500ae45de6", usage_sums),
    "Groq: thinking in `reasoning`": ("pai-ad12e1b775", lambda i: bool(parts(i, Reasoning))),
    "Groq: an error within a 200 stream": ("pai-eba423bece", fails),
    "DeepSeek: null where there is nothing": ("pai-fe3521146d", lambda i: bool(parts(i, Reasoning)) and bool(text(i))),
    "xAI: output without thinking": ("fan-3cdd3ef188", usage_sums),
    "xAI: output with thinking": ("mag-2cd69d08e4", usage_sums),
    "OpenRouter: blank lines before a body": ("fan-7aeefa7406", lambda i: bool(answer(i).choices)),
    "OpenRouter: an error beside choices": ("pai-0f3a95b30e", fails),
    "OpenRouter: comments": ("pai-d478501912", lambda i: bool(text(i))),
    "Anthropic: a tool without arguments": (
        "slm-f067d290e8",
        lambda i: all(json.loads(call.arguments) is not None for call in parts(i, ToolCall)),
    ),
    "Anthropic: empty thinking with a signature": (
        "pai-f875ac53da",
        lambda i: any(not part.text and part.signature for part in parts(i, Reasoning)),
    ),
    "Anthropic: redacted thinking": (
        "pai-d61c184708",
        lambda i: any(part.encrypted for part in parts(i, Reasoning)),
    ),
    "Anthropic: output tokens are cumulative": (
        "pai-75a0f7e190",
        lambda i: answer(i).usage.output == raw_chunks(i)[-2]["usage"]["output_tokens"],  # type: ignore[union-attr]
    ),
    "Anthropic: a paused turn": ("pai-c069cbafce", lambda i: finish(i) == "pause"),
    "Anthropic: a paused turn, streamed": ("pai-96a3539a43", lambda i: finish(i) == "pause"),
    "Responses: names and numbers, no end mark": ("pai-04c6dfb524", lambda i: bool(finish(i))),
}


@pytest.mark.parametrize("quirk", READ_AS)
def test_a_quirk_is_read_for_what_it_means(quirk: str) -> None:
    row_id, holds = READ_AS[quirk]
    assert holds(row_id)


KINDS = {
    "crw-8cd981f1f6": "rate_limit",
    "pai-1d05c76877": "bad_request",
    "pai-2683219abb": "not_found",
    "pai-d008f87e71": "invalid_answer",
}


@pytest.mark.parametrize("row_id", KINDS)
def test_an_error_is_classified_by_more_than_its_status(row_id: str) -> None:
    row = row_of(row_id)
    headers = {name.lower(): value for name, value in row["response"]["headers"].items()}
    body = row["response"]["body"].encode()
    found = dialect_of(str(format_of(row["api"]))).parse_error(row["response"]["status"], headers, body)
    assert found.kind == KINDS[row_id]
