"""What simulated models say. `mind` decides; the others know sums, tasks, tools, schemas, an orchestrator's roles, and
the answers that tests script."""

from headgate.simulator.minds.mind import MARK, Mind, Thought, shown_thinking, signature, texts_of
from headgate.simulator.minds.scripts import Rule, Said, Scripts

__all__ = ["MARK", "Mind", "Rule", "Said", "Scripts", "Thought", "shown_thinking", "signature", "texts_of"]
