"""docs/decision-matrix.md: which phase is worth its price, the field's figures beside those of a drill."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from headgate.config.load import load_file, references
from headgate.config.model import Config
from headgate.drill import drills, show
from headgate.drill.measure import Figures, agree

DAYS = 365.25 / 12
SCALES = (1_000, 10_000, 100_000)
"""Requests a day that the monthly cost is worked out for."""
SOCKET_REQUESTS = 400
SOCKET_GAP = 0.1
"""Seconds between requests: few enough for one process that plays clients, gateway and providers."""
QUALITY_REQUESTS = 2_000
PUBLISHED = {
    "single": ("99 %", "–"),
    "fallback": ("99.9 %", "–"),
    "route": ("99.9 %", "+4 % over the best single model at most, or 31.7 % cheaper at its quality (LLMRouterBench)"),
    "ensemble": (
        "99.95 %",
        "+12 to +18 points on sums (self-consistency); nothing from mixing in weaker models (Self-MoA)",
    ),
    "agent": ("99.99 %", "–"),
}
"""By kind: the availability that the field promises for the phase, and the gain in quality that papers report."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The drills behind the page: the long one, the same weather on both clocks, and fair weather."""

    virtual: drills.Report
    sockets: drills.Report
    twin: drills.Report
    fair: drills.Report
    lines: dict[str, int]
    models: dict[str, int]
    seed: int
    requests: int


def measured(
    file: Path, env: dict[str, str], *, requests: int, seed: int, tell: Callable[[str], None] = lambda words: None
) -> Measured:
    """Runs them all: minutes. Raises ConfigError, ValueError."""
    config = load_file(file, env).config

    def run(name: str, setting: drills.Setting, *, sockets: bool = False) -> drills.Report:
        return drills.run(setting, sockets=sockets, done=lambda arm: tell(f"{name}: {arm.name}"))

    short = drills.short_drill(config, env, requests=SOCKET_REQUESTS, seed=seed, gap=SOCKET_GAP)
    return Measured(
        virtual=run("virtual clock", drills.long_drill(config, env, requests=requests, seed=seed)),
        fair=run("fair weather", drills.fair_weather(config, env, requests=QUALITY_REQUESTS, seed=seed)),
        twin=run("the short drill, virtual", short),
        sockets=run("the short drill, sockets", short, sockets=True),
        lines=_lines(file.read_text(encoding="utf-8")),
        models={name: len(_models(config, name)) for name in config.models},
        seed=seed,
        requests=requests,
    )


def page(found: Measured, picture: str | None) -> str:
    """The page as Markdown."""
    right = {arm.name: arm for arm in found.fair.arms}
    out = [
        "# Which phase is worth its price",
        "",
        "Written by `headgate drill --matrix docs/decision-matrix.md --png docs/figures/drill.png`, not by hand "
        f"(seed {found.seed}). Everything measured here is measured on **simulated** providers through the real engine: "
        "availability, calls and the ratios between strategies carry over to real ones as far as the weather does; quality "
        "is that of simulated models with the demo's skills and says what a strategy makes of its models, not how good "
        "real ones are. What is published is what the field promises for each phase (availability) and what papers report "
        "(quality); a dash where we know of no figure.",
        "",
        "| phase | scale: calls per request | monthly cost, US$ at 1,000 / 10,000 / 100,000 requests a day | availability: "
        "published | measured | quality: published | measured | complexity |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(arm, right[arm.name], found) for arm in found.virtual.arms),
        "",
        "Cost is by the demo's prices for the drill's short questions, all attempts included; one whose usage was never "
        "seen is charged at its worst case. Late, truncated and wrong answers count as failed; the drill's table tells "
        "them apart. Quality is the share of right answers in fair weather. Complexity is the lines of the entry in the "
        "demo's configuration and how many models it may call. Agents work without their tools here: real tools take real "
        "time, which the virtual clock does not know.",
        "",
        *_beside_the_chain(found.virtual.arms),
        "## The drill",
        "",
        *show.about(found.virtual),
        "",
        *_markdown(found.virtual),
        "",
        "The naive chain is the loop that applications write by hand (each model once, in order), run in our own engine "
        "without breaker, Retry-After memory, retries and rescue, but with the same time limits and the same eye for "
        "failures: a hand-made loop mostly has neither. All strategies meet the same requests and the same faults.",
        "",
        *([f"![failures, latency, cost and calls by strategy](figures/{picture})", ""] if picture else []),
        "## The two clocks",
        "",
        "The same short and much worse weather on both clocks: over real sockets on both sides of the gateway, and on the "
        "virtual clock. They agree where the two shares could be one (two-sample test, 95 %).",
        "",
        *show.about(found.sockets),
        "",
        "| strategy | virtual | sockets | 95 % interval over sockets | agree |",
        "|---|---|---|---|---|",
        *(_agreement(one, two) for one, two in zip(found.twin.arms, found.sockets.arms, strict=True)),
    ]
    return "\n".join(out) + "\n"


def _beside_the_chain(arms: Sequence[Figures]) -> list[str]:
    """Whether what we promise holds: nothing above phase 1 is less available than phase 2."""
    chain = next((arm for arm in arms if arm.kind == "fallback"), None)
    said = [
        f"{arm.name} {_against(arm, chain)}" for arm in arms if chain and arm.phase.isdigit() and int(arm.phase) > 2
    ]
    if chain is None or not said:
        return []
    return [
        f"No phase above 2 should be less available than phase 2 ({chain.name}, {chain.availability:.3%}, "
        f"{chain.fates['error']} errors). Measured: {'; '.join(said)}. (Two-sample test, 95 %.)",
        "",
    ]


def _against(arm: Figures, chain: Figures) -> str:
    errors = arm.fates["error"]
    told = f"({arm.availability:.3%}, {errors} error{'' if errors == 1 else 's'})"
    if agree(arm, chain):
        side = "above" if arm.availability > chain.availability else "below"
        even = arm.availability == chain.availability
        return f"{told} is as available" if even else f"{told} is {side} it by no more than chance would"
    return f"{told} is more available" if arm.availability > chain.availability else f"{told} is **less available**"


def _row(arm: Figures, right: Figures, found: Measured) -> str:
    promised, gain = PUBLISHED.get(arm.kind, ("–", "–"))
    monthly = " / ".join(f"{arm.cost_usd / arm.requests * scale * DAYS:,.0f}" for scale in SCALES)
    work = "a loop in each application"
    if arm.kind != "naive":
        work = f"{_count(found.lines[arm.name], 'line')}, {_count(found.models[arm.name], 'model')}"
    cells = [
        f"{arm.phase} {arm.name}",
        f"{arm.calls:.2f}",
        monthly,
        promised,
        f"{arm.availability:.3%} ({arm.low:.3%} to {arm.high:.3%})",
        gain,
        f"{right.fates['ok'] / right.requests:.1%}",
        work,
    ]
    return f"| {' | '.join(cells)} |"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _agreement(one: Figures, two: Figures) -> str:
    verdict = "yes" if agree(one, two) else "**no**"
    return f"| {one.name} | {one.availability:.1%} | {two.availability:.1%} | {two.low:.1%} to {two.high:.1%} | {verdict} |"


def _markdown(report: drills.Report) -> list[str]:
    heads = f"| {' | '.join(show.HEADS)} |"
    return [heads, "|" + "---|" * len(show.HEADS), *(f"| {' | '.join(show.row(arm))} |" for arm in report.arms)]


def _lines(text: str) -> dict[str, int]:
    """Lines of each entry of `models:`, without comments of their own and blank ones."""
    section = re.search(r"^models:\s*\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    counts: dict[str, int] = {}
    name = ""
    for line in section.group(1).splitlines() if section else ():
        if not line.strip() or line.strip().startswith("#"):
            continue
        if head := re.match(r"  ([\w.:/-]+):", line):
            name = head.group(1)
        if name:
            counts[name] = counts.get(name, 0) + 1
    return counts


def _models(config: Config, name: str) -> set[str]:
    """The physical models that an entry may come to call."""
    entry = config.models.get(name)
    if entry is None or entry.provider is not None or entry.deployments is not None:
        return {name}
    return set().union(*(_models(config, to) for _, to in references(entry)))
