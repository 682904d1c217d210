"""The drills that there are: the long one on the virtual clock, the short one for both clocks, and fair weather."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from headgate.config.model import Config, Timeout
from headgate.drill.arms import Arm, arms_of, chain_of
from headgate.drill.measure import Figures, figures
from headgate.drill.questions import Traffic, questions
from headgate.drill.stage import Run, Setting, run_sockets, run_virtual
from headgate.simulator.demo import MODELS, at_speed
from headgate.simulator.plan import FaultPlan, Weather

PATIENT = Timeout.model_validate({"connect": "5s", "first_token": "10s", "idle": "10s", "total": "25s"})
HASTY = Timeout.model_validate({"connect": "1s", "first_token": "1s", "idle": "1s", "total": "3s"})
SHORT = Weather(
    up=0.9, outage=2.0, slow=0.03, slow_for=2.0, limited=0.03, limited_for=2.0, retry_after=1.0,
    mishap=0.02, wrong=0.005, cut_short=0.005,
)  # fmt: skip
"""Much worse weather, in less time: what happens in months has to happen in seconds to be seen on a real clock."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says of the faults: shares of the time, and the mean correlation of outages."""

    seed: int
    hours: float
    weather: Weather
    correlation: float
    all_down: float
    """Share of the time that every model of the chain is down: no chain of them can be more available."""
    outages: int
    patience: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    clock: str
    """virtual | sockets"""
    plan: Plan | None
    arms: tuple[Figures, ...]

    @property
    def requests(self) -> int:
        return sum(arm.requests for arm in self.arms)


def long_drill(config: Config, env: dict[str, str], *, requests: int, seed: int) -> Setting:
    """Realistic weather over `requests` times 13 s; the models' mistakes are only those of the plan."""
    return _setting(config, env, requests, seed, Traffic(), Weather(), timeout=PATIENT, patience=60.0)


def short_drill(config: Config, env: dict[str, str], *, requests: int, seed: int, gap: float = 0.05) -> Setting:
    """Weather and models in a hurry: one request every `gap` seconds."""
    traffic = Traffic(gap=gap, burst=1.0, within=gap)
    return _setting(config, env, requests, seed, traffic, SHORT, timeout=HASTY, patience=8.0, speed=8.0)


def fair_weather(config: Config, env: dict[str, str], *, requests: int, seed: int) -> Setting:
    """No faults, and models with the demo's own skills: how often is what is said right?"""
    setting = _setting(config, env, requests, seed, Traffic(), Weather(), timeout=PATIENT, patience=60.0)
    return msgspec.structs.replace(setting, plan=None, models=MODELS)


def _setting(
    config: Config,
    env: dict[str, str],
    requests: int,
    seed: int,
    traffic: Traffic,
    weather: Weather,
    *,
    timeout: Timeout,
    patience: float,
    speed: float = 1.0,
) -> Setting:
    asked = tuple(questions(requests, seed=seed, traffic=traffic))
    horizon = max(asked[-1].at, requests * traffic.gap)
    return Setting(
        config=config,
        env=env,
        models=tuple(msgspec.structs.replace(at_speed(model, speed), skill={"general": 1.0}) for model in MODELS),
        plan=FaultPlan.drawn([model.name for model in MODELS], horizon, seed=seed, weather=weather),
        asked=asked,
        timeout=timeout,
        patience=patience,
        seed=seed,
    )


def run(
    setting: Setting,
    *,
    sockets: bool = False,
    only: Sequence[str] = (),
    done: Callable[[Figures], None] = lambda found: None,
) -> Report:
    """Every arm, or those named in `only`. Raises ValueError for names that there are not."""
    arms = arms_of(setting.config)
    names = {arm.name for arm in arms}
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"no such strategy: {', '.join(unknown)}; there are: {', '.join(arm.name for arm in arms)}")
    chosen = [arm for arm in arms if not only or arm.name in only]
    found: list[Figures] = []
    for ran in _runs(setting, chosen, sockets):
        found.append(figures(ran))
        done(found[-1])
    return Report(clock="sockets" if sockets else "virtual", plan=_told(setting), arms=tuple(found))


def _runs(setting: Setting, arms: Sequence[Arm], sockets: bool) -> Iterator[Run]:
    play = (lambda arm: asyncio.run(run_sockets(setting, arm))) if sockets else partial(run_virtual, setting)
    yield from map(play, arms)


def _told(setting: Setting) -> Plan | None:
    plan = setting.plan
    if plan is None:
        return None
    return Plan(
        seed=plan.seed,
        hours=plan.horizon / 3600,
        weather=plan.weather,
        correlation=plan.correlation(),
        all_down=plan.all_down(name for name in chain_of(setting.config) if name in plan.models),
        outages=len(plan.outages),
        patience=setting.patience,
    )
