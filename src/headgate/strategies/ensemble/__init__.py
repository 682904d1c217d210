"""Several models in parallel, scored; the best chosen, voted for, or fused."""

from headgate.strategies.ensemble.ensemble import Ensemble
from headgate.strategies.ensemble.panel import Member

__all__ = ["Ensemble", "Member"]
