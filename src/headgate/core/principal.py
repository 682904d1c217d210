"""Who asks."""

from __future__ import annotations

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The identity behind a virtual key, or the local operator where a loopback plane has no keys.

    `models` and `doors` None = all allowed. `zone` confines to models of that zone. Lower priority is shed first.
    """

    key_id: str = "local"
    name: str = "local"
    user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    models: frozenset[str] | None = None
    doors: frozenset[str] | None = None
    zone: str | None = None
    priority: int = 0
    admin: bool = False


LOCAL = Principal()
