import json
from typing import Any

import pytest

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
from headgate.core.errors import UnsupportedFeature
from headgate.dialects.openai_chat import DIALECT
from support.chat import recorded

Q = Quirks()
GRAMMAR = {"type": "grammar", "syntax": "lark"}


def render(request: ChatRequest, **quirks: Any) -> tuple[dict[str, Any], set[str]]:
    rendered = DIALECT.render_request(request, model="target", quirks=Quirks(**quirks))
    return json.loads(rendered.body), set(rendered.lossy)


def again(body: dict[str, Any], **quirks: Any) -> dict[str, Any]:
    """Parsed and rendered for its own dialect."""
    request = DIALECT.parse_request(json.dumps(body).encode())
    rendered = DIALECT.render_request(request, model=body["model"], quirks=Quirks(**quirks))
    assert not rendered.lossy
    return json.loads(rendered.body)


def chat(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=list(messages), **fields)


def user(*parts: Any) -> Message:
    return Message(role="user", content=list(parts))


def asked_for_usage(body: dict[str, Any]) -> dict[str, Any]:
    if not body.get("stream"):
        return body
    return {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}


def test_every_recorded_request_is_equal_after_parse_and_render() -> None:
    seen = 0
    for row in recorded():
        body = row["request"]["body"]
        if body is None:
            continue
        seen += 1
        model = body.get("model") or "from-the-path"
        request = DIALECT.parse_request(json.dumps(body).encode(), model=model)
        rendered = DIALECT.render_request(request, model=model, quirks=Q)
        assert not rendered.lossy, row["id"]
        assert json.loads(rendered.body) == asked_for_usage({**body, "model": model}), row["id"]
    assert seen > 2000


def test_every_recorded_request_is_peeked_as_it_is_parsed() -> None:
    for row in recorded(sample=3):
        body = row["request"]["body"]
        if body is None:
            continue
        raw = json.dumps(body).encode()
        model = body.get("model") or "from-the-path"
        peek, request = DIALECT.peek(raw, model=model), DIALECT.parse_request(raw, model=model)
        assert (peek.model, peek.stream, peek.include_usage) == (request.model, request.stream, request.include_usage)
        assert (peek.max_tokens, peek.n) == (request.max_tokens, request.n or 1)
        assert ("tools" in peek.needs) == bool(request.tools)
        assert peek.multi_turn == any(message.role == "assistant" for message in request.messages)
        assert peek.input_bound > 0


FORMS: dict[str, dict[str, Any]] = {
    "unknown fields everywhere": {
        "x_top": {"a": [1]},
        "messages": [
            {"role": "user", "x": 1, "content": [{"type": "text", "text": "a", "x": None}]},
            {"role": "assistant", "content": None, "prefix": True, "tool_calls": [{"id": "1", "type": "function", "x": 2,
             "function": {"name": "f", "arguments": "{}", "x": 3}}]},
            {"role": "tool", "tool_call_id": "1", "content": "r", "x": 4},
        ],
        "tools": [{"type": "function", "x": 5, "function": {"name": "f", "parameters": {}, "x": 6}}],
        "response_format": {"type": "json_object", "schema": {"type": "object"}},
    },
    "nulls": {
        "messages": [{"role": "user", "content": "a", "name": None}], "temperature": None, "tools": None, "stop": None,
        "stream": None, "stream_options": None, "response_format": None, "tool_choice": None, "max_tokens": None,
        "reasoning_effort": None, "functions": None, "metadata": None,
    },
    "empty things": {
        "messages": [{"role": "user", "content": []}, {"role": "assistant", "content": "", "tool_calls": []}],
        "tools": [], "stop": [], "metadata": {}, "logit_bias": {}, "stream_options": {}, "modalities": [],
    },
    "no content key": {"messages": [{"role": "user"}, {"role": "assistant", "refusal": "no"}, {"role": "tool",
                       "tool_call_id": "1"}]},
    "bare strings in lists": {"messages": [{"role": "user", "content": ["a", {"type": "text", "text": "b"}]}]},
    "legacy functions": {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
            {"role": "function", "name": "f", "content": "1"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "2"},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
    },
    "both limits": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "max_completion_tokens": 2},
    "media": {
        "messages": [
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low", "x": 1}},
                {"type": "image_url", "image_url": "https://a/b.png"},
                {"type": "image_url", "image_url": {"url": "data:image/png;charset=x;base64,QUJD"}},
                {"type": "image_url", "image_url": {"url": "data:text/plain,hello"}},
                {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
                {"type": "input_audio", "input_audio": {"data": "QUJD"}},
                {"type": "input_audio", "input_audio": {"url": "https://a"}},
                {"type": "file", "file": {"file_id": "f-1"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "QUJD"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://a/b.pdf"}},
                {"type": "video_url", "video_url": {"url": "https://a/b.mp4"}},
                {"type": "document_url", "document_url": "https://a/b.pdf"},
            ]},
        ],
        "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"},
    },
    "thinking sent back": {
        "messages": [
            {"role": "assistant", "content": "a", "reasoning_content": "r"},
            {"role": "assistant", "content": "a", "reasoning": "r", "reasoning_details": [{"type": "reasoning.text"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                                              {"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no", "x": 1}], "audio": {"id": "a-1"}},
        ],
    },
    "odd calls": {
        "messages": [{"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": ""}},
            {"id": "2", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}},
            {"id": "3", "type": "function", "function": {"name": "f"}},
            {"id": "4", "type": "function", "function": {"name": "f", "arguments": None}},
            {"id": "5", "type": "custom", "custom": {"name": "g", "input": "free"}},
            {"id": "6", "type": "function", "function": {"name": "f", "arguments": "{}"},
             "extra_content": {"google": {"thought_signature": "s"}}},
        ]}],
    },
    "vendor tools and choices": {
        "messages": [{"role": "user", "content": "a"}],
        "tools": [{"type": "custom", "custom": {"name": "g"}}, {"type": "browser_search"}, {"googleSearch": {}}],
        "tool_choice": {"type": "custom", "custom": {"name": "g"}},
    },
    "allowed tools": {
        "messages": [{"role": "user", "content": "a"}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [
            {"type": "function", "function": {"name": "f"}}]}},
    },
    "mistral's any": {"messages": [{"role": "user", "content": "a"}], "tool_choice": "any"},
    "untyped choice": {"messages": [{"role": "user", "content": "a"}], "tool_choice": {"function": {"name": "f"}}},
    "a server's own format": {"messages": [{"role": "user", "content": "a"}],
                              "response_format": {"type": "grammar", "g": 1}},
    "switches of thinking": {"messages": [{"role": "user", "content": "a"}], "reasoning": {"effort": "low"},
                             "thinking": {"type": "enabled"}, "top_k": 3, "stop": "x"},
    "cache marks": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a",
                                                               "cache_control": {"type": "ephemeral"}}]}]},
}  # fmt: skip


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS.keys())
def test_unusual_forms_are_equal_after_parse_and_render(fields: dict[str, Any]) -> None:
    body = {"model": "m", **fields}
    assert again(body) == body


def test_our_own_field_never_goes_upstream() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "headgate": {"details": True}}
    assert "headgate" not in again(body)


def test_legacy_calls_and_results_are_paired_for_other_formats() -> None:
    request = DIALECT.parse_request(json.dumps({"model": "m", **FORMS["legacy functions"]}).encode())
    ids = [p.id if isinstance(p, ToolCall) else p.call_id for m in request.messages for p in m.content
           if isinstance(p, ToolCall | ToolResult)]  # fmt: skip
    assert ids == ["call_f", "call_f", "call_f_2", "call_f_2"]


def test_usage_is_asked_for_by_the_profile() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "stream": True}
    assert again(body)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in again(body, stream_usage="always")
    said = {**body, "stream_options": {"include_usage": False, "include_obfuscation": False}}
    assert again(said)["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_the_limit_is_named_as_the_provider_names_it() -> None:
    newer = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 5}
    assert again(newer)["max_completion_tokens"] == 5
    renamed = again(newer, max_tokens_field="max_tokens")
    assert renamed["max_tokens"] == 5
    assert "max_completion_tokens" not in renamed
    older = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    assert again(older) == older
    assert again(older, extra={"rename_max_tokens": True})["max_completion_tokens"] == 5
    assert render(chat(user(Text(text="a")), max_tokens=7))[0]["max_completion_tokens"] == 7


def test_dropped_parameters_are_named() -> None:
    body, lossy = render(chat(user(Text(text="a")), temperature=0.5, seed=1), drop=frozenset({"temperature"}))
    assert "temperature" not in body
    assert body["seed"] == 1
    assert lossy == {"temperature"}


# -- requests that other dialects parsed -----------------------------------------------------------------------------


def test_system_and_developer_messages() -> None:
    request = chat(
        Message(role="system", content=[Text(text="one"), Text(text="two")]),
        Message(role="developer", content=[Text(text="three")]),
        user(Text(text="a")),
    )
    assert [m["role"] for m in render(request)[0]["messages"]] == ["system", "developer", "user"]
    body, lossy = render(request, developer_role=False)
    assert body["messages"][:2] == [
        {"role": "system", "content": "one\n\ntwo"},
        {"role": "system", "content": "three"},
    ]
    assert not lossy


def test_tool_results_in_user_turns_become_tool_messages_before_the_rest() -> None:
    request = chat(
        Message(
            role="assistant",
            content=[Text(text="t"), ToolCall(id="1", name="f"), ToolCall(id="2", name="g", arguments='{"a":1}')],
        ),
        user(
            ToolResult(call_id="1", content=[Text(text="r1")]),
            ToolResult(call_id="2", content=[Text(text="x"), Image(source=Source(data="QUJD", media_type="image/png"))]),
            Text(text="go on"),
        ),
    )  # fmt: skip
    body, lossy = render(request)
    assert body["messages"] == [
        {
            "role": "assistant",
            "content": "t",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "2", "type": "function", "function": {"name": "g", "arguments": '{"a":1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "r1"},
        {"role": "tool", "tool_call_id": "2", "content": "x"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "(attached: what the tool returned beside its text)"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            ],
        },
        {"role": "user", "content": "go on"},
    ]
    assert lossy == {"tool_result_media_position"}


def test_media_from_other_formats() -> None:
    body, lossy = render(
        chat(
            user(
                Text(text="look"),
                Image(source=Source(url="https://a/b.png"), detail="high"),
                Audio(source=Source(data="QUJD", media_type="audio/mp3")),
                Document(source=Source(data="QUJD", media_type="application/pdf"), name="a.pdf"),
                Document(source=Source(text="plain words")),
                Video(source=Source(data="QUJD", media_type="video/mp4")),
            )
        )
    )
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "high"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}},
        {"type": "text", "text": "plain words"},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,QUJD"}},
    ]
    assert not lossy


@pytest.mark.parametrize(
    "part",
    [
        Image(source=Source(file_id="files/1")),
        Document(source=Source(url="https://a/b.pdf")),
        Document(source=Source(file_id="files/1")),
        Audio(source=Source(url="https://a/b.mp3")),
    ],
)
def test_media_that_cannot_be_said_are_refused(part: Any) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        render(chat(user(part)))
    assert caught.value.param == "messages"


def test_images_by_url_are_refused_where_the_provider_takes_data_only() -> None:
    with pytest.raises(UnsupportedFeature):
        render(chat(user(Image(source=Source(url="https://a/b.png")))), image_url=False)


def test_foreign_thinking_and_items_are_left_out_and_named() -> None:
    request = chat(
        Message(
            role="assistant",
            content=[
                Reasoning(text="secret", signature="s"),
                Text(text="a", citations=[{"kind": "x"}]),
                Opaque(dialect="anthropic_messages", data={"type": "server_tool_use"}),
                Refusal(text="no"),
                Image(source=Source(data="QUJD")),
            ],
        ),
        user(ToolResult(call_id="1", content=[Text(text="x")], is_error=True)),
        top_k=4,
        extensions={"anthropic_messages": {"rest": {"container": "c", "betas": []}}},
    )
    body, lossy = render(request)
    assert body["messages"][0] == {"role": "assistant", "content": "a", "refusal": "no"}
    assert lossy == {"reasoning", "opaque:server_tool_use", "image", "is_error", "top_k", "container"}
    assert render(request, reasoning_field="reasoning_content")[0]["messages"][0]["reasoning_content"] == "secret"


def test_an_answer_becomes_a_turn_of_the_next_request() -> None:
    answer = DIALECT.parse_answer(
        json.dumps({"choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "", "reasoning": "hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]}).encode(), Q
    )  # fmt: skip
    request = chat(user(Text(text="a")), Message(role="assistant", content=answer.choices[0].parts))
    plain, lossy = render(request)
    assert plain["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert lossy == {"reasoning"}
    assert render(request, reasoning_field="reasoning")[0]["messages"][1]["reasoning"] == "hm"
    details = render(request, extra={"accepts": ["reasoning_details"]})[0]["messages"][1]["reasoning_details"]
    assert details == [{"type": "reasoning.text", "text": "hm"}]


def test_tools_choices_and_formats_from_other_formats() -> None:
    body, lossy = render(
        chat(
            user(Text(text="a")),
            tools=[
                Tool(name="f", description="d", schema={"type": "object"}, strict=True, cache={"type": "ephemeral"}),
                Tool(name="g", custom=True, vendor={"type": "custom", "name": "g", "format": GRAMMAR}),
            ],
            tool_choice=ToolChoice(mode="named", names=["f", "g"]),
            output=OutputFormat(kind="json_schema", schema={"type": "object"}, strict=True),
            reasoning=ReasoningOptions(budget=2048),
        ),
        custom_tools=True,
    )  # fmt: skip
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"syntax": "lark"}}}},
    ]
    assert body["tool_choice"]["allowed_tools"]["mode"] == "required"
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": {"type": "object"}, "strict": True}
    assert body["reasoning_effort"] == "low"
    assert not lossy


@pytest.mark.parametrize(
    ("options", "effort"),
    [
        (ReasoningOptions(effort="minimal"), "minimal"),
        (ReasoningOptions(budget=8192), "medium"),
        (ReasoningOptions(budget=24576), "high"),
        (ReasoningOptions(enabled=False), "none"),
    ],
)
def test_effort(options: ReasoningOptions, effort: str) -> None:
    assert render(chat(user(Text(text="a")), reasoning=options))[0]["reasoning_effort"] == effort


def test_what_would_change_the_meaning_is_refused() -> None:
    vendor = Tool(name="web_search", vendor={"type": "web_search_20250305"})
    with pytest.raises(UnsupportedFeature) as caught:
        render(chat(user(Text(text="a")), tools=[vendor]))
    assert caught.value.param == "tools"
    schema = OutputFormat(kind="json_schema", name="x", schema={})
    with pytest.raises(UnsupportedFeature) as caught:
        render(chat(user(Text(text="a")), output=schema), json_schema=False)
    assert caught.value.param == "response_format"


def test_edits_win_over_what_was_kept() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a", "x": 1}], "temperature": None, "stop": "s"}
    request = DIALECT.parse_request(json.dumps(body).encode())
    request.temperature, request.stop = 0.1, ["s", "t"]
    request.messages[0].content = [Text(text="b")]
    out = json.loads(DIALECT.render_request(request, model="n", quirks=Q).body)
    assert out == {
        "model": "n",
        "messages": [{"role": "user", "content": "b", "x": 1}],
        "temperature": 0.1,
        "stop": ["s", "t"],
    }


def test_many_parts_cost_linear_time() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a/b.png"}}
    refusal = {"type": "refusal", "refusal": "no"}
    body = {"model": "m", "messages": [{"role": "assistant", "content": [image, refusal] * 20_000}]}
    assert again(body) == body
