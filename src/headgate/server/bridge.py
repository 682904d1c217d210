"""Cursor's agent mode: a Responses body sent to the chat door, whose answer must come back as chat.

Such a body has `input` and no `messages` (both together stay an error of the chat door). It is served as the Responses
request that it is; `stream_options`, a field of chat, only says whether the chunks end with usage.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.dialect import View
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import decode, encode, holds
from headgate.dialects.openai_chat import OpenAiChat
from headgate.dialects.openai_chat.chunks import EventRenderer


class _Shape(msgspec.Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_shape = msgspec.json.Decoder(_Shape)


class ChatAnswers(OpenAiChat):
    """The answering half of the chat format. No provider's bytes pass as they are: their dialect is never this one."""

    name = "openai_chat_bridged"

    def __init__(self, *, include_usage: bool) -> None:
        self.include_usage = include_usage

    def event_renderer(self, view: View) -> EventRenderer:
        return super().event_renderer(msgspec.structs.replace(view, include_usage=self.include_usage))


def is_responses(body: bytes) -> bool:
    """Whether a body at the chat door is a Responses request. What is no JSON object is left to the door to refuse."""
    if not holds(body, "input"):
        return False
    try:
        shape = _shape.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return shape.input is not msgspec.UNSET and shape.messages is msgspec.UNSET


def as_responses(body: bytes) -> tuple[bytes, ChatAnswers]:
    """(the Responses request, who writes its answer). Raises InvalidRequest."""
    fields = decode(body)
    options = fields.pop("stream_options", None)
    if not (options is None or isinstance(options, dict)):
        raise InvalidRequest("stream_options must be an object", param="stream_options")
    tools = fields.get("tools")
    if isinstance(tools, list):
        fields["tools"] = [_flat(tool) for tool in tools]
    include_usage = bool((options or {}).get("include_usage"))
    return encode(fields), ChatAnswers(include_usage=include_usage)


def _flat(tool: Any) -> Any:
    """A chat tool's `function` object unwrapped; tools in the Responses form stay as they are."""
    if isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("function"), dict):
        return {"type": "function", **tool["function"]}
    return tool
