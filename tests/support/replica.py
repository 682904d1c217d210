"""A process that learns, as tests of what is kept of it need it."""

from __future__ import annotations

from headgate.core.ports import Store
from headgate.engine.keeping import Keeper
from headgate.strategies.cascade.accuracy import Accuracy
from headgate.strategies.route.beliefs import Prior
from headgate.strategies.route.learning import Learning
from support.clock import FakeClock

PRIOR = Prior(0.7, 10.0)


class Replica:
    def __init__(self, store: Store, name: str, clock: FakeClock) -> None:
        self.learning, self.accuracy = Learning(), Accuracy()
        known = {"route:auto": self.learning, "cascade:steps": self.accuracy}
        self.keeper = Keeper(store, lambda: known, holder=name, clock=clock)

    def told(self, score: float, times: int = 1, model: str = "claude") -> None:
        for number in range(times):
            self.learning.told_late(f"{id(self)} {score} {number} {model}", "code", model, score, PRIOR)

    @property
    def answers(self) -> float:
        return self.learning.beliefs.answers("code", "claude")

    @property
    def quality(self) -> float:
        return self.learning.beliefs.quality("code", "claude", PRIOR).mean
