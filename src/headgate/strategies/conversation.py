"""Which conversation a request belongs to."""

from __future__ import annotations

import hashlib

from headgate.core.asked import Asked


def conversation_of(asked: Asked, key_id: str) -> tuple[str, str]:
    """(the conversation, how far it is) as hashes: how it began stays the same from turn to turn. How far it is are its
    user's turns and the count of all messages: what a tool gives back takes it on, without a word of the user's."""
    begins = "\0".join([key_id, asked.system[:2000], asked.turns[0][:2000] if asked.turns else ""])
    return hashed(begins), hashed("\0".join([str(asked.messages), *asked.turns]))


def hashed(text: str) -> str:
    """96 bits. Of long texts processors of today make SHA-256 in half of BLAKE2's time."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
