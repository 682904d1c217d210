"""Several models in parallel, scored; the best chosen, voted for, or fused."""

from headgate.strategies.ensemble.ensemble import Ensemble, Member

__all__ = ["Ensemble", "Member"]
