"""Plans, executes with models and tools, verifies, synthesises."""

from headgate.strategies.agent.agent import Agent

__all__ = ["Agent"]
