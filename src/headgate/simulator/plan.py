"""A fault plan: when which simulated model is broken, and how, drawn from a seed.

Every provider is down for exactly the planned share of the time (`Weather.up`), in outages of realistic length. Part of
that time is shared: the beta-factor model of common-cause failures (NUREG/CR-4780), where a shared event (a cloud's
region, a wave of callers that have left a rival) hits each provider by chance. What correlation this makes is told by
`FaultPlan.correlation`. Beside the outages there are slow periods, periods of rate limits, and single calls that go
wrong at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from random import Random

import msgspec

from headgate.core.clock import Clock
from headgate.simulator.app import Simulator
from headgate.simulator.breaks import Break

OUTAGES = (("503", 0.35), ("500", 0.25), ("hang", 0.15), ("overloaded", 0.15), ("refuse", 0.10))
"""How a provider that is down shows it, and how often."""
MISHAPS = (
    "cut_stream",
    "reset_stream",
    "stall",
    "truncate_finish",
    "error_in_200",
    "malformed_stream",
    "error_in_stream",
)
"""What happens to single calls of a provider that is well, each as often as the others."""


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How bad it is. Durations are means in seconds, drawn from exponential distributions.

    up                share of the time that each provider is up
    outage            an outage lasts so long
    common, hit       the share of a provider's down time that it shares, and the chance that a shared event hits it
    slow, limited     shares of the time in slow periods and in periods of rate limits, and `slow_for`, `limited_for`
    factor            how many times slower slow is
    refused           share of the calls that a rate limit refuses in its period
    mishap, wrong, cut_short  shares of the calls that break on their way, say something wrong, or end by length
    """

    up: float = 0.99
    outage: float = 240.0
    common: float = 0.2
    hit: float = 0.5
    slow: float = 0.01
    slow_for: float = 300.0
    factor: float = 8.0
    limited: float = 0.005
    limited_for: float = 60.0
    refused: float = 0.7
    retry_after: float = 5.0
    mishap: float = 0.003
    wrong: float = 0.0005
    cut_short: float = 0.0005


class Spell(msgspec.Struct, frozen=True):
    """`model` is broken so from `start` to `end` (seconds from the plan's beginning)."""

    model: str
    start: float
    end: float
    broken: Break
    shared: bool = False


class FaultPlan(msgspec.Struct, frozen=True):
    """`spells` may overlap: outages go before rate limits, those before slow periods (see `changes`)."""

    models: tuple[str, ...]
    horizon: float
    seed: int
    weather: Weather
    outages: tuple[Spell, ...]
    others: tuple[Spell, ...]

    @staticmethod
    def drawn(models: Sequence[str], horizon: float, *, seed: int, weather: Weather = Weather()) -> FaultPlan:
        """The same for the same seed, models and weather."""
        luck = Random(f"{seed}:plan")
        shared = _shared(models, horizon, weather, luck)
        outages, others = list(shared), list[Spell]()
        for model in models:
            mine = [spell for spell in shared if spell.model == model]
            left = (1 - weather.up) * horizon - sum(spell.end - spell.start for spell in mine)
            taken = [(spell.start, spell.end) for spell in mine]
            for start, end in _periods(left, weather.outage, horizon, taken, luck):
                outages.append(Spell(model, start, end, _outage(luck)))
            for start, end in _periods(weather.limited * horizon, weather.limited_for, horizon, [], luck):
                limited = Break("429", share=weather.refused, retry_after=weather.retry_after)
                others.append(Spell(model, start, end, limited))
            for start, end in _periods(weather.slow * horizon, weather.slow_for, horizon, [], luck):
                others.append(Spell(model, start, end, Break("slow", factor=weather.factor)))
        return FaultPlan(tuple(models), horizon, seed, weather, tuple(outages), tuple(others))

    def mishaps(self) -> tuple[Break, ...]:
        """What happens to single calls at any time."""
        each = self.weather.mishap / len(MISHAPS)
        single = [Break(mode, share=each, after=2) for mode in MISHAPS]
        said = [Break("wrong", share=self.weather.wrong), Break("length", share=self.weather.cut_short)]
        return (*single, *said)

    def changes(self) -> list[tuple[float, str, Break | None]]:
        """What becomes of whom, in order of time: the worst that is planned for a model at a time is in force."""
        ranked = (*self.outages, *sorted(self.others, key=lambda spell: spell.broken.mode != "429"))
        out: list[tuple[float, str, Break | None]] = []
        for model in self.models:
            mine = [spell for spell in ranked if spell.model == model]
            now: Break | None = None
            for at in sorted({edge for spell in mine for edge in (spell.start, spell.end)}):
                then = next((spell.broken for spell in mine if spell.start <= at < spell.end), None)
                if then is not now:
                    out.append((at, model, then))
                    now = then
        return sorted(out, key=lambda change: change[0])

    def down(self, model: str) -> float:
        """Share of the time that this one is down."""
        return _length(_united(self._outages_of(model))) / self.horizon

    def all_down(self, models: Iterable[str]) -> float:
        """Share of the time that all of these are down: nothing that only asks them can be more available."""
        left: list[tuple[float, float]] = [(0.0, self.horizon)]
        for model in models:
            left = _both(left, _united(self._outages_of(model)))
        return _length(left) / self.horizon

    def correlation(self) -> float:
        """Mean phi coefficient of `down` over all pairs of models: 0 for independent outages, 1 for common ones."""
        found: list[float] = []
        for one, two in combinations(self.models, 2):
            p, q, both = self.down(one), self.down(two), self.all_down((one, two))
            spread = (p * (1 - p) * q * (1 - q)) ** 0.5
            found.append((both - p * q) / spread if spread else 0.0)
        return sum(found) / len(found) if found else 0.0

    def _outages_of(self, model: str) -> list[tuple[float, float]]:
        return [(spell.start, spell.end) for spell in self.outages if spell.model == model]


async def play(plan: FaultPlan, simulator: Simulator, clock: Clock) -> None:
    """Breaks and mends the simulator's models as planned, from now on."""
    for model in plan.models:
        simulator.models[model].mishaps = plan.mishaps()
    began = clock.monotonic()
    for at, model, broken in plan.changes():
        wait = began + at - clock.monotonic()
        if wait > 0:
            await clock.sleep(wait)
        await simulator.set_break(model, broken)


def _shared(models: Sequence[str], horizon: float, weather: Weather, luck: Random) -> list[Spell]:
    """Events that hit each model by chance, and at least one."""
    total = weather.common * (1 - weather.up) * horizon / weather.hit if weather.hit else 0.0
    spells: list[Spell] = []
    budget = dict.fromkeys(models, (1 - weather.up) * horizon)
    for start, end in _periods(total, weather.outage, horizon, [], luck):
        broken = _outage(luck)
        hit = [model for model in models if luck.random() < weather.hit] or [luck.choice(list(models))]
        for model in hit:
            until = min(end, start + budget[model])
            if until > start:
                budget[model] -= until - start
                spells.append(Spell(model, start, until, broken, shared=True))
    return spells


def _outage(luck: Random) -> Break:
    mode = luck.choices([name for name, _ in OUTAGES], [weight for _, weight in OUTAGES])[0]
    return Break(mode, running=mode != "hang")


def _periods(
    total: float, mean: float, horizon: float, taken: list[tuple[float, float]], luck: Random
) -> list[tuple[float, float]]:
    """Periods of `total` seconds altogether, apart from each other and from those `taken`."""
    if total <= 0:
        return []
    drawn = [luck.expovariate(1 / mean) for _ in range(max(1, round(total / mean)))]
    stretch = total / sum(drawn)
    busy, out = list(taken), list[tuple[float, float]]()
    for length in sorted((one * stretch for one in drawn), reverse=True):
        start = _free(busy, length, horizon, luck)
        busy.append((start, start + length))
        out.append((start, start + length))
    return sorted(out)


def _free(busy: list[tuple[float, float]], length: float, horizon: float, luck: Random) -> float:
    """A start from which `length` seconds are free; raises ValueError where the plan is too full to find one."""
    if length <= horizon:
        for _ in range(1000):
            start = luck.uniform(0, horizon - length)
            if all(start + length <= one or end <= start for one, end in busy):
                return start
    raise ValueError("the faults planned do not fit into the time; make them fewer or shorter")


def _united(periods: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for start, end in sorted(periods):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _both(one: list[tuple[float, float]], two: list[tuple[float, float]]) -> list[tuple[float, float]]:
    pairs = ((max(a, c), min(b, d)) for a, b in one for c, d in two)
    return [(start, end) for start, end in pairs if start < end]


def _length(periods: Iterable[tuple[float, float]]) -> float:
    return sum(end - start for start, end in periods)


__all__ = ["MISHAPS", "OUTAGES", "FaultPlan", "Spell", "Weather", "play"]
