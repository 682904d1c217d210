"""A conversation goes on at another provider. Thoughts that it did not think itself stay behind: an unsigned one, or an id
that it cannot look up, and it would refuse the whole request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.server.http import Request
from headgate.simulator import script as s
from support.virtual import DONE, SSE_HEAD, Heard, VirtualGateway, chunk, either, virtually

CONFIG = """
providers: {anthropic: {base_url: "http://one"}, openai: {base_url: "http://two/v1"}, deepseek: {base_url: "http://three/v1"}}
models:
  thinker: {provider: deepseek, upstream: thinker}
  claude: {provider: anthropic, upstream: claude-opus-4-7}
  gpt: {provider: openai, upstream: gpt-5.5}
"""
SIGNED = {"type": "thinking", "thinking": "I think.", "signature": "c2lnbmVk"}
KNOWN = {"type": "reasoning", "id": "rs_0a1b2c", "summary": []}


def whole(message: dict[str, Any]) -> list[s.Step]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return s.reply_json(200, body)


STREAM = [SSE_HEAD, *(s.Body(chunk(delta)) for delta in ({"reasoning_content": "I think."}, {"content": "Seven."})),
          s.Body(chunk({}, "stop")), s.Body(DONE), s.End()]  # fmt: skip
THOUGHT = either(whole({"content": "Seven.", "reasoning_content": "I think."}), STREAM)


async def post(it: VirtualGateway, path: str, body: dict[str, Any]) -> Heard:
    heard, headers = Heard(), {"host": "localhost"}
    await it.plane(Request("POST", path, "", headers, list(headers.items()), json.dumps(body).encode()), heard)
    assert heard.status == 200, heard.body
    return heard


def events(heard: Heard) -> list[dict[str, Any]]:
    return [json.loads(line[5:]) for line in heard.body.decode().splitlines() if line.startswith("data:")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_at_anthropic_s_door_a_thought_that_nobody_signed(stream: bool, alone: bool):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("thinker", THOUGHT)
        asked = {"max_tokens": 100, "messages": [{"role": "user", "content": "How many?"}]}
        heard = await post(it, "/v1/messages", {"model": "thinker", "stream": stream, **asked})
        if stream:
            starts = [e["content_block"] for e in events(heard) if e["type"] == "content_block_start"]
            thought = {**starts[0], "thinking": "I think."}
        else:
            thought = heard.json()["content"][0]
        assert (thought["type"], thought["signature"]) == ("thinking", "")
        said = [thought] if alone else [thought, {"type": "text", "text": "Seven."}]
        it.fake.on("claude-opus-4-7", s.reply_json(200, {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-7", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Yes."}], "usage": {"input_tokens": 1, "output_tokens": 1},
        }))  # fmt: skip
        for first, kept in ((thought, []), (SIGNED, [SIGNED])):
            turns = [*asked["messages"], {"role": "assistant", "content": [first, *said[1:]]},
                     {"role": "user", "content": "Sure?"}]  # fmt: skip
            heard = await post(it, "/v1/messages", {"model": "claude", "max_tokens": 100, "messages": turns})
            sent = json.loads(it.fake.calls_of("claude-opus-4-7")[-1].body)["messages"]
            blocks = [b for m in sent if m["role"] == "assistant" for b in m["content"]]
            assert blocks == [*kept, *said[1:]]
            assert all(m["content"] for m in sent)
            assert ("reasoning" in heard.headers.get("x-headgate-lossy", "")) is not bool(kept)

    virtually(main)


@pytest.mark.parametrize("stream", [False, True])
def test_at_openai_s_door_an_item_that_only_we_know(stream: bool):
    async def main() -> None:
        it = VirtualGateway(CONFIG)
        it.fake.on("thinker", THOUGHT)
        heard = await post(it, "/v1/responses", {"model": "thinker", "stream": stream, "input": "How many?"})
        output = events(heard)[-1]["response"]["output"] if stream else heard.json()["output"]
        assert [item["type"] for item in output] == ["reasoning", "message"]
        it.fake.on("gpt-5.5", s.reply_json(200, {
            "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5.5",
            "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                        "content": [{"type": "output_text", "text": "Yes.", "annotations": []}]}],
            "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
        }))  # fmt: skip
        for first, kept in ((output[0], []), (KNOWN, [KNOWN])):
            turns = [{"role": "user", "content": "How many?"}, first, output[1], {"role": "user", "content": "Sure?"}]
            heard = await post(it, "/v1/responses", {"model": "gpt", "input": turns})
            sent = json.loads(it.fake.calls_of("gpt-5.5")[-1].body)["input"]
            assert [item for item in sent if item.get("type") == "reasoning"] == kept
            assert len(sent) == 3 + len(kept)
            assert ("reasoning" in heard.headers.get("x-headgate-lossy", "")) is not bool(kept)

    virtually(main)
