"""The cheap model first; a dearer one where the answer does not hold."""

from headgate.strategies.cascade.accuracy import Accuracy
from headgate.strategies.cascade.cascade import Cascade
from headgate.strategies.cascade.verify import Accept, Consistency, JudgeBar, Verifier

__all__ = ["Accept", "Accuracy", "Cascade", "Consistency", "JudgeBar", "Verifier"]
