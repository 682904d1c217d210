"""The governor of a plane without keys: everybody is the local operator and nothing is limited."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.core.ports import Grant
from headgate.core.principal import LOCAL, Principal


class _Free:
    headers: Sequence[tuple[str, str]] = ()
    is_purse = False

    def commit(self, worst: int) -> None:
        return None

    def spend(self, worst: int, actual: int) -> None:
        return None

    def settle(self, *, cost: int, tokens: int, pending: bool = False) -> None:
        return None

    def late(self, tokens: int) -> None:
        return None


FREE = _Free()
"""The grant of whoever nothing limits."""


class OpenGovernor:
    open = True

    def authenticate(self, credentials: Sequence[str]) -> Principal:
        return LOCAL

    async def admit(
        self,
        principal: Principal,
        *,
        model: str,
        door: str,
        tags: Sequence[str],
        input_tokens: int,
        output_tokens: int | None,
        worst_case: int | None,
        at: float,
    ) -> Grant:
        return FREE

    def output_cap(self, principal: Principal, tags: Sequence[str]) -> int | None:
        return None

    def guards(self, model: str, deployment: str) -> bool:
        return False

    async def enter(self, *, model: str, deployment: str, tokens: int, worst_case: int | None, at: float) -> Grant:
        return FREE
