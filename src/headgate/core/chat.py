"""A conversation and what is asked of it, in no provider's words.

Every type carries `extensions`: `{dialect name: {...}}`, what that dialect said beyond this vocabulary, or the form in
which it said it (a string where a list was possible, say). Only the same dialect reads it, so that a request which is
parsed and rendered again in its own dialect is equal to the original. Rendering to another dialect ignores foreign
extensions and names the ones that carried meaning in `lossy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Extensions = dict[str, dict[str, Any]]
Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "other"]


class Node(msgspec.Struct, kw_only=True, omit_defaults=True):
    extensions: Extensions = {}


class Source(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where media comes from: exactly one of url, data (base64 text, as it came) or file_id; text for inline text."""

    media_type: str | None = None
    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    text: str | None = None


class Text(Node, tag="text"):
    text: str
    citations: list[dict[str, Any]] = []
    """As the provider gave them, with our own key `kind`; rendered by the same dialect, else listed as lossy."""
    cache: dict[str, Any] | None = None
    """A cache mark (Anthropic's cache_control); other dialects drop it, which loses no meaning."""
    signature: str | None = None


class Image(Node, tag="image"):
    source: Source
    detail: str | None = None
    cache: dict[str, Any] | None = None


class Audio(Node, tag="audio"):
    source: Source
    format: str | None = None
    id: str | None = None
    transcript: str | None = None


class Video(Node, tag="video"):
    source: Source


class Document(Node, tag="document"):
    source: Source
    name: str | None = None
    context: str | None = None
    cache: dict[str, Any] | None = None


class Reasoning(Node, tag="reasoning"):
    """Thinking. `signature` or `encrypted` must go back unchanged to the provider that made it, and to no other."""

    text: str = ""
    signature: str | None = None
    encrypted: str | None = None
    id: str | None = None
    summary: bool = False
    """True where `text` is a summary (Responses) rather than the thinking itself."""


class ToolCall(Node, tag="tool_call"):
    """`arguments` is the JSON text as the model wrote it ("{}" where it wrote none), or free text for a custom tool."""

    id: str
    name: str
    arguments: str = "{}"
    custom: bool = False
    signature: str | None = None
    """Gemini's thoughtSignature, kept with the part that it came on."""
    cache: dict[str, Any] | None = None


class ToolResult(Node, tag="tool_result"):
    call_id: str
    name: str | None = None
    content: list[Part] = []
    is_error: bool = False
    cache: dict[str, Any] | None = None


class Refusal(Node, tag="refusal"):
    text: str


class Opaque(Node, tag="opaque"):
    """A vendor's item with no common meaning (a server-side tool's call or result, say). Only `dialect` renders it."""

    dialect: str
    data: dict[str, Any]


Part = Text | Image | Audio | Video | Document | Reasoning | ToolCall | ToolResult | Refusal | Opaque


class Message(Node):
    role: Role
    content: list[Part] = []
    name: str | None = None


class Tool(Node):
    """A function that the model may call; `schema` is JSON Schema. Vendor tools (web search, ...) have `vendor` set to
    (their whole wire object), `name` to their type, and only their own dialect renders them."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    custom: bool = False
    vendor: dict[str, Any] | None = None
    cache: dict[str, Any] | None = None


class ToolChoice(Node):
    mode: Literal["auto", "none", "required", "named"]
    names: list[str] = []


class OutputFormat(Node):
    """What the answer must look like. `schema` with kind "json_schema"."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class ReasoningOptions(Node):
    """effort in OpenAI's words, budget in tokens, enabled for switches; None = not said."""

    effort: str | None = None
    budget: int | None = None
    enabled: bool | None = None
    summary: str | None = None


class ChatRequest(Node):
    """One turn asked of a model. System and developer messages stand in `messages`, where the client put them;
    dialects with a separate system field put them first."""

    model: str
    messages: list[Message]
    stream: bool = False
    include_usage: bool = False
    """The client asked for usage in the stream (only openai_chat makes it a choice)."""
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    reasoning: ReasoningOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    modalities: list[str] = []
    added: frozenset[str] = frozenset()
    """Parameters that a rule, a panel or a judge of ours has set, not the client: a model that does not take them loses
    nothing that was asked for."""


class Choice(Node):
    """One candidate answer: the parts in order, why it ended (our word and the provider's own)."""

    parts: list[Part] = []
    finish: FinishReason = "stop"
    native_finish: str | None = None
    stop_sequence: str | None = None
    logprobs: Any = None


def text_of(parts: Sequence[Part]) -> str:
    """The plain text of `parts`, in order; reasoning, calls and media left out."""
    return "".join(part.text for part in parts if isinstance(part, Text | Refusal))
