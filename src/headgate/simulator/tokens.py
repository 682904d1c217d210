"""Token counts from text, and a prompt cache that remembers prefixes as the providers' own do."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from headgate.core.chat import ChatRequest, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from headgate.core.usage import Usage

PER_MESSAGE = 4
PER_MEDIUM = 258
_AUTOMATIC_LEAST = 1024
_AUTOMATIC_STEP = 128


def count(text: str) -> int:
    """Tokens of a text: a quarter of its characters, rounded up."""
    return (len(text) + 3) // 4


def of_part(part: Part) -> int:
    match part:
        case Text() | Reasoning() | Refusal():
            return count(part.text)
        case ToolCall():
            return count(part.name) + count(part.arguments)
        case ToolResult():
            return sum(of_part(inner) for inner in part.content)
    return PER_MEDIUM


def of_parts(parts: Sequence[Part]) -> int:
    return sum(of_part(part) for part in parts)


def of_request(request: ChatRequest) -> int:
    """Input tokens: tools, output format and messages."""
    return sum(size for _, size, _ in _pieces(request))


def _pieces(request: ChatRequest) -> Iterator[tuple[bytes, int, bool]]:
    """(what is hashed, its tokens, a cache mark stands here), in the order in which providers build the prompt."""
    for tool in request.tools:
        text = f"{tool.name}{tool.description}{tool.schema}"
        yield text.encode(), count(text), tool.cache is not None
    if request.output is not None and request.output.schema is not None:
        text = str(request.output.schema)
        yield text.encode(), count(text), False
    for message in request.messages:
        yield message.role.encode(), PER_MESSAGE, False
        for part in message.content:
            marked = getattr(part, "cache", None) is not None
            yield msgspec.json.encode(_unmarked(part)), of_part(part), marked


def _unmarked(part: Part) -> Part:
    return msgspec.structs.replace(part, cache=None) if getattr(part, "cache", None) is not None else part


class PromptCache:
    """Prefixes seen lately by one model. Automatic caching reads what was seen, in steps of 128 tokens from 1,024;
    with marks (Anthropic), prefixes are written where a mark stands and read where one stands."""

    def __init__(self, *, marked: bool, size: int = 4096) -> None:
        self._marked = marked
        self._size = size
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def use(self, request: ChatRequest) -> tuple[int, int]:
        """(tokens read from the cache, tokens written to it). Remembers this prompt."""
        digest = hashlib.sha256()
        total, read, written = 0, 0, 0
        prefixes: list[tuple[bytes, int]] = []
        for data, size, mark in _pieces(request):
            digest.update(data)
            total += size
            if (mark or not self._marked) and total >= _AUTOMATIC_LEAST:
                prefixes.append((digest.digest(), total))
        for key, tokens in prefixes:
            if key in self._seen:
                read = tokens
            elif self._marked:
                written = tokens - read
            self._remember(key, tokens)
        if not self._marked:
            read -= read % _AUTOMATIC_STEP
        return read, written

    def _remember(self, key: bytes, tokens: int) -> None:
        self._seen[key] = tokens
        self._seen.move_to_end(key)
        while len(self._seen) > self._size:
            self._seen.popitem(last=False)


def usage_of(request: ChatRequest, parts: list[Part], thinking: str, cache: PromptCache) -> Usage:
    """What the call used, each token counted once (as core.usage says)."""
    read, written = cache.use(request)
    reasoning = count(thinking)
    shown = [part for part in parts if not isinstance(part, Reasoning)]
    return Usage(
        input=of_request(request),
        output=of_parts(shown) + reasoning,
        cached_input=read,
        cache_write=written,
        reasoning=reasoning,
    )
