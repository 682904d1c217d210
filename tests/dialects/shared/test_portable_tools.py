"""Tools that only one format knows, offered to models of another, and their calls on the way back."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.chat import ChatRequest, Choice, Message, Text, Tool, ToolCall, ToolChoice
from headgate.core.dialect import Quirks, View
from headgate.core.errors import UnsupportedFeature
from headgate.core.events import ChatAnswer, Finished, TextDelta, ToolCallDelta, ToolCallStarted, events_of
from headgate.dialects.openai_responses import DIALECT as RESPONSES
from headgate.dialects.portable import Restorer, free_text, portable, restored
from headgate.providers.registry import dialect_of

SHELL = {
    "type": "function",
    "name": "shell",
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
}
PATCH = {"type": "custom", "name": "patch", "description": "Edits files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: LINE+"}}  # fmt: skip
SEARCH = {"type": "web_search", "external_web_access": True}
SPACE = {
    "type": "namespace",
    "name": "git",
    "tools": [{"type": "function", "name": "log", "parameters": {"type": "object"}}],
}
CALLED = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": '*** Begin "x"\n'}
RESULT = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}


def asked(*tools: dict, items: tuple = (), **more) -> ChatRequest:
    items = ({"role": "user", "content": "go"}, *items)
    return RESPONSES.parse_request(json.dumps({"model": "m", "input": items, "tools": tools, **more}).encode())


@pytest.mark.parametrize("target", ["anthropic_messages", "gemini", "openai_chat"])
def test_a_coding_agents_tools_reach_every_other_format(target):
    request = asked(SHELL, PATCH, SEARCH, SPACE, items=(CALLED, RESULT))
    rendered = dialect_of(target).render_request(request, model="m", quirks=Quirks())
    assert "tools.web_search" in rendered.lossy
    text = rendered.body.decode()
    for name in ("shell", "patch", "git__log"):
        assert f'"{name}"' in text
    assert "start: LINE+" in text  # the grammar is told where it cannot be enforced
    assert "web_search" not in text
    wire = json.loads(text)
    if target == "anthropic_messages":
        assert wire["messages"][1]["content"][0]["input"] == {"input": '*** Begin "x"\n'}
        assert {tool["name"]: tool["input_schema"]["required"] for tool in wire["tools"][1:2]} == {"patch": ["input"]}


def test_openai_keeps_its_own_free_text_tools():
    body = dialect_of("openai_chat").render_request(asked(PATCH), model="m", quirks=Quirks(custom_tools=True)).body
    assert json.loads(body)["tools"][0]["type"] == "custom"


@pytest.mark.parametrize(
    "request_",
    [
        asked(SEARCH),
        asked(SHELL, SEARCH, tool_choice={"type": "web_search"}),
        ChatRequest(
            model="m",
            messages=[Message(role="user", content=[Text(text="x")])],
            tools=[Tool(name="f"), Tool(name="web_search", vendor={"type": "web_search"})],
            tool_choice=ToolChoice(mode="named", names=["web_search"]),
        ),
    ],
    ids=["nothing else", "chosen", "chosen by name"],
)
def test_what_rests_on_a_server_side_tool_is_refused(request_):
    with pytest.raises(UnsupportedFeature):
        portable(request_, custom=False)


def answer(name: str, arguments: str) -> ChatAnswer:
    parts = [Text(text="Let me."), ToolCall(id="c2", name=name, arguments=arguments)]
    return ChatAnswer(choices=[Choice(parts=parts, finish="tool_calls")])


def test_calls_come_back_in_the_clients_own_form():
    request = asked(SHELL, PATCH, SPACE)
    patched = restored(answer("patch", json.dumps({"input": "*** Begin\n"})), request)
    items = json.loads(RESPONSES.render_answer(patched, View(request=request, id="1")).body)["output"]
    assert (items[-1]["type"], items[-1]["input"]) == ("custom_tool_call", "*** Begin\n")
    logged = restored(answer("git__log", "{}"), request)
    items = json.loads(RESPONSES.render_answer(logged, View(request=request, id="1")).body)["output"]
    assert (items[-1]["type"], items[-1]["namespace"], items[-1]["name"]) == ("function_call", "git", "log")
    plain = answer("shell", '{"cmd":"ls"}')
    assert restored(plain, request) == plain


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_a_streamed_call_is_the_same_free_text_however_it_is_cut(text, cuts):
    arguments = json.dumps({"input": text})
    places = sorted({0, len(arguments), *(cut for cut in cuts if cut < len(arguments))})
    pieces = [arguments[a:b] for a, b in itertools.pairwise(places)]
    events = [TextDelta("Now."), ToolCallStarted("c", "patch", 1), *(ToolCallDelta(p, 1) for p in pieces)]
    restorer = Restorer(asked(PATCH))
    out = restorer.feed(events) + restorer.feed([Finished("tool_calls")])
    assert [type(e) for e in out] == [TextDelta, ToolCallStarted, ToolCallDelta, Finished]
    assert out[1].custom
    assert out[2].arguments == text


def test_streamed_and_whole_agree():
    request = asked(PATCH, SPACE)
    whole = answer("patch", json.dumps({"input": "abc"}))
    restorer = Restorer(request)
    streamed = restorer.feed(list(events_of(whole)))
    calls = [e.arguments for e in streamed if isinstance(e, ToolCallDelta)]
    assert calls == [restored(whole, request).choices[0].parts[1].arguments]


@pytest.mark.parametrize("odd", ['{"input": 3}', "not json", "[]", '{"text": "x"}'])
def test_what_a_model_wrote_instead_is_kept(odd):
    assert free_text(odd) == odd
