"""The recorded exchanges of OpenAI's chat format, whoever the provider is."""

from collections.abc import Iterator
from typing import Any

from support.corpus import select

OTHERS = ("cohere.chat", "ollama.chat", "ollama_cloud.chat")
"""Native formats whose name ends alike."""
NO_ANSWER = "pai-9c3f56f39d"
"""A test server's echo that was recorded under this format's path."""


def recorded(*, kind: str | None = None, ok: bool | None = None, sample: int = 1) -> Iterator[dict[str, Any]]:
    for row in select("*.chat", "*.openai_chat", kind=kind, ok=ok, sample=sample):
        if row["api"] not in OTHERS and row["id"] != NO_ANSWER:
            yield row
