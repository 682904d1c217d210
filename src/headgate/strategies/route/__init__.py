"""Classify the request, send it to the best model for its task."""

from headgate.strategies.route.learning import Learning
from headgate.strategies.route.route import Route, Settings
from headgate.strategies.route.rules import Hours, Rule

__all__ = ["Hours", "Learning", "Route", "Rule", "Settings"]
