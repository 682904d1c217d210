import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.types.beta.message_create_params import MessageCreateParams
from pydantic import TypeAdapter

from headgate.core.chat import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    OutputFormat,
    Reasoning,
    ReasoningOptions,
    Refusal,
    Source,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Video,
)
from headgate.core.dialect import Quirks
from headgate.core.errors import InvalidRequest, UnsupportedFeature
from headgate.dialects.anthropic_messages import DIALECT
from headgate.dialects.openai_chat import DIALECT as CHAT
from headgate.providers.registry import Registry
from support.corpus import select

PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)
USER = {"role": "user", "content": "hello"}
PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
PROFILE = Registry().get("anthropic")


def again(body: dict[str, Any]) -> dict[str, Any]:
    """Parsed and rendered for its own dialect."""
    request = DIALECT.parse_request(json.dumps(body).encode())
    out = DIALECT.render_request(request, model=body["model"], quirks=Quirks())
    assert not out.lossy
    return json.loads(out.body)


def render(request: ChatRequest, model: str = "target", **quirks: Any) -> tuple[dict[str, Any], set[str]]:
    """For this dialect, and as the official SDK's types want it."""
    out = DIALECT.render_request(request, model=model, quirks=Quirks(**quirks))
    body = json.loads(out.body)
    exhaust(PARAMS.validate_python(body))
    return body, set(out.lossy)


def exhaust(value: Any) -> None:
    """pydantic validates the items of an Iterable only when they are taken."""
    if isinstance(value, dict):
        for item in value.values():
            exhaust(item)
    elif not isinstance(value, str) and isinstance(value, Iterable):
        for item in value:
            exhaust(item)


def from_chat(*messages: Any, **fields: Any) -> ChatRequest:
    return CHAT.parse_request(json.dumps({"model": "m", "messages": messages or [USER], **fields}).encode())


def chat(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages) or [user(Text(text="hello"))], **fields)


def user(*parts: Any) -> Message:
    return Message(role="user", content=list(parts))


def assistant(*parts: Any) -> Message:
    return Message(role="assistant", content=list(parts))


def tool(*parts: Any) -> Message:
    return Message(role="tool", content=list(parts))


# -- the same format on both sides -----------------------------------------------------------------------------------


def test_every_recorded_request_is_equal_after_parse_and_render() -> None:
    seen = 0
    for row in select("anthropic.messages", "vertexai.anthropic", "anthropic.count_tokens"):
        want = dict(row["request"]["body"])
        request = DIALECT.parse_request(json.dumps(want).encode(), model=want.get("model") or "m")
        out = DIALECT.render_request(request, model=want.get("model") or "m", quirks=Quirks(max_output=7))
        got = json.loads(out.body)
        assert not out.lossy, row["id"]
        assert got == {"model": "m", "max_tokens": 7, **want}, row["id"]
        seen += 1
    assert seen > 600


FORMS: dict[str, dict[str, Any]] = {
    "system string": {"system": "be brief"},
    "system empty": {"system": ""},
    "system list": {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control":
                    {"type": "ephemeral", "ttl": "1h"}}]},
    "system in between": {"messages": [USER, {"role": "system", "content": "now"}, {"role": "system", "content":
                          [{"type": "text", "text": "x"}]}, {"role": "assistant", "content": "a"}]},
    "one block or a string": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, USER]},
    "empty things": {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": []}],
                     "tools": [], "stop_sequences": [], "metadata": {}},
    "nulls": {"system": None, "tools": None, "temperature": None, "stop_sequences": None, "metadata": None,
              "thinking": None, "tool_choice": None, "stream": None},
    "parameters": {"temperature": 0.1, "top_p": 0.9, "top_k": 5, "stop_sequences": ["\n", "x"], "stream": True,
                   "metadata": {"user_id": "u", "more": 1}, "service_tier": "auto", "what_may_come": {"a": [1]}},
    "no user": {"metadata": {"user_id": None}},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "temperature": 1,
                 "messages": [USER, {"role": "assistant", "content": [
                     {"type": "thinking", "thinking": "", "signature": "s"},
                     {"type": "redacted_thinking", "data": "d"},
                     {"type": "text", "text": "t"}]}, USER]},
    "effort": {"output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 9}}},
    "output_config": {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}}},
    "output_format": {"output_format": {"type": "json_schema", "schema": SCHEMA}},
    "tools": {"tools": [
        {"name": "f", "input_schema": {"type": "object"}},
        {"name": "g", "description": "d", "input_schema": SCHEMA, "strict": False, "type": "custom",
         "cache_control": {"type": "ephemeral"}, "defer_loading": True, "eager_input_streaming": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 2, "cache_control": {"type": "ephemeral"}},
        {"type": "computer_20250124", "name": "computer", "display_height_px": 1, "display_width_px": 1},
        {"type": "mcp_toolset", "mcp_server_name": "x"}]},
    "any tool": {"tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "any"}},
    "one tool": {"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": False}},
    "no tool": {"tool_choice": {"type": "none"}},
    "one at a time": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "media": {"messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
         "title": "t", "context": "c", "citations": {"enabled": True}},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}, "title": None},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
        {"type": "container_upload", "file_id": "file_3"},
        {"type": "search_result", "source": "https://a", "title": "t", "content": [{"type": "text", "text": "x"}]},
    ]}]},
    "calls and results": {"messages": [USER, {"role": "assistant", "content": [
        {"type": "tool_use", "id": "odd id!", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "tool_use", "id": "2", "name": "f", "input": {"a": 1.0, "b": 12345678901234567890},
         "cache_control": {"type": "ephemeral"}}]}, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "odd id!"},
        {"type": "tool_result", "tool_use_id": "2", "content": "", "is_error": True},
        {"type": "tool_result", "tool_use_id": "2", "content": [], "is_error": False},
        {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "a"}, {"type": "image",
         "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, {"type": "tool_reference",
         "tool_name": "g"}], "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "go on"}]}]},
    "vendor blocks": {"messages": [USER, {"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u",
         "title": "t", "encrypted_content": "e", "page_age": None}]},
        {"type": "text", "text": "t", "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0,
         "document_title": None, "start_char_index": 0, "end_char_index": 1}]},
        {"type": "mcp_tool_use", "id": "m", "name": "n", "server_name": "s", "input": {}},
        {"type": "compaction", "content": "summary"}, {"type": "what_may_come", "x": {"y": 1}}]}],
        "mcp_servers": [{"type": "url", "name": "s", "url": "https://mcp"}], "container": {"id": "c"},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}, "cache_control": {"type": "ephemeral"}},
}  # fmt: skip


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS.keys())
def test_unusual_forms_are_equal_after_parse_and_render(fields: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [USER], **fields}
    assert again(body) == body


def test_our_own_field_never_goes_upstream() -> None:
    assert "headgate" not in again({"model": "m", "max_tokens": 1, "messages": [USER], "headgate": {"details": True}})


def test_the_required_limit_is_filled_from_the_profile() -> None:
    request = DIALECT.parse_request(json.dumps({"model": "m", "messages": [USER]}).encode())
    body = json.loads(DIALECT.render_request(request, model="m", quirks=Quirks(max_output=64)).body)
    assert body["max_tokens"] == 64
    assert render(chat())[0]["max_tokens"] == 4096
    assert render(chat(max_tokens=9), max_output=64)[0]["max_tokens"] == 9


def test_thinking_without_a_signature_was_never_this_providers_and_stays_out() -> None:
    """A client sends back what a fall-back to another provider thought; one bad signature fails a whole request."""
    body = {"model": "m", "max_tokens": 1, "messages": [USER, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "a"}]}]}  # fmt: skip
    request = DIALECT.parse_request(json.dumps(body).encode())
    out = DIALECT.render_request(request, model="m", quirks=Quirks())
    assert json.loads(out.body)["messages"][1]["content"] == [{"type": "text", "text": "a"}]
    assert out.lossy == ("reasoning",)


# -- what other formats asked ----------------------------------------------------------------------------------------


def test_a_chat_conversation_with_tools() -> None:
    request = from_chat(
        {"role": "system", "content": "one"},
        {"role": "developer", "content": "two"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "functions.f_0", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "functions/f_0", "type": "function", "function": {"name": "f", "arguments": "not json"}}]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "rain"},
        {"role": "tool", "tool_call_id": "functions.f_0", "content": [{"type": "text", "text": "sun"}]},
        {"role": "tool", "tool_call_id": "functions/f_0", "content": ""},
        {"role": "user", "content": "so?"},
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"properties": {}}}},
               {"type": "function", "function": {"name": "g"}}],
        tool_choice="required", parallel_tool_calls=False, stop="END", max_completion_tokens=50, user="u-1",
        temperature=0.5, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    body, lossy = render(request)
    assert not lossy
    assert body == {
        "model": "target", "system": "one\n\ntwo", "max_tokens": 50, "stream": True, "temperature": 0.5,
        "stop_sequences": ["END"], "metadata": {"user_id": "u-1"},
        "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "functions_f_0_", "name": "f", "input": {}},
                {"type": "tool_use", "id": "functions_f_0__", "name": "f", "input": {"input": "not json"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "functions_f_0", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "functions_f_0_", "content": "sun"},
                {"type": "tool_result", "tool_use_id": "functions_f_0__", "content": ""},
                {"type": "text", "text": "so?"}]}],
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }  # fmt: skip


def test_system_messages_are_hoisted() -> None:
    later = chat(user(Text(text="a")), Message(role="system", content=[Text(text="s")]), assistant(Text(text="b")))
    body, lossy = render(later)
    assert body["system"] == "s"
    assert [m["role"] for m in body["messages"]] == ["user", "assistant"]
    assert lossy == {"system_position"}
    body, lossy = render(chat(Message(role="system", content=[Text(text="a"), Text(text="b")])))
    assert body["messages"] == [{"role": "user", "content": "a\n\nb"}]
    assert lossy == {"system_position"}
    marked = Message(role="system", content=[Text(text="s", cache={"type": "ephemeral"}), Text(text="")])
    body, _ = render(chat(marked, user(Text(text="a"))))
    assert body["system"] == [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]


def test_turns_of_the_user_become_one_and_empty_ones_none() -> None:
    body, _ = render(chat(user(Text(text="a")), user(Text(text="")), user(Text(text="b")), assistant(Text(text=""))))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    ]


def test_results_stand_first_in_their_turn() -> None:
    call = ToolCall(id="1", name="f")
    request = chat(user(Text(text="a")), assistant(call), user(Text(text="x"), ToolResult(call_id="1")))
    last = render(request)[0]["messages"][-1]["content"]
    assert [block["type"] for block in last] == ["tool_result", "text"]


def test_media() -> None:
    request = chat(user(
        Image(source=Source(data="/9j/4AAQ")), Image(source=Source(data=PNG, media_type="image/jpg")),
        Image(source=Source(url="https://a/b.png"), detail="low"),
        Document(source=Source(data="QUJD", media_type="application/pdf"), name="n.pdf"),
        Document(source=Source(data="aGk=", media_type="text/markdown; charset=utf-8")),
        Document(source=Source(text="words")), Document(source=Source(url="https://a/b.pdf")),
    ))  # fmt: skip
    blocks = render(request)[0]["messages"][0]["content"]
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AAQ"},
        {"type": "base64", "media_type": "image/jpeg", "data": PNG},
        {"type": "url", "url": "https://a/b.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
        {"type": "text", "media_type": "text/plain", "data": "hi"},
        {"type": "text", "media_type": "text/plain", "data": "words"},
        {"type": "url", "url": "https://a/b.pdf"},
    ]
    assert blocks[3]["title"] == "n.pdf"


CANNOT: dict[str, tuple[ChatRequest, str]] = {
    "several answers": (chat(n=2), "n"),
    "log probabilities": (chat(logprobs=True), "logprobs"),
    "audio out": (chat(modalities=["text", "audio"]), "modalities"),
    "audio in": (chat(user(Audio(source=Source(data="QQ==")))), "messages"),
    "video": (chat(user(Video(source=Source(url="https://a")))), "messages"),
    "another provider's file": (chat(user(Document(source=Source(file_id="f")))), "messages"),
    "a spreadsheet": (chat(user(Document(source=Source(data="QQ==", media_type="application/vnd.ms-excel")))),
                      "messages"),
    "broken text": (chat(user(Document(source=Source(data="/w==", media_type="text/plain")))), "messages"),
    "nothing at all": (chat(user(Text(text=""))), "messages"),
    "an empty instruction": (chat(Message(role="system", content=[Text(text=" ")])), "messages"),
    "white space alone": (chat(user(Text(text=" "), Text(text="\n"))), "messages"),
    "nothing at last": (
        chat(user(Text(text="hi")), Message(role="assistant", content=[Text(text="Hello")]), user(Text(text=" "))),
        "messages",
    ),
    "blank stop": (chat(stop=["\n\n"]), "stop"),
    "vendor tool": (chat(tools=[Tool(name="file_search", vendor={"type": "file_search"})]), "tools"),
    "a choice without tools": (chat(tool_choice=ToolChoice(mode="required")), "tool_choice"),
    "free keys": (chat(output=OutputFormat(kind="json_schema", schema={"type": "object"})), "response_format"),
    "a map": (chat(output=OutputFormat(kind="json_schema", schema={"type": "object", "properties": {"a": {
        "type": "object", "additionalProperties": {"type": "string"}}}})), "response_format"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "param"), CANNOT.values(), ids=CANNOT.keys())
def test_what_cannot_be_said_is_an_error(request_: ChatRequest, param: str) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        DIALECT.render_request(request_, model="m", quirks=Quirks())
    assert caught.value.param == param


def test_quirks_refuse_and_drop() -> None:
    schema = OutputFormat(kind="json_schema", schema=SCHEMA)
    with pytest.raises(UnsupportedFeature):
        DIALECT.render_request(chat(output=schema), model="m", quirks=Quirks(json_schema=False))
    with pytest.raises(UnsupportedFeature):
        image = chat(user(Image(source=Source(url="https://a"))))
        DIALECT.render_request(image, model="m", quirks=Quirks(image_url=False))
    body, lossy = render(chat(top_k=5), drop=frozenset({"top_k"}))
    assert "top_k" not in body
    assert lossy == {"top_k"}


def test_what_is_left_out_is_named() -> None:
    request = from_chat(
        USER | {"name": "ann"},
        seed=1, presence_penalty=0.5, frequency_penalty=0.5, logit_bias={"1": 2}, metadata={"a": "b"},
        response_format={"type": "json_object"}, store=True, service_tier="auto", verbosity="low", temperature=1.5,
        top_p=0.5,
    )  # fmt: skip
    body, lossy = render(request)
    assert body == {"model": "target", "max_tokens": 4096, "temperature": 1.0, "messages": [USER]}
    assert lossy == {"seed", "presence_penalty", "frequency_penalty", "logit_bias", "metadata", "json_object",
                     "store", "service_tier", "verbosity", "temperature", "top_p", "name"}  # fmt: skip


def test_parts_of_other_dialects_are_left_out_and_named() -> None:
    request = chat(
        user(Text(text="a")),
        assistant(
            Reasoning(text="r", signature="other's"), Opaque(dialect="gemini", data={"type": "executableCode"}),
            Text(text="t", citations=[{"kind": "openai_responses"}]), Refusal(text="no"),
            Audio(source=Source(), id="a", transcript="spoken"),
        ),
    )  # fmt: skip
    body, lossy = render(request)
    assert [block["text"] for block in body["messages"][1]["content"]] == ["t", "no", "spoken"]
    assert lossy == {"reasoning", "opaque:executableCode", "citations", "audio"}


def test_a_thinking_answer_of_this_format_goes_back_whole() -> None:
    """Also in a conversation that another door began."""
    answer = DIALECT.parse_answer(
        json.dumps({"content": [
            {"type": "thinking", "thinking": "t", "signature": "s"}, {"type": "redacted_thinking", "data": "d"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        ]}).encode(), Quirks())  # fmt: skip
    turn = Message(role="assistant", content=answer.choices[0].parts)
    body, lossy = render(chat(user(Text(text="a")), turn, tool(ToolResult(call_id="1", content=[Text(text="r")]))))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["thinking", "redacted_thinking", "tool_use"]
    assert body["messages"][1]["content"][0]["signature"] == "s"
    assert not lossy


# -- tools and choices -----------------------------------------------------------------------------------------------

TOOLS = [Tool(name="f", schema=SCHEMA), Tool(name="g", schema={}, strict=True), Tool(name="h", strict=True)]


@pytest.mark.parametrize(
    ("choice", "names", "wire"),
    [
        (ToolChoice(mode="auto"), "fgh", {"type": "auto"}),
        (ToolChoice(mode="none"), "fgh", {"type": "none"}),
        (ToolChoice(mode="named", names=["g"]), "fgh", {"type": "tool", "name": "g"}),
        (ToolChoice(mode="named", names=["f", "g"]), "fg", {"type": "any"}),
        (ToolChoice(mode="auto", names=["f"]), "f", {"type": "auto"}),
        (ToolChoice(mode="required", names=["f", "h"]), "fh", {"type": "any"}),
    ],
)
def test_choices_among_several_tools_offer_only_those(choice: ToolChoice, names: str, wire: dict[str, Any]) -> None:
    body, lossy = render(chat(tools=TOOLS, tool_choice=choice))
    assert "".join(t["name"] for t in body["tools"]) == names
    assert body["tool_choice"] == wire
    assert lossy <= {"strict"}


def test_strict_tools_are_strict_where_their_schema_can_be_closed() -> None:
    tools = [Tool(name="f", schema={**SCHEMA, "minProperties": 1}, strict=True), Tool(name="g", schema={}, strict=True)]
    body, lossy = render(chat(tools=tools, tool_choice=ToolChoice(mode="none"), parallel_tool_calls=False))
    assert body["tools"][0]["strict"] is True
    assert body["tools"][0]["input_schema"]["description"] == "{minProperties: 1}"
    assert body["tool_choice"] == {"type": "none"}
    assert "strict" not in body["tools"][1] or body["tools"][1]["input_schema"] == {"type": "object"}
    assert lossy <= {"strict"}
    assert "tool_choice" not in render(chat(tool_choice=ToolChoice(mode="auto"), parallel_tool_calls=False))[0]
    assert "tool_choice" not in render(chat(tools=tools[:1], parallel_tool_calls=True))[0]


def test_json_schemas_are_closed_and_their_limits_become_words() -> None:
    schema = {
        "type": "object", "title": "T",
        "properties": {
            "age": {"type": "integer", "minimum": 1, "description": "years"},
            "mail": {"type": "string", "format": "email", "pattern": ".@."},
            "tags": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/Tag"}},
            "either": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        },
        "required": ["age"], "$defs": {"Tag": {"type": "object", "properties": {"minimum": {"type": "number"}}}},
    }  # fmt: skip
    body, lossy = render(chat(output=OutputFormat(kind="json_schema", name="n", schema=schema, strict=True)))
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": {
        "type": "object", "title": "T", "additionalProperties": False,
        "properties": {
            "age": {"type": "integer", "description": "years\n\n{minimum: 1}"},
            "mail": {"type": "string", "format": "email", "pattern": ".@."},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "description": "{minItems: 2}"},
            "either": {"anyOf": [{"type": "string", "description": "{maxLength: 3}"}, {"type": "null"}]},
        },
        "required": ["age"],
        "$defs": {"Tag": {"type": "object", "additionalProperties": False,
                          "properties": {"minimum": {"type": "number"}}}},
    }}}  # fmt: skip
    assert lossy == {"json_schema.minimum", "json_schema.minItems", "json_schema.maxLength"}


# -- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ({"effort": "minimal"}, 1024),
        ({"effort": "low"}, 2048),
        ({"effort": "medium"}, 8192),
        ({"effort": "high"}, 24_576),
        ({"enabled": True}, 8192),
        ({"budget": 5000}, 5000),
        ({"budget": 1}, 1024),
        ({"budget": -1}, 8192),
        ({"effort": "none"}, None),
        ({"budget": 0}, None),
        ({"enabled": False, "effort": "high"}, None),
        ({"summary": "auto"}, None),
    ],
)
def test_effort_becomes_a_budget(options: dict[str, Any], budget: int | None) -> None:
    body, lossy = render(chat(reasoning=ReasoningOptions(**options)), max_output=32_000)
    assert body.get("thinking") == (budget and {"type": "enabled", "budget_tokens": budget})
    assert body["max_tokens"] == 32_000
    assert not lossy


def test_the_budget_is_a_part_of_the_limit_that_the_client_set() -> None:
    high = ReasoningOptions(effort="high")
    body, _ = render(chat(reasoning=high, max_tokens=4000))
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (4000, 2000)
    body, lossy = render(chat(reasoning=high, max_tokens=2000))
    assert "thinking" not in body
    assert lossy == {"reasoning"}


def test_thinking_leaves_no_sampling_and_gives_way_to_a_forced_tool() -> None:
    high = ReasoningOptions(effort="high")
    body, lossy = render(chat(reasoning=high, temperature=0.2, top_k=3), max_output=32_000)
    assert not {"temperature", "top_k"} & body.keys()
    assert lossy == {"temperature", "top_k"}
    body, lossy = render(chat(reasoning=high, tools=TOOLS[:1], tool_choice=ToolChoice(mode="required")))
    assert "thinking" not in body
    assert lossy == {"reasoning"}


def test_an_answer_to_a_result_thinks_only_where_the_calls_thinking_is_there() -> None:
    messages = [user(Text(text="a")), assistant(ToolCall(id="1", name="f")), tool(ToolResult(call_id="1"))]
    high = ReasoningOptions(effort="high")
    body, lossy = render(chat(*messages, reasoning=high), max_output=32_000)
    assert "thinking" not in body
    assert lossy == {"reasoning"}
    body, lossy = render(chat(*messages, assistant(Text(text="x")), user(Text(text="y")), reasoning=high))
    assert "thinking" in body


def test_newer_models_think_as_they_see_fit_and_sample_by_themselves() -> None:
    assert PROFILE is not None
    quirks = PROFILE.quirks
    high = ReasoningOptions(effort="high")

    def ask(model: str, **fields: Any) -> tuple[dict[str, Any], set[str]]:
        out = DIALECT.render_request(chat(**fields), model=model, quirks=quirks)
        return json.loads(out.body), set(out.lossy)

    body, lossy = ask("claude-opus-4-7", reasoning=high, temperature=0.2)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    assert "temperature" not in body
    assert lossy == {"temperature"}
    body, lossy = ask("claude-sonnet-4-6", temperature=0.2)
    assert (body["temperature"], lossy) == (0.2, set())
    assert ask("claude-opus-4-8", reasoning=ReasoningOptions(budget=3000))[0]["output_config"] == {"effort": "medium"}
    body, lossy = ask("claude-haiku-4-5-20251001", reasoning=high)
    assert body["thinking"]["type"] == "enabled"
    assert not lossy


# -- for other dialects ----------------------------------------------------------------------------------------------


def test_a_request_of_this_format_in_chats_words() -> None:
    body = {
        "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "stop_sequences": ["x"], "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"},
        "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "any"},
        "messages": [USER, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "tool_use", "id": "1", "name": "f", "input": {"a": "b"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "r"},
                                         {"type": "text", "text": "go on"}]}],
    }  # fmt: skip
    request = DIALECT.parse_request(json.dumps(body).encode())
    assert request.user == "u"
    assert request.reasoning == ReasoningOptions(
        enabled=False, extensions=request.reasoning.extensions if request.reasoning else {}
    )
    out = CHAT.render_request(request, model="gpt", quirks=Quirks())
    wire = json.loads(out.body)
    assert [m["role"] for m in wire["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert wire["tool_choice"] == "required"
    assert wire["max_completion_tokens"] == 9
    assert "reasoning" in out.lossy


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "stream": ({"stream": "true"}, "stream"),
    "model": ({"model": 7}, "model"),
    "temperature": ({"temperature": "hot"}, "temperature"),
    "a truth": ({"top_k": True}, "top_k"),
    "limit": ({"max_tokens": -1}, "max_tokens"),
    "no whole limit": ({"max_tokens": 1.5}, "max_tokens"),
    "huge limit": ({"max_tokens": 10**12}, "max_tokens"),
    "stop": ({"stop_sequences": [1]}, "stop_sequences"),
    "metadata": ({"metadata": "x"}, "metadata"),
    "tools": ({"tools": {}}, "tools"),
    "a tool": ({"tools": [1]}, "tools"),
    "choice": ({"tool_choice": "auto"}, "tool_choice"),
    "system": ({"system": 7}, "system"),
    "no messages": ({"messages": []}, "messages"),
    "too many": ({"messages": [USER] * 20_001}, "messages"),
    "role": ({"messages": [{"role": "root", "content": "x"}]}, "messages.0.role"),
    "content": ({"messages": [{"role": "user", "content": {}}]}, "messages.0.content"),
    "block": ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0"),
    "forbidden": ({"api_base": "https://evil"}, "api_base"),
}


@pytest.mark.parametrize(("fields", "param"), BAD.values(), ids=BAD.keys())
def test_bad_requests_name_the_parameter(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.parse_request(json.dumps({"model": "m", "max_tokens": 1, "messages": [USER], **fields}).encode())
    assert caught.value.param == param
