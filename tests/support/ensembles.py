"""Recorded answers played through the real engine: members say what real models said, judges what real judges did."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from headgate.simulator import script as s
from headgate.simulator.inprocess import run_virtually
from headgate.simulator.wire import Call
from headgate.strategies.ensemble.fence import fenced
from support.virtual import VirtualGateway, answer

DATA = Path(__file__).parents[1] / "data" / "ensembles" / "dev.jsonl.gz"
TURBO = "gpt-4-turbo/v2.0522"
RESAMPLES = 10_000
PANELS = {
    "ranks 1 to 3": slice(0, 3),
    "ranks 1 to 5": slice(0, 5),
    "ranks 1 to 8": slice(0, 8),
    "ranks 2 to 4": slice(1, 4),
    "ranks 2 to 6": slice(1, 6),
    "ranks 5 to 9": slice(4, 9),
    "ranks 12 to 16": slice(11, 16),
}
"""Which of a task's models sit together, by their rank on the half that is not played."""
_FENCED = re.compile(r"(<<<[0-9a-f]{16}>>>)\n(.*?)\n\1", re.DOTALL)
Row = dict[str, Any]


@cache
def rows(task: str) -> list[Row]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if row["task"] == task]


def half(row: Row) -> int:
    """Which of two halves a record is in: what is measured on one is used on the other."""
    return hashlib.sha256(row["id"].encode()).digest()[0] & 1


def ranked(task: str, on: int) -> list[tuple[str, float]]:
    """The models with their mean score on one half, best first. For wildbench those that gpt-4-turbo judged, by it."""
    known = [row for row in rows(task) if half(row) == on]
    names = list(known[0]["outputs"])

    def worth(row: Row, name: str) -> float | None:
        if task != "wildbench":
            return row["outputs"][name]["score"]
        found = row["outputs"][name]["judges"].get(TURBO)
        return None if found is None else found / 10

    means: dict[str, float] = {}
    for name in names:
        values = [value for row in known if (value := worth(row, name)) is not None]
        if len(values) > len(known) // 2:
            means[name] = sum(values) / len(values)
    return sorted(means.items(), key=lambda pair: -pair[1])


def log_odds(right: float) -> float:
    """A member's weight by how often it is right, in [0.01, 4]."""
    right = min(max(right, 0.01), 0.99)
    return round(min(4.0, max(0.01, math.log(right / (1 - right)))), 4)


@dataclass
class Played:
    """One record: what the incumbent's answer is worth and what the ensemble's, 0 to 1; who was chosen."""

    id: str
    incumbent: float
    ensemble: float
    switched: bool


def play(
    records: Sequence[Row], weights: dict[str, float], settings: str, *, judge: str = "", quality: bool = False
) -> list[Played]:
    """Every record through a gateway of its own configuration. `settings`: of the ensemble, YAML. `judge`: whose recorded
    verdicts are played (llmbar). `quality`: the strongest has `role: incumbent`, the others are its peers."""
    names = {f"m{number}": name for number, name in enumerate(weights)}
    incumbent = max(weights, key=lambda name: weights[name])

    def member(short: str, name: str) -> str:
        role = f", role: {'incumbent' if name == incumbent else 'peer'}" if quality else ""
        return f"{{model: {short}, weight: {weights[name]}{role}}}"

    listed = ", ".join(member(short, name) for short, name in names.items())
    entries = "".join(f"  {short}: {{provider: openai, upstream: {short}}}\n" for short in [*names, "judge"])
    text = (
        f'providers: {{openai: {{base_url: "http://one/v1"}}}}\nmodels:\n{entries}'
        f"  panel: {{ensemble: {{members: [{listed}], {settings}}}}}\n"
    )

    async def main() -> list[Played]:
        it = VirtualGateway(text)
        out: list[Played] = []
        for row in records:
            for short, name in names.items():
                it.fake.on(short, answer(row["outputs"][name]["text"], model=short))
            it.fake.on("judge", _Judge(row, judge))
            heard = await it.ask("panel", messages=[{"role": "user", "content": row["prompt"] or row["id"]}])
            assert heard.status == 200, heard.body
            winner = names[heard.details["ensemble"]["winner"]]
            assert heard.text == row["outputs"][winner]["text"]
            out.append(Played(row["id"], _worth(row, incumbent), _worth(row, winner), winner != incumbent))
        it.ledger.check()
        return out

    return run_virtually(main())


def _worth(row: Row, name: str) -> float:
    if row["task"] == "llmbar":
        return float(row["label"] == name)
    return row["outputs"][name]["score"]


class _Judge:
    """Finds the candidates in the judge's prompt, and says of them what the recorded judge said."""

    def __init__(self, row: Row, judge: str) -> None:
        self._row = row
        self._judge = judge

    def __call__(self, call: Call) -> s.Script:
        prompt = json.loads(call.body)["messages"][-1]["content"]
        bodies = {_body(output["text"]): name for name, output in self._row["outputs"].items()}
        order = [bodies[shown] for _, shown in _FENCED.findall(prompt)]
        assert order, "a candidate that nobody wrote"
        return answer(self._pair(order) if self._judge else self._score(order), model="judge")

    def _score(self, order: list[str]) -> str:
        found = self._row["outputs"][order[0]]["judges"].get(TURBO)
        return "no number" if found is None else f"{found:g}"

    def _pair(self, order: list[str]) -> str:
        said = self._row["verdicts"][self._judge]["".join(order).lower()]
        return "no verdict" if said is None else "T" if said == "tie" else "AB"[order.index(said)]


def _body(text: str) -> str:
    return fenced(text, "<<<>>>").removeprefix("<<<>>>\n").removesuffix("\n<<<>>>")


@dataclass(frozen=True)
class Difference:
    """Of means, in points of a hundred, with a paired bootstrap interval of 95 %."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def difference(played: Sequence[Played], *, seed: int = 7) -> Difference:
    """Ensemble less incumbent. Records are drawn with replacement, both scores of a record together."""
    values = np.array([100 * (one.ensemble - one.incumbent) for one in played])
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Difference(float(values.mean()), float(low), float(high))


def crossed(
    task: str, ranks: slice | Sequence[str], settings: str, *, equal: bool = False, quality: bool = False
) -> list[Played]:
    """A panel by rank (or by name): chosen and weighted on each half, played on the other."""
    out: list[Played] = []
    for on in (0, 1):
        order = ranked(task, on)
        chosen = order[ranks] if isinstance(ranks, slice) else [pair for pair in order if pair[0] in ranks]
        weights = {name: 1.0 if equal else log_odds(right) for name, right in chosen}
        out += play([row for row in rows(task) if half(row) != on], weights, settings, quality=quality)
    return out
