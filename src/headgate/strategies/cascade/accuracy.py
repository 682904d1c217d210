"""How often a cascade's verifier was right, and whether that is still worth its money."""

from __future__ import annotations

DECAY = 0.995
"""Weight of each verdict after one more: half a voice after about 140."""
PROBES = 20
"""While switched off, one request in so many still goes the cheap way, so that a better verifier is noticed."""


class Accuracy:
    """Outlives reloads. `right` and `total` are decayed counts of verdicts whose truth became known: by feedback, by a
    judge's sample, or because the strong model gave the answer that had been rejected."""

    def __init__(self) -> None:
        self.right = 0.0
        self.total = 0.0
        self.passed = 0
        """Requests that came by while it was off."""

    def note(self, right: bool) -> None:
        self.right = self.right * DECAY + right
        self.total = self.total * DECAY + 1.0

    @property
    def value(self) -> float | None:
        """Share of right verdicts; None while nothing is known."""
        return self.right / self.total if self.total else None

    def is_under(self, floor: float, least: int) -> bool:
        """Measured often enough, and below the floor."""
        return self.total >= least and self.right / self.total < floor

    def view(self) -> dict[str, float | None]:
        return {"accuracy": None if self.value is None else round(self.value, 3), "measured": round(self.total, 1)}
