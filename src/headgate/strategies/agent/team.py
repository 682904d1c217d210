"""The models of an agent: which one does a step, and who stands in for one that fails."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headgate.core.errors import HeadgateError
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo, Run
from headgate.strategies.fit import unfit

UNMEASURED = 0.5
"""Strength of a model that nobody has measured."""
COST_WEIGHT = 0.3
"""What the dearest candidate's price takes off its strength; the others in proportion. A judgement, not a measurement:
strengths span 0.29 to 0.85, so a third of that span decides for the cheaper one."""
STAND_INS = 2
"""Others that are asked for a role after the one that has it."""


class Chosen(msgspec.Struct, frozen=True):
    """`ranked`: best first, with its reason each; `out`: who cannot, and why."""

    ranked: dict[str, str]
    out: dict[str, str]


class Team:
    """`names` are entries of the configuration; strategies among them have no capabilities of their own and are asked only
    by name."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self._run = run
        self.names = tuple(names)

    def capabilities(self) -> set[str]:
        return {capability for name in self.names for capability in self._of(name)}

    def described(self) -> str:
        """For a planner: names, each with what it is good at."""
        return "; ".join(f"{name} ({', '.join(self._of(name))})" if self._of(name) else name for name in self.names)

    def choose(self, capability: str | None, request: Request) -> Chosen:
        """Hard filters first (usable, capability, features and window, money left), then strength less price."""
        out: dict[str, str] = {}
        fit: dict[str, tuple[ModelInfo, int | None]] = {}
        room = self._run.envelope.room()
        for name in self.names:
            info = self._run.model(name)
            why, cost = self._against(info, capability, request, room)
            if info is None or why:
                out[name] = why
            else:
                fit[name] = (info, cost)
        dearest = max((cost for _, cost in fit.values() if cost is not None), default=0) or 1
        # What nobody knows is not free: it counts as the dearest.
        share = {name: 1.0 if cost is None else cost / dearest for name, (_, cost) in fit.items()}
        worth = {name: _strength(info, capability) - COST_WEIGHT * share[name] for name, (info, _) in fit.items()}
        ranked = sorted(fit, key=lambda name: (fit[name][0].health <= 0, -worth[name]))
        reasons = {
            name: f"strength {_strength(fit[name][0], capability):.2f}, "
            + ("its price unknown" if fit[name][1] is None else f"{share[name]:.0%} of the dearest's price")
            for name in ranked
        }
        return Chosen(reasons, out)

    def stand_ins(self, name: str, request: Request, *, capability: str | None = None) -> list[str]:
        """`name`, then those that come nearest to it: models with the capability that it was chosen for, in its zone (data
        that may go to a private model may go nowhere else); those that share a capability with it first."""
        own, info = set(self._of(name)), self._run.model(name)
        zone = info.zone if info is not None else None
        ranked = [
            other
            for other in self.choose(capability, request).ranked
            if other != name and (zone is None or self._zone(other) == zone)
        ]
        ranked.sort(key=lambda other: not own & set(self._of(other)))  # stable: the ranking stays within each half
        return [name, *ranked[:STAND_INS]]

    def _zone(self, name: str) -> str | None:
        info = self._run.model(name)
        return None if info is None else info.zone

    def _of(self, name: str) -> tuple[str, ...]:
        info = self._run.model(name)
        return info.capabilities if info is not None else ()

    def _against(
        self, info: ModelInfo | None, capability: str | None, request: Request, room: int | None
    ) -> tuple[str, int | None]:
        """(why it cannot be chosen, "" where it can; its worst cost, None where its price is unknown)."""
        if info is None:
            return "no model but a strategy: only by its name", 0
        if not info.usable:
            return info.reason, 0
        if capability is not None and capability not in info.capabilities:
            return f"has not the capability {capability}", 0
        if (problem := unfit(request, info)) is not None:
            return problem.message, 0
        try:
            cost = self._run.plan(info.name, request).worst_case
        except HeadgateError as error:
            return error.message, 0
        if room is not None and cost is not None and cost > room:
            return "costs more than the run may still spend", cost
        return "", cost


def _strength(info: ModelInfo, capability: str | None) -> float:
    """Measured for this very capability, or over all tasks, or nothing known."""
    return info.strength.get(capability or "*", info.strength.get("*", UNMEASURED))
