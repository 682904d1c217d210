"""Splits traffic between entries and compares them: who gets which arm, what came of it, and when it must stop."""

from headgate.strategies.experiment.experiment import Arm, Experiment

__all__ = ["Arm", "Experiment"]
