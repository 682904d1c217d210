"""The skim of a Messages body."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.bounds import input_bound
from headgate.core.dialect import Peek
from headgate.core.errors import InvalidRequest
from headgate.dialects.anthropic_messages.parse import MOST_MESSAGES, MOST_TOKENS
from headgate.dialects.jsonio import FORBIDDEN, check_text, invalid

_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]
UNSEEN_DOCUMENT = 32
"""A document by URL or file id counts as so many pictures: nobody has told us its pages."""
_PROVIDERS_WORDS = {"tools": 700, "json_schema": 400}
"""What the provider itself says to a model about using tools and keeping to a schema, in tokens."""
_ROLES = frozenset({"user", "assistant", "system"})
_UNSIGNED = (b"", b'""', b"null")


class _Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Block(msgspec.Struct, gc=False):
    """A block of list content: its kind, its medium, what a tool's result holds, and who signed a thought."""

    type: str | None = None
    source: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    signature: msgspec.Raw = msgspec.Raw()


class _Source(msgspec.Struct, gc=False):
    type: str | None = None


class _Format(msgspec.Struct):
    type: str | None = None


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None


class _Thinking(msgspec.Struct):
    type: str = ""


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: list[_Message]
    stream: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[msgspec.Raw] | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    speed: Any = None
    inference_geo: Any = None
    headgate: dict[str, Any] | None = None


_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)
_blocks_decoder = msgspec.json.Decoder(list[_Block])
_source_decoder = msgspec.json.Decoder(_Source)


def peek(body: bytes, *, model: str | None, stream: bool | None) -> Peek:
    check_text(body)
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _explain(error) from error
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    if raw.max_tokens is not None and not 0 <= raw.max_tokens <= MOST_TOKENS:
        raise InvalidRequest(f"max_tokens must be a whole number up to {MOST_TOKENS}", param="max_tokens")
    media = _Media()
    _check_messages(raw.messages, media)
    needs = _needs(raw, media)
    text = max(len(body) - media.bulk, 0)
    return Peek(
        model=name,
        stream=bool(raw.stream) if stream is None else stream,
        include_usage=True,
        max_tokens=raw.max_tokens,
        needs=needs,
        input_bound=input_bound(text + text // 4, len(raw.messages), media.count)  # newer tokenizers cut finer
        + sum(_PROVIDERS_WORDS.get(need, 0) for need in needs),
        spliceable=raw.headgate is None and not media.unsigned,
        multi_turn=any(message.role == "assistant" for message in raw.messages),
        options=raw.headgate,
        dearer=_dearer(raw),
    )


def _dearer(raw: Any) -> str | None:
    if raw.speed not in (None, "standard"):
        return "speed"
    return None if raw.inference_geo in (None, "global") else "inference_geo"


def _explain(error: Exception) -> InvalidRequest:
    """The skim's own words name types; the commonest mistake deserves clearer ones."""
    if "missing required field `messages`" in str(error):
        return InvalidRequest("messages is missing", param="messages")
    return invalid(error)


class _Media:
    """Pictures and documents of a body: how many, and the bytes of pictures, which are not text. A document's bytes stay
    in the count: its words are in them. And how many thoughts are `unsigned`: another provider's or our own, which the
    format's provider refuses with the whole request, so that the body cannot go there as it is."""

    __slots__ = ("bulk", "count", "documents", "pictures", "unsigned")

    def __init__(self) -> None:
        self.count = self.bulk = self.pictures = self.documents = self.unsigned = 0

    def skim(self, content: msgspec.Raw) -> None:
        for block in _blocks_decoder.decode(content):
            match block.type:
                case "image":
                    self.pictures += 1
                    self.count += 1
                    self.bulk += len(memoryview(block.source))
                case "document":
                    self.documents += 1
                    kind = _source_decoder.decode(block.source).type if block.source else None
                    self.count += UNSEEN_DOCUMENT if kind in ("url", "file") else 1
                case "thinking" if bytes(block.signature) in _UNSIGNED:
                    self.unsigned += 1
                case "tool_result" if memoryview(block.content)[:1] == b"[":
                    self.skim(block.content)


def _check_messages(messages: list[_Message], media: _Media) -> None:
    if not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            where = f"messages.{index}.role"
            raise InvalidRequest(f"{where} must be user or assistant", param=where)
        first = memoryview(message.content)[:1]
        if first == b"[":
            try:
                media.skim(message.content)
            except (msgspec.DecodeError, RecursionError) as error:
                where = f"messages.{index}.content"
                raise InvalidRequest(f"{where} must be a list of content blocks", param=where) from error
        elif first != b'"':
            where = f"messages.{index}.content"
            raise InvalidRequest(f"{where} must be a string or a list of blocks", param=where)


def _needs(raw: Any, media: _Media) -> frozenset[str]:
    needs: list[str] = []
    if raw.tools:
        needs.append("tools")
    if raw.thinking is not None and raw.thinking.type in ("enabled", "adaptive"):
        needs.append("reasoning")
    if media.pictures:
        needs.append("vision")
    if media.documents:
        needs.append("documents")
    form = raw.output_format or (raw.output_config and raw.output_config.format)
    if form is not None and form.type == "json_schema":
        needs.append("json_schema")
    return frozenset(needs) if needs else _NOTHING


_NOTHING: frozenset[str] = frozenset()
