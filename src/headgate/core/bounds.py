"""An upper bound of a request's input tokens, without a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from headgate.core.chat import Audio, ChatRequest, Document, Image, Part, ToolResult, Video

PER_MESSAGE = 8
PER_MEDIUM = 3_000
"""Tokens: the largest images of the large providers cost 1,600 to 3,000."""
_NEED = {Image: "vision", Audio: "audio", Video: "video", Document: "documents"}


def input_bound(text_bytes: int, messages: int, media: int) -> int:
    """UTF-8 bytes / 3 plus constants: no tokenizer of the large providers makes more of natural text or code. Bytes of
    base64 are not text: callers leave them out."""
    return text_bytes // 3 + messages * PER_MESSAGE + media * PER_MEDIUM + 16


def content_bound(content: ChatRequest) -> int:
    """The same for a request that was written by us and has no bytes of a client's. A quarter more, as for the providers
    whose tokenizers cut finest: who will serve it is not known here."""
    media = [part.source for part in _media(content)]
    size = sum(len(msgspec.json.encode(part)) for part in (content.messages, content.tools, content.output))
    size -= sum(len(source.data or "") for source in media)
    return input_bound(size + size // 4, len(content.messages), len(media))


def needs_of(content: ChatRequest, asked: frozenset[str]) -> frozenset[str]:
    """What of the features that a client's request used is still used by what was made of it."""
    if not asked:
        return asked
    kept = {_NEED[type(part)] for part in _media(content)}
    if content.tools:
        kept |= {"tools", "web_search"}
    if content.output is not None:
        kept.add(content.output.kind)
    if content.reasoning is not None:
        kept.add("reasoning")
    if content.logprobs:
        kept.add("logprobs")
    if (content.n or 1) > 1:
        kept.add("n")
    if content.modalities:
        kept.add("audio_output")
    return asked & kept


def _media(content: ChatRequest) -> Iterator[Image | Audio | Video | Document]:
    for message in content.messages:
        yield from _media_in(message.content)


def _media_in(parts: list[Part]) -> Iterator[Image | Audio | Video | Document]:
    for part in parts:
        if isinstance(part, Image | Audio | Video | Document):
            yield part
        elif isinstance(part, ToolResult):
            yield from _media_in(part.content)
