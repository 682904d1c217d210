"""A stream, assembled by its reader, is the answer that is not streamed: recorded answers, both ways in every format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conformance.extract import FORMATS, format_of
from headgate.core.chat import Choice, Reasoning, Refusal, Text, ToolCall, text_of
from headgate.core.dialect import Dialect, Quirks, View
from headgate.core.errors import UpstreamFault
from headgate.core.events import ChatAnswer, collect, events_of
from headgate.core.usage import Usage
from headgate.providers.registry import dialect_of
from support.corpus import rows

PLAIN = Quirks(stream_usage="never")
STEP = 7


def said(choice: Choice) -> dict[str, Any]:
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    return {
        "text": text_of([part for part in choice.parts if isinstance(part, Text | Refusal)]),
        "thinking": "".join("".join(part.text.split()) for part in choice.parts if isinstance(part, Reasoning)),
        "calls": [(call.id, call.name, json.loads(call.arguments or "{}")) for call in calls if not call.custom],
        "finish": choice.finish,
    }


def whole(dialect: Dialect, answer: ChatAnswer) -> ChatAnswer:
    return dialect.parse_answer(dialect.render_answer(answer, View(model="m", id="tr_1")).body, PLAIN)


def streamed(dialect: Dialect, answer: ChatAnswer) -> ChatAnswer:
    renderer = dialect.event_renderer(View(model="m", id="tr_1", stream=True, include_usage=True))
    data = b"".join(renderer.feed([event]) for event in events_of(answer, 11)) + renderer.finish()
    splitter, parser = dialect.splitter(), dialect.event_parser(PLAIN)
    return collect([event for frame in splitter.feed(data) for event in parser.feed(frame)] + parser.close())


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_both_ways_say_the_same(fmt: str, target: str) -> None:
    dialect, seen, wrong = dialect_of(target), 0, list[str]()
    recorded = [row for row in rows() if format_of(row["api"]) == fmt and row["response"]["kind"] == "json"]
    for row in recorded[::STEP]:
        try:
            answer = dialect_of(fmt).parse_answer(row["response"]["body"].encode(), PLAIN)
        except UpstreamFault:
            continue
        if len(answer.choices) != 1:
            continue
        seen += 1
        one, other = whole(dialect, answer), streamed(dialect, answer)
        before, after = said(one.choices[0]), said(other.choices[0])
        wrong += [f"{row['id']}: {k} {before[k]!r:.120} {after[k]!r:.120}" for k in before if before[k] != after[k]]
        if (one.usage or Usage()) != (other.usage or Usage()):
            wrong.append(f"{row['id']}: usage {one.usage} {other.usage}")
    assert seen > 40
    assert not wrong, f"{len(wrong)} of {seen}:\n" + "\n".join(wrong[:12])
