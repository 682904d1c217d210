"""Which provider a call is for and what it asks, from its path; and the key that it brings."""

from __future__ import annotations

import re

import msgspec

from headgate.simulator.wire import Call

_GEMINI = re.compile(r"/models/([^/:]+):(generateContent|streamGenerateContent|countTokens)$")
_STORED = re.compile(r"/responses/([^/]+)(?:/cancel)?$")
_OPS: tuple[tuple[str, str, str], ...] = (
    ("/messages/count_tokens", "anthropic_messages", "count_tokens"),
    ("/messages", "anthropic_messages", "chat"),
    ("/chat/completions", "openai_chat", "chat"),
    ("/responses", "openai_responses", "chat"),
    ("/embeddings", "openai_embeddings", "embeddings"),
    ("/images/generations", "openai_chat", "images"),
    ("/audio/speech", "openai_chat", "speech"),
)


class Provider(msgspec.Struct, frozen=True):
    """Where a provider's base URL ends, and the format in which it lists its models and refuses strangers."""

    base: str
    dialect: str


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("/openai/v1", "openai_chat"),
    "anthropic": Provider("/anthropic/v1", "anthropic_messages"),
    "google": Provider("/google/v1beta", "gemini"),
    "meta": Provider("/meta/compat/v1", "openai_chat"),
    "deepseek": Provider("/deepseek/v1", "openai_chat"),
}


class Route(msgspec.Struct, frozen=True):
    """`op` is chat, count_tokens, embeddings, images, speech, models or stored (then `model` is the response's id).
    `dialect`: that of its errors, where the operation has none of its own."""

    provider: str
    dialect: str
    op: str
    model: str = ""
    stream: bool | None = None


def route_of(call: Call) -> Route | None:
    """None where no provider has such a path. A provider that is not in the table speaks OpenAI's formats."""
    provider, _, rest = call.path.lstrip("/").partition("/")
    if not rest:
        return None
    gemini = _GEMINI.search(call.path)
    if gemini is not None:
        op = "count_tokens" if gemini.group(2) == "countTokens" else "chat"
        return Route(provider, "gemini", op, gemini.group(1), gemini.group(2) == "streamGenerateContent")
    for ending, dialect, op in _OPS:
        if call.path.endswith(ending) and call.method == "POST":
            return Route(provider, dialect, op)
    stored = _STORED.search(call.path)
    if stored is not None:
        return Route(provider, "openai_responses", "stored", stored.group(1))
    if call.path.endswith("/models") and call.method == "GET":
        return Route(provider, PROVIDERS[provider].dialect if provider in PROVIDERS else "openai_chat", "models")
    return None


def key_of(call: Call) -> str:
    """The provider key that a call brings, wherever it stands; "" for none."""
    bearer = call.headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if call.headers.get(name):
            return call.headers[name]
    return call.query.get("key", "")
