"""Simulated embeddings: hashed bags of words, so that texts that share words lie near each other."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Any

DIMENSIONS = 1536


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Unit vector of `text`, the same on every call."""
    out = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.blake2b(word.encode(), digest_size=16).digest()
        for index in range(0, 16, 4):
            place, sign = struct.unpack_from("<HH", digest, index)
            out[place % dimensions] += 1.0 if sign & 1 else -1.0
    length = math.sqrt(sum(value * value for value in out)) or 1.0
    return [value / length for value in out]


def answer(request: dict[str, Any], model: str) -> dict[str, Any] | None:
    """The body of POST /embeddings; None where the request is none."""
    given = request.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        return None
    if isinstance(texts[0], int):
        texts = [texts]  # one text as token numbers
    texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in texts]
    dimensions = int(request.get("dimensions") or DIMENSIONS)
    packed = request.get("encoding_format") == "base64"
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        values = vector(text, dimensions)
        raw = struct.pack(f"<{dimensions}f", *values)
        shown = base64.b64encode(raw).decode() if packed else values
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = sum((len(text) + 3) // 4 for text in texts)
    return {
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
