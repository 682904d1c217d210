"""What a conversation is known by from turn to turn, so that it stays on one deployment and the prompt cache there warm."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

HEARD = 1024
"""Bytes of a body that is no conversation, or has no words in it."""
_INSTRUCTIONS = ("system", "developer")


class _Opening(msgspec.Struct):
    """Where the formats have what is said; the first turns alone are decoded."""

    messages: list[msgspec.Raw] | None = None
    contents: list[msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")
    system: msgspec.Raw = msgspec.Raw(b"null")
    instructions: msgspec.Raw = msgspec.Raw(b"null")
    systemInstruction: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815  Gemini's spelling


_opening = msgspec.json.Decoder(_Opening)
_turns = msgspec.json.Decoder(list[msgspec.Raw])


def affinity_of(key_id: str, body: bytes) -> str:
    """Hash of the key, the instructions and the conversation up to its first turn that is none: later turns change nothing.
    Only words count: marks such as Anthropic's `cache_control` move from turn to turn."""
    digest = hashlib.blake2b(key_id.encode(), digest_size=8)
    try:
        words = _beginning(_opening.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = ""
    if words.strip("\0"):
        digest.update(words.encode("utf-8", "surrogatepass"))
    else:
        digest.update(body[:HEARD])  # another operation's form: alike bodies go alike
    return digest.hexdigest()


def _beginning(opening: _Opening) -> str:
    said = [
        _words(msgspec.json.decode(raw)) for raw in (opening.system, opening.instructions, opening.systemInstruction)
    ]
    turns = opening.messages or opening.contents
    if turns is None:
        if not bytes(opening.input).startswith(b"["):
            return "\0".join([*said, _words(msgspec.json.decode(opening.input))])
        turns = _turns.decode(opening.input)
    for raw in turns:
        turn = msgspec.json.decode(raw)
        said.append(_words(turn))
        if not isinstance(turn, dict) or turn.get("role") not in _INSTRUCTIONS:
            break
    return "\0".join(said)


def _words(value: Any) -> str:
    """The texts in a turn, whatever the format wraps them in."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\0".join(map(_words, value))
    if isinstance(value, dict):
        return _words(value.get("content") or value.get("parts") or value.get("text") or "")
    return ""
