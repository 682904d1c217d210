"""Which conversation a request belongs to."""

from __future__ import annotations

import hashlib

from headgate.core.chat import ChatRequest, text_of


def conversation_of(content: ChatRequest, key_id: str) -> tuple[str, str]:
    """(the conversation, how far it is) as hashes: how it began stays the same from turn to turn. How far it is are its
    user's turns and the count of all messages: what a tool gives back takes it on, without a word of the user's."""
    turns = [text_of(message.content) for message in content.messages if message.role == "user"]
    system = next((text_of(m.content) for m in content.messages if m.role in ("system", "developer")), "")
    begins = "\0".join([key_id, system[:2000], turns[0][:2000] if turns else ""])
    return hashed(begins), hashed("\0".join([str(len(content.messages)), *turns]))


def hashed(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
