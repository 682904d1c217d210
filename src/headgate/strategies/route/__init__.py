"""Classify the request, send it to the best model for its task."""

from headgate.strategies.route.route import Route, Rule

__all__ = ["Route", "Rule"]
