import json
from typing import Any

import pytest

from headgate.core.chat import ChatRequest as Request
from headgate.core.chat import Message, Reasoning, Text, Tool, ToolCall, ToolChoice, ToolResult
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.openai_responses import DIALECT
from support.corpus import rows

Q = Quirks()
DEEP = b'{"model":"m","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
ASKED = [Message(role="user", content=[Text(text="x")])]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hello", **fields}).encode()


def rendered(request: Request, quirks: Quirks = Q) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = DIALECT.render_request(request, model="m", quirks=quirks)
    return json.loads(found.body), tuple(found.lossy)


BAD: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "null": (b"null", None),
    "a list": (b"[]", None),
    "truncated": (body()[:-3], None),
    "nested too deeply": (DEEP, None),
    "nan": (b'{"model":"m","input":"x","temperature":NaN}', None),
    "too large a float": (b'{"model":"m","input":"x","temperature":1e999}', None),
    "too long an integer": (b'{"model":"m","input":"x","max_output_tokens":' + b"9" * 5000 + b"}", None),
    "byte order mark": (b"\xef\xbb\xbf" + body(), None),
    "invalid utf-8": (b'{"model":"m","input":"\xff"}', None),
    "lone surrogate": (rb'{"model":"m","input":"\ud800"}', None),
    "numeric model": (body(model=7), "model"),
    "no input": (b'{"model":"m"}', "input"),
    "input a number": (body(input=7), "input"),
    "input empty": (body(input=[]), "input"),
    "messages": (body(messages=[{"role": "user", "content": "x"}]), "messages"),
    "max_output_tokens negative": (body(max_output_tokens=-1), "max_output_tokens"),
    "max_output_tokens huge": (body(max_output_tokens=10**12), "max_output_tokens"),
    "top_logprobs": (body(top_logprobs=99), "top_logprobs"),
    "stream a string": (body(stream="true"), "stream"),
    "temperature a string": (body(temperature="hot"), "temperature"),
    "tools no list": (body(tools={}), "tools"),
    "forbidden": (body(base_url="http://x"), "base_url"),
    "headgate no object": (body(headgate=1), "headgate"),
}


@pytest.mark.parametrize(("raw", "param"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_refused_before_they_are_decoded(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(raw)
    assert param is None or caught.value.param == param


@pytest.mark.parametrize(
    "item",
    [7, {"role": "root", "content": "x"}, {"role": "user", "content": {"a": 1}}, {"role": "user", "content": [7]}],
)
def test_bad_items_are_refused_by_the_parser(item: Any) -> None:
    with pytest.raises(InvalidRequest):
        DIALECT.parse_request(body(input=[item]))


def test_what_a_body_needs() -> None:
    found = DIALECT.peek(body(stream=True, max_output_tokens=9, previous_response_id="resp_1"))
    assert (found.stream, found.max_tokens, found.state, found.needs) == (True, 9, "resp_1", frozenset())
    schema = {"format": {"type": "json_schema", "name": "a", "schema": {}}}
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
    found = DIALECT.peek(body(text=schema, input=image, tools=[{"type": "function", "name": "f"}]))
    assert found.needs == {"json_schema", "vision", "tools"}


def test_encrypted_thinking_goes_back_unchanged() -> None:
    row = next(row for row in rows() if row["id"] == "pai-80213e946b")
    raw = row["request"]["body"]
    kept = [item for item in raw["input"] if item.get("type") == "reasoning"]
    assert kept
    wire, lossy = rendered(DIALECT.parse_request(json.dumps(raw).encode()))
    assert [item for item in wire["input"] if item.get("type") == "reasoning"] == kept
    assert not lossy


def test_call_and_item_ids_are_two() -> None:
    items = [
        {"role": "user", "content": "go"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]
    request = DIALECT.parse_request(body(input=items))
    [call] = [p for m in request.messages for p in m.content if isinstance(p, ToolCall)]
    [result] = [p for m in request.messages for p in m.content if isinstance(p, ToolResult)]
    assert (call.id, call.arguments, result.call_id) == ("call_1", '{"a": 1}', "call_1")
    assert rendered(request)[0]["input"] == items


def test_a_conversation_of_another_format() -> None:
    turns = [
        Message(role="system", content=[Text(text="be brief")]),
        Message(role="user", content=[Text(text="one"), Text(text="two")]),
        Message(
            role="assistant",
            content=[Reasoning(text="hm", signature="theirs"), Text(text="so"), ToolCall(id="call_1", name="f")],
        ),
        Message(role="tool", content=[ToolResult(call_id="call_1", content=[Text(text="42")])]),
    ]
    wire, lossy = rendered(Request(model="m", messages=turns, seed=7))
    assert wire["input"][0] == {"role": "system", "content": "be brief"}
    assert [part["text"] for part in wire["input"][1]["content"]] == ["one", "two"]
    assert [item.get("type") for item in wire["input"][2:]] == ["message", "function_call", "function_call_output"]
    assert wire["store"] is False
    assert set(lossy) == {"reasoning", "seed"}


def test_a_function_is_not_strict_unless_it_was_said() -> None:
    """Left out it would mean strict here, and not strict in chat."""
    wire, _ = rendered(Request(model="m", messages=ASKED, tools=[Tool(name="f")]))
    assert wire["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    ]


def test_a_choice_of_several_tools() -> None:
    choice = ToolChoice(mode="named", names=["f", "g"])
    wire, _ = rendered(Request(model="m", messages=ASKED, tools=[Tool(name="f"), Tool(name="g")], tool_choice=choice))
    named = [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}]
    assert wire["tool_choice"] == {"type": "allowed_tools", "mode": "required", "tools": named}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        rendered(Request(model="m", messages=ASKED, **fields))
    assert caught.value.param == param


def test_our_own_field_never_goes_upstream() -> None:
    raw = body(headgate={"details": True})
    assert DIALECT.splice(raw, DIALECT.peek(raw), model="m", quirks=Q) is None
    wire, _ = rendered(DIALECT.parse_request(raw))
    assert "headgate" not in wire
