"""Who asks."""

from __future__ import annotations

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The identity behind a virtual key, or the local operator where a loopback plane has no keys.

    `models`, `team_models` and `doors` None = all allowed; a model must be allowed by the key and by its team. `zone`
    confines to models of that zone. Lower priority is shed first.
    """

    key_id: str = "local"
    name: str = "local"
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    models: frozenset[str] | None = None
    team_models: frozenset[str] | None = None
    doors: frozenset[str] | None = None
    zone: str | None = None
    priority: int = 0
    admin: bool = False


LOCAL = Principal()
DOORS = (
    "chat", "responses", "messages", "gemini", "embeddings", "completions", "moderations", "images", "audio", "rerank",
    "files", "batches", "library",
)  # fmt: skip
"""What a key may be confined to: the doors where models are asked."""
