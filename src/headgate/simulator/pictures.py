"""Simulated images and speech: the answers of doors that carry no conversation.

An image is one grey pixel and says what it used; a speech says nothing, as OpenAI's does, and is a second of nearly silent
sound per 20 characters."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from headgate.core.usage import Usage
from headgate.simulator import tokens

IMAGE_TOKENS = 272
"""Of one small image of low quality at OpenAI."""
_SAMPLES = 8000
_LONGEST = 4096


def images(request: dict[str, Any]) -> tuple[dict[str, Any], Usage] | None:
    """The body of POST /images/generations and what it used; None where the request is none."""
    prompt, number = request.get("prompt"), request.get("n") or 1
    if not isinstance(prompt, str) or not isinstance(number, int) or not 1 <= number <= 10:
        return None
    usage = Usage(input=tokens.count(prompt), output=IMAGE_TOKENS * number)
    picture = base64.b64encode(_PIXEL).decode()
    told = {"input_tokens": usage.input, "output_tokens": usage.output, "total_tokens": usage.input + usage.output}
    return {"created": 0, "data": [{"b64_json": picture}] * number, "usage": told}, usage


def speech(request: dict[str, Any]) -> bytes | None:
    """The body of POST /audio/speech, a WAV; None where the request is none."""
    text = request.get("input")
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST:
        return None
    sound = bytes(128 + at % 2 for at in range(len(text) * _SAMPLES // 20))
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _SAMPLES, _SAMPLES, 1, 8)
    data = form + struct.pack("<4sI", b"data", len(sound)) + sound
    return struct.pack("<4sI4s", b"RIFF", 4 + len(data), b"WAVE") + data


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PIXEL = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\x80"))
    + _chunk(b"IEND", b"")
)
