"""What a fit gains on what it has not seen."""

from __future__ import annotations

import msgspec


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """`before`, `after`: how well the shipped figures and the fitted ones do on rows left out of the fit; `gain` is by how
    much better, with its 95 % interval."""

    rows: int
    sources: int
    held_out: str
    """sources | rows: what was left out of the fit, each in its turn."""
    before: float
    after: float
    gain: float
    low: float
    high: float
