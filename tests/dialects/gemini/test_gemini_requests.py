import json
from typing import Any

import pytest

from headgate.core.chat import ChatRequest as Request
from headgate.core.chat import Document, Message, Reasoning, Source, Text, Tool, ToolCall, ToolChoice, ToolResult
from headgate.core.chat import ReasoningOptions as Thinking
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.gemini import DIALECT

Q = Quirks()
USER = [{"role": "user", "parts": [{"text": "hello"}]}]
HEAD = b'{"contents":[{"role":"user","parts":[{"text":"a"}]}],'
DEEP = b'{"contents":[{"parts":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"


def body(**fields: Any) -> bytes:
    return json.dumps({"contents": USER, **fields}).encode()


def rendered(request: Request) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = DIALECT.render_request(request, model="m", quirks=Q)
    return json.loads(found.body), tuple(found.lossy)


BAD: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "null": (b"null", None),
    "a list": (b"[]", None),
    "truncated": (body()[:-3], None),
    "nested too deeply": (DEEP, None),
    "nan": (HEAD + b'"generationConfig":{"temperature":NaN}}', None),
    "too large a float": (HEAD + b'"generationConfig":{"temperature":1e999}}', None),
    "too long an integer": (HEAD + b'"generationConfig":{"seed":' + b"9" * 5000 + b"}}", None),
    "byte order mark": (b"\xef\xbb\xbf" + body(), None),
    "invalid utf-8": (b'{"contents":[{"parts":[{"text":"\xff"}]}]}', None),
    "lone surrogate": (rb'{"contents":[{"parts":[{"text":"\ud800"}]}]}', None),
    "no contents": (b"{}", "contents"),
    "contents empty": (body(contents=[]), "contents"),
    "role root": (body(contents=[{"role": "root", "parts": [{"text": "x"}]}]), "contents[0].role"),
    "parts a string": (body(contents=[{"role": "user", "parts": "x"}]), "contents[0].parts"),
    "too many contents": (body(contents=USER * 20_001), "contents"),
    "temperature a string": (body(generationConfig={"temperature": "hot"}), None),
    "stop a number": (body(generationConfig={"stopSequences": 7}), None),
    "forbidden": (body(api_key="sk-1"), "api_key"),
}


@pytest.mark.parametrize(("raw", "param"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_refused_by_peek_and_by_the_parser(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(raw, model="m", stream=False)
    assert param is None or caught.value.param == param
    with pytest.raises(InvalidRequest):
        DIALECT.parse_request(raw, model="m", stream=False)


def test_our_own_field_is_an_object() -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(body(headgate=1), model="m", stream=False)
    assert caught.value.param == "headgate"


def test_the_model_comes_from_the_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.peek(body())
    assert caught.value.param == "model"
    found = DIALECT.peek(body(), model="m", stream=True)
    assert (found.model, found.stream, found.needs, found.multi_turn) == ("m", True, frozenset(), False)


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({"tools": [{"functionDeclarations": [{"name": "f"}]}]}, "tools"),
        ({"tools": [{"function_declarations": [{"name": "f"}]}]}, "tools"),
        ({"generationConfig": {"responseMimeType": "application/json"}}, "json_object"),
        (
            {"generation_config": {"response_mime_type": "application/json", "responseSchema": {"type": "OBJECT"}}},
            "json_schema",
        ),
        ({"generationConfig": {"candidateCount": 2}}, "n"),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 100}}}, "reasoning"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}]}, "vision"),
        ({"contents": [{"parts": [{"file_data": {"mime_type": "video/mp4", "file_uri": "u"}}]}]}, "video"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}]}]}, "audio"),
    ],
)
def test_what_a_body_needs_in_either_spelling(fields: dict[str, Any], need: str) -> None:
    assert need in DIALECT.peek(body(**fields), model="m", stream=False).needs


def test_a_call_without_an_id_gets_one_that_its_result_finds() -> None:
    turns = [
        *USER,
        {
            "role": "model",
            "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}}, {"functionCall": {"name": "f"}}],
        },
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "one"}}}] * 2},
    ]
    request = DIALECT.parse_request(body(contents=turns), model="m")
    calls = [p for m in request.messages for p in m.content if isinstance(p, ToolCall)]
    results = [p for m in request.messages for p in m.content if isinstance(p, ToolResult)]
    assert [call.arguments for call in calls] == ['{"a":1}', "{}"]
    assert len({call.id for call in calls}) == 2
    assert [result.call_id for result in results] == [call.id for call in calls]


def test_a_signature_goes_back_on_the_part_that_it_came_on() -> None:
    parts = [
        {"text": "", "thoughtSignature": "s1"},
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s2"},
    ]
    turns = [*USER, {"role": "model", "parts": parts}, {"role": "user", "parts": [{"text": "go on"}]}]
    request = DIALECT.parse_request(body(contents=turns), model="m")
    wire, lossy = rendered(request)
    assert wire["contents"][1]["parts"] == parts
    assert not lossy


def test_anothers_thinking_stays_away_and_its_calls_are_marked() -> None:
    turns = [
        Message(role="user", content=[Text(text="go")]),
        Message(
            role="assistant",
            content=[Reasoning(text="hm", signature="theirs"), ToolCall(id="call_1", name="f", arguments='{"a":1}')],
        ),
        Message(role="tool", content=[ToolResult(call_id="call_1", content=[Text(text="42")])]),
    ]
    wire, lossy = rendered(Request(model="m", messages=turns))
    [call] = wire["contents"][1]["parts"]
    assert call["functionCall"] == {"name": "f", "args": {"a": 1}}
    assert wire["contents"][2]["parts"][0]["functionResponse"] == {"name": "f", "response": {"output": 42}}
    assert "reasoning" in lossy
    assert "theirs" not in json.dumps(wire)


@pytest.mark.parametrize(
    ("arguments", "args"),
    [("[]", {}), ("", {}), ('"x"', {"input": "x"}), ("not json", {"input": "not json"}), ('{"a":[1]}', {"a": [1]})],
)
def test_arguments_are_always_an_object(arguments: str, args: dict[str, Any]) -> None:
    turn = Message(role="assistant", content=[ToolCall(id="c", name="f", arguments=arguments)])
    wire, _ = rendered(Request(model="m", messages=[Message(role="user", content=[Text(text="x")]), turn]))
    assert wire["contents"][1]["parts"][0]["functionCall"].get("args", {}) == args


def test_a_choice_of_one_tool_allows_that_tool_only() -> None:
    tools = [Tool(name="f", schema={"type": "object", "properties": {"a": {"type": "string"}}}), Tool(name="g")]
    choice = ToolChoice(mode="named", names=["f"])
    messages = [Message(role="user", content=[Text(text="x")])]
    wire, _ = rendered(Request(model="m", messages=messages, tools=tools, tool_choice=choice))
    assert wire["toolConfig"]["functionCallingConfig"] == {"mode": "ANY", "allowedFunctionNames": ["f"]}


@pytest.mark.parametrize(
    ("asked", "config", "lossy"),
    [
        (Thinking(enabled=False), {"thinkingBudget": 0}, ()),
        (Thinking(budget=2000), {"thinkingBudget": 2000, "includeThoughts": True}, ()),
        (Thinking(budget=10**6), {"thinkingBudget": 24_576, "includeThoughts": True}, ("reasoning_budget",)),
        (Thinking(enabled=True), {"thinkingBudget": -1, "includeThoughts": True}, ()),
        (Thinking(effort="a word of another's"), None, ("reasoning_effort",)),
    ],
)
def test_thinking_is_asked_for_by_a_budget(asked: Thinking, config: Any, lossy: tuple[str, ...]) -> None:
    messages = [Message(role="user", content=[Text(text="x")])]
    wire, lost = rendered(Request(model="m", messages=messages, reasoning=asked))
    assert wire.get("generationConfig", {}).get("thinkingConfig") == config
    assert lost == lossy


def test_a_conversation_that_says_nothing_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(UnsupportedFeature, match="every message is empty"):
        rendered(Request(model="m", messages=[Message(role="user", content=[])]))


def test_a_last_turn_that_says_nothing_does_not_have_the_answer_before_it_continued() -> None:
    before = [Message(role="user", content=[Text(text="hi")]), Message(role="assistant", content=[Text(text="Hello")])]
    with pytest.raises(UnsupportedFeature, match="nothing of the last message"):
        rendered(Request(model="m", messages=[*before, Message(role="user", content=[Text(text="")])]))
    prefilled, _ = rendered(Request(model="m", messages=before))
    assert [turn["role"] for turn in prefilled["contents"]] == ["user", "model"]


def test_a_file_of_another_provider_is_refused_before_anything_is_sent() -> None:
    messages = [Message(role="user", content=[Document(source=Source(file_id="file-1"))])]
    with pytest.raises(UnsupportedFeature):
        rendered(Request(model="m", messages=messages))
