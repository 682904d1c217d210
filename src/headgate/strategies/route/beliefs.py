"""What a route believes of its models, per task: quality, cost and latency, each shrunk to what is known of the model as a
whole, and that to the shipped prior. One cell never stands alone: a handful of answers moves it a little, hundreds move it
far.

    quality   Beta: pseudo-answers at the prior moved by the model's own record over all tasks, then the cell's, as far as
              cells are trusted: each answer shows whether its cell foretold it better than the model's record did
    cost      log(actual / predicted): normal, shrunk to the model's, that to the route's, that to 0
    latency   log seconds: normal, shrunk to the model's, that to the live figure
    hints     regenerated, abandoned: how much more seldom than the route's average; never a score of their own

Old evidence fades: a model that changed behind its name is learned anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

SUITED, UNSUITED = 0.85, 0.7
"""Quality assumed where nothing was measured: a model whose capabilities name the task, and one whose do not."""
MEASURED, ASSUMED = 20.0, 10.0
"""Pseudo-answers that a published figure is worth, and that an assumption is."""
GLOBAL = 40.0
"""Answers of a model over all tasks at which half of its deviation from the prior is believed."""
LOCAL = 8.0
"""The same for the logs of cost and latency, of a cell and of a model."""
HINTS = 60.0
TRUST = 2.0
"""How much cells are trusted at first: so many squared deviations, as of 200 answers of cells that are a tenth off."""
DECAY = 0.998
"""Weight of a model's answers after one more of it: half a voice after about 350."""


LEAST_TRUST = 0.5
"""Above it a cell's own figure is nearer to what comes than the model's record is; below, the record alone counts."""


class Prior(msgspec.Struct, frozen=True):
    """`weight` in pseudo-answers."""

    mean: float
    weight: float


class Beta(msgspec.Struct, frozen=True):
    """Belief about a share. `count` is what was seen of it, without the prior."""

    a: float
    b: float
    count: float = 0.0

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    @property
    def deviation(self) -> float:
        total = self.a + self.b
        return math.sqrt(self.a * self.b / (total * total * (total + 1)))


class _Cell:
    __slots__ = ("answers", "cost", "costs", "excess", "hinted", "hints", "latencies", "latency", "score")

    def __init__(self) -> None:
        self.answers = self.score = self.excess = 0.0
        self.costs = self.cost = 0.0
        self.latencies = self.latency = 0.0
        self.hints = self.hinted = 0.0

    def sums(self) -> list[float]:
        return [round(getattr(self, name), 6) for name in self.__slots__]

    def add(self, sums: list[float]) -> None:
        for name, value in zip(self.__slots__, sums, strict=True):
            setattr(self, name, getattr(self, name) + value)

    def fade(self, decay: float) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) * decay)


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """The sums of one `Beliefs`, each in the order of a cell's fields."""

    cells: list[tuple[str, str, list[float]]]
    models: list[tuple[str, list[float]]]
    route: list[float]
    trust: tuple[float, float]
    hints: tuple[float, float]


class Beliefs:
    """Of one route; outlives reloads."""

    def __init__(self, *, decay: float = DECAY) -> None:
        """`decay` 1: nothing fades, for figures that were collected in no order."""
        self._decay = decay
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._models: dict[str, _Cell] = {}
        self._route = _Cell()
        self._agreed = self._claimed = TRUST
        self._bad = self._hinted = 0.0

    # -- kept and added up -------------------------------------------------------------------------------------------
    def pack(self) -> Packed:
        return Packed(
            cells=[(task, model, cell.sums()) for (task, model), cell in self._cells.items()],
            models=[(model, cell.sums()) for model, cell in self._models.items()],
            route=self._route.sums(),
            trust=(self._agreed - TRUST, self._claimed - TRUST),
            hints=(self._bad, self._hinted),
        )

    def add(self, packed: Packed) -> None:
        """What another process saw, as if it had been seen here."""
        for task, model, sums in packed.cells:
            self._cells.setdefault((task, model), _Cell()).add(sums)
        for model, sums in packed.models:
            self._models.setdefault(model, _Cell()).add(sums)
        self._route.add(packed.route)
        self._agreed += packed.trust[0]
        self._claimed += packed.trust[1]
        self._bad += packed.hints[0]
        self._hinted += packed.hints[1]

    # -- what was seen -----------------------------------------------------------------------------------------------
    def score(self, task: str, model: str, score: float, prior: Prior, *, weight: float = 1.0) -> None:
        """An answer's worth, 0 to 1: feedback, a judge, a check that failed. `prior` is the cell's, so that the model's
        own cell learns how much better than expected it is."""
        whole, local = self._means(task, model, prior)
        self._agreed = (self._agreed - TRUST) * self._decay + (score - whole) * (local - whole) * weight + TRUST
        self._claimed = (self._claimed - TRUST) * self._decay + (local - whole) ** 2 * weight + TRUST
        for cell in self._both(task, model):
            cell.fade(self._decay)
            cell.answers += weight
            cell.score += weight * score
            cell.excess += weight * (score - prior.mean)

    def revise(self, task: str, model: str, change: float) -> None:
        """A score that was given before is another one now."""
        for cell in self._both(task, model):
            cell.score += change
            cell.excess += change

    def answered(self, task: str, model: str, *, predicted: int = 0, cost: int = 0, seconds: float = 0.0) -> None:
        """What an answer took: nano-US$ beside what was predicted, seconds to its first content; 0 where not known."""
        cell, whole = self._both(task, model)
        if predicted > 0 and cost > 0:
            ratio = math.log(cost / predicted)
            for one in (self._route, cell, whole):
                one.costs += 1.0
                one.cost += ratio
        if seconds > 0:
            length = math.log(seconds)
            for one in (cell, whole):
                one.latencies += 1.0
                one.latency += length

    def hint(self, task: str, model: str, *, bad: bool) -> None:
        """An implicit sign. Most answers get none, so only the difference to the route's average says anything."""
        self._bad = self._bad * self._decay + bad
        self._hinted = self._hinted * self._decay + 1.0
        usual = self._bad / self._hinted
        for cell in self._both(task, model):
            cell.hinted += 1.0
            cell.hints += usual - bad

    # -- what is believed --------------------------------------------------------------------------------------------
    def quality(self, task: str, model: str, prior: Prior) -> Beta:
        whole, local = self._means(task, model, prior)
        seen, trust = self.answers(task, model), self.trust
        mean = min(max(whole + trust * (local - whole), 0.02), 0.98)
        weight = prior.weight + trust * seen
        return Beta(mean * weight, (1 - mean) * weight, seen)

    @property
    def trust(self) -> float:
        """Share of a cell's deviation from its model's record that later answers bore out, 0 to 1. Less
        than half is none: under a budget the smallest difference orders requests."""
        found = self._agreed / self._claimed
        return min(found, 1.0) if found >= LEAST_TRUST else 0.0

    def rely(self, trust: float) -> None:
        """Trust that was measured elsewhere: on whole sources left out."""
        self._agreed, self._claimed = trust * 1e9, 1e9

    def _means(self, task: str, model: str, prior: Prior) -> tuple[float, float]:
        """(by the model's record over all tasks, by the cell's own)."""
        whole, cell = self._models.get(model), self._cells.get((task, model))
        mean = prior.mean
        if whole is not None:
            mean += whole.excess / (whole.answers + GLOBAL) + whole.hints / (whole.hinted + HINTS)
        mean = min(max(mean, 0.02), 0.98)
        if cell is None:
            return mean, mean
        local = (mean * prior.weight + cell.score) / (prior.weight + cell.answers)
        return mean, min(max(local + cell.hints / (cell.hinted + HINTS), 0.0), 1.0)

    def cost_factor(self, task: str, model: str) -> float:
        """What to multiply a predicted cost by."""
        usual = self._route.cost / (self._route.costs + LOCAL)  # else the models that were used would look cheap
        return math.exp(self._shrunk(task, model, "costs", "cost", usual))

    def seconds(self, task: str, model: str, live: float | None) -> float | None:
        """Expected time to first content; None where nothing is known."""
        whole = self._models.get(model)
        if live is None and (whole is None or not whole.latencies):
            return None
        assert live is not None or whole is not None
        base = math.log(live) if live else whole.latency / whole.latencies  # type: ignore[union-attr]
        return math.exp(self._shrunk(task, model, "latencies", "latency", base))

    def answers(self, task: str, model: str) -> float:
        cell = self._cells.get((task, model))
        return cell.answers if cell is not None else 0.0

    def table(self) -> Mapping[tuple[str, str], float]:
        """(task, model) → answers whose worth is known."""
        return {key: cell.answers for key, cell in self._cells.items() if cell.answers}

    def _shrunk(self, task: str, model: str, count: str, total: str, base: float) -> float:
        for cell in (self._models.get(model), self._cells.get((task, model))):
            if cell is not None:
                base = (base * LOCAL + getattr(cell, total)) / (LOCAL + getattr(cell, count))
        return base

    def _both(self, task: str, model: str) -> tuple[_Cell, _Cell]:
        cell, whole = self._cells.get((task, model)), self._models.get(model)
        if cell is None:
            cell = self._cells[task, model] = _Cell()
        if whole is None:
            whole = self._models[model] = _Cell()
        return cell, whole
