"""The skim of a chat body: what routing needs, and every check that does not need the words themselves."""

from __future__ import annotations

import re
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from headgate.core.asked import SYSTEM, Asked
from headgate.core.bounds import input_bound
from headgate.core.dialect import Peek, Quirks
from headgate.core.errors import InvalidRequest
from headgate.dialects.jsonio import FORBIDDEN, check_text, invalid, splice_string
from headgate.dialects.openai_chat.parse import MOST_MESSAGES
from headgate.dialects.openai_chat.parts import ROLES
from headgate.dialects.openai_chat.render import max_tokens_field

MOST_N = 128
MOST_TOKENS = 10**9
_FORBIDDEN_FIELDS = [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in sorted(FORBIDDEN)]


class _Message(msgspec.Struct, gc=False):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Part(msgspec.Struct, gc=False):
    """A part of list content: its kind, and how large its medium is."""

    type: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    input_audio: msgspec.Raw = msgspec.Raw()
    file: msgspec.Raw = msgspec.Raw()
    video_url: msgspec.Raw = msgspec.Raw()
    document_url: msgspec.Raw = msgspec.Raw()


class ChatPeek(Peek, kw_only=True):
    """`bare`: the body has no stream_options. `limit`: the fields in which it limits the output. `messages`: as they stand
    in the body."""

    bare: bool = True
    limit: tuple[str, ...] = ()
    messages: list[_Message] = []

    def asked(self) -> Asked | None:
        """Where the user's and the system's messages are plain strings."""
        turns: list[str] = []
        system: str | None = None
        try:
            for message in self.messages:
                if message.role == "user":
                    turns.append(_text.decode(message.content))
                elif system is None and message.role in SYSTEM:
                    system = _text.decode(message.content)
        except msgspec.ValidationError:
            return None
        return Asked(tuple(turns), system or "", len(self.messages))


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Format(msgspec.Struct):
    type: str = "text"


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | msgspec.UnsetType | None = msgspec.UNSET
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    n: int | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[msgspec.Raw] | None = None
    functions: list[msgspec.Raw] | None = None
    response_format: _Format | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    service_tier: Any = None
    headgate: dict[str, Any] | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


# One struct with the forbidden names beside the known ones: their presence is seen in the same pass.
_Body: Any = msgspec.defstruct("_Body", _FORBIDDEN_FIELDS, bases=(_Fields,), kw_only=True)
_decoder = msgspec.json.Decoder(_Body)
_text = msgspec.json.Decoder(str)
_parts_decoder = msgspec.json.Decoder(list[_Part | str])
_LIMITS = ("max_tokens", "max_completion_tokens")
_NO_LIMIT: tuple[str, ...] = ()
_limits_of = attrgetter(*_LIMITS)
_NONE_LIMITED = (None,) * len(_LIMITS)


def peek(body: bytes, *, model: str | None, stream: bool | None) -> ChatPeek:
    check_text(body)
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _explain(body, error) from error
    _check_forbidden(raw)
    if raw.input is not msgspec.UNSET:
        raise InvalidRequest("a chat request has messages or input, not both", param="input")
    limit = _NO_LIMIT
    if _limits_of(raw) != _NONE_LIMITED:
        limit = tuple([name for name in _LIMITS if getattr(raw, name) is not None])
    _check_numbers(raw, limit)
    roles = _check_roles(raw.messages)
    kinds, bulk = _check_contents(raw.messages)
    name = model if model is not None else raw.model
    if not name:
        raise InvalidRequest("you must provide a model", param="model")
    return ChatPeek(
        model=name,
        stream=bool(raw.stream) if stream is None else stream,
        include_usage=bool(raw.stream_options and raw.stream_options.include_usage),
        max_tokens=int(max([getattr(raw, name) for name in limit])) if limit else None,  # some read this one, some that
        n=raw.n or 1,
        needs=_needs(raw, kinds),
        input_bound=input_bound(max(len(body) - bulk, 0), len(raw.messages), sum(kinds.values())),
        spliceable=raw.headgate is None,
        multi_turn="assistant" in roles,
        options=raw.headgate,
        dearer="service_tier" if raw.service_tier == "priority" else None,
        bare=raw.stream_options is msgspec.UNSET,
        limit=limit,
        messages=raw.messages,
    )


def splice(body: bytes, peeked: Peek, *, model: str, quirks: Quirks) -> bytes | None:
    if not peeked.spliceable or not isinstance(peeked, ChatPeek):
        return None
    for field in peeked.limit:
        if max_tokens_field(field, quirks) != field:
            return None
    out = splice_string(body, "model", peeked.model, model)
    if out is not None and peeked.stream and not peeked.include_usage and quirks.stream_usage == "ask":
        return _ask_for_usage(out, peeked.bare)
    return out


def _ask_for_usage(body: bytes, bare: bool) -> bytes | None:
    """With include_usage set; None where the client's own stream_options say otherwise or cannot be told apart."""
    if bare:
        at = body.find(b"{") + 1
        return b'%b"stream_options":{"include_usage":true},%b' % (body[:at], body[at:])
    found = list(_OPTIONS.finditer(body))
    if len(found) != 1 or b'"include_usage"' in body:
        return None
    return b'%b"include_usage":true,%b' % (body[: found[0].end()], body[found[0].end() :])


_OPTIONS = re.compile(rb'"stream_options"\s*:\s*\{(?=\s*")')


def _explain(body: bytes, error: Exception) -> InvalidRequest:
    """The skim's own words name types; the commonest mistake deserves clearer ones."""
    if "missing required field `messages`" in str(error) and b'"input"' not in body:
        return InvalidRequest("messages is missing", param="messages")
    return invalid(error)


_forbidden_of = attrgetter(*(name for name, _, _ in _FORBIDDEN_FIELDS))
_NONE_FORBIDDEN = (msgspec.UNSET,) * len(_FORBIDDEN_FIELDS)


def _check_forbidden(raw: Any) -> None:
    if _forbidden_of(raw) == _NONE_FORBIDDEN:
        return
    for name in FORBIDDEN:
        if getattr(raw, name) is not msgspec.UNSET:
            raise InvalidRequest(f"the field {name!r} is not accepted here", param=name, code="unsupported_parameter")


def _check_numbers(raw: Any, limit: tuple[str, ...]) -> None:
    for name in limit:
        value = getattr(raw, name)
        if not (1 <= value <= MOST_TOKENS and value == int(value)):
            raise InvalidRequest(f"{name} must be a whole number between 1 and {MOST_TOKENS}", param=name)
    if raw.n is not None and not 1 <= raw.n <= MOST_N:
        raise InvalidRequest(f"n must be between 1 and {MOST_N}", param="n")
    if raw.top_logprobs is not None and not 0 <= raw.top_logprobs <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20", param="top_logprobs")


def _check_roles(messages: list[_Message]) -> set[str]:
    """Those that speak. Long conversations are usual: no step of ours for each message."""
    if not messages:
        raise InvalidRequest("messages must be a list with at least one message", param="messages")
    if len(messages) > MOST_MESSAGES:
        raise InvalidRequest(f"more than {MOST_MESSAGES} messages", param="messages")
    roles = set(map(_role_of, messages))
    if not roles <= ROLES:
        index = next(index for index, message in enumerate(messages) if message.role not in ROLES)
        where = f"messages[{index}].role"
        raise InvalidRequest(f"{where} must be one of {', '.join(sorted(ROLES))}", param=where)
    return roles


def _check_contents(messages: list[_Message]) -> tuple[dict[str, int], int]:
    """(how many media of each kind, the bytes that they take: base64 is not text and must not count as tokens)."""
    kinds: dict[str, int] = {}
    bulk = 0
    firsts = [*map(_first_byte, map(memoryview, map(_content_of, messages)))]
    if _WORDS.issuperset(firsts):
        return kinds, bulk
    for index, (first, message) in enumerate(zip(firsts, messages, strict=True)):
        where = f"messages[{index}].content"
        if first == _LIST:
            bulk += _count_media(message.content, where, kinds)
        elif first not in _WORDS:
            raise InvalidRequest(f"{where} must be a string or a list", param=where)
    return kinds, bulk


_role_of, _content_of, _first_byte = attrgetter("role"), attrgetter("content"), itemgetter(0)
_WORDS, _LIST = frozenset(b'"n'), ord("[")
"""How a content begins that is a string or null, and one that is a list."""


def _count_media(content: msgspec.Raw, where: str, kinds: dict[str, int]) -> int:
    try:
        parts = _parts_decoder.decode(content)
    except msgspec.DecodeError as error:
        found = invalid(error)
        param = f"{where}{found.param or ''}"
        raise InvalidRequest(f"{where} must be a list of content parts", param=param) from error
    bulk = 0
    for part in parts:
        if isinstance(part, str) or part.type not in _NEEDS:
            continue
        kinds[part.type] = kinds.get(part.type, 0) + 1
        bulk += len(memoryview(getattr(part, part.type)))
    return bulk


def _needs(raw: Any, kinds: dict[str, int]) -> frozenset[str]:
    if not kinds and _wants_of(raw) == _NOTHING_WANTED:
        return _NOTHING
    needs: list[str] = []
    if raw.tools or raw.functions:
        needs.append("tools")
    if raw.response_format is not None and raw.response_format.type in ("json_schema", "json_object"):
        needs.append(raw.response_format.type)
    if raw.logprobs:
        needs.append("logprobs")
    if raw.n is not None and raw.n > 1:
        needs.append("n")
    if raw.modalities is not None and "audio" in raw.modalities:
        needs.append("audio_output")
    if raw.reasoning_effort not in (None, "none"):
        needs.append("reasoning")
    needs += [_NEEDS[kind] for kind in kinds]
    return frozenset(needs) if needs else _NOTHING


_NOTHING: frozenset[str] = frozenset()
_wants_of = attrgetter("tools", "functions", "response_format", "logprobs", "n", "modalities", "reasoning_effort")
_NOTHING_WANTED = (None,) * 7
_NEEDS = {
    "image_url": "vision",
    "input_audio": "audio",
    "file": "documents",
    "document_url": "documents",
    "video_url": "video",
}
