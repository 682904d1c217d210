"""A drill's report for people: a table and bars for the terminal, the same as a PNG."""

from __future__ import annotations

from pathlib import Path

from headgate.drill.drills import Report
from headgate.drill.measure import Figures

HEADS = ["strategy", "phase", "requests", "available", "error", "late", "truncated", "wrong",
         "p50", "p95", "p99", "US$/1000", "calls"]  # fmt: skip
WIDTH = 50


def row(arm: Figures) -> list[str]:
    fates = [str(arm.fates[fate]) for fate in ("error", "late", "truncated", "wrong")]
    times = [seconds(value) for value in (arm.p50, arm.p95, arm.p99)]
    share = f"{arm.availability:.3%}"
    return [arm.name, arm.phase, str(arm.requests), share, *fates, *times,
            f"{arm.cost_per_thousand:.2f}", f"{arm.calls:.2f}"]  # fmt: skip


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} s"


def bars(arms: tuple[Figures, ...]) -> list[str]:
    """One bar of failures per arm, as long as its share of the worst one's."""
    worst = max(1 - arm.availability for arm in arms)
    wide = max(len(arm.name) for arm in arms)
    out: list[str] = []
    for arm in arms:
        failed = 1 - arm.availability
        filled = round(WIDTH * failed / worst) if worst else 0
        bar = "█" * max(filled, 1 if failed else 0)
        out.append(f"  {arm.name.ljust(wide)}  {bar} {failed:.3%}")
    return out


def about(report: Report) -> list[str]:
    """What was done, in sentences."""
    plan = report.plan
    if plan is None:
        return ["Fair weather: no faults."]
    weather = plan.weather
    clock = "virtual clock" if report.clock == "virtual" else "real clock, over sockets"
    length = f"{plan.hours:.1f} h" if plan.hours >= 1 else f"{plan.hours * 3600:.0f} s"
    return [
        f"{report.requests} requests on the {clock}, {length} of weather for each strategy, seed {plan.seed}. "
        "Providers and answers are simulated.",
        f"Each provider is up {weather.up:.0%} of the time; {plan.outages} outages of {weather.outage:g} s on average, "
        f"{weather.common:.0%} of the down time shared (mean correlation {plan.correlation:.2f}); "
        f"all of the chain down {plan.all_down:.3%} of the time.",
        f"Slow {weather.slow:.1%} and rate limited {weather.limited:.1%} of the time; {weather.mishap:.2%} of the calls "
        f"break on their way, {weather.wrong:.2%} say something wrong, {weather.cut_short:.2%} are cut short.",
        f"Failure = error, late (over {plan.patience:g} s), truncated or wrong; the denominator is all requests.",
    ]


def plot(report: Report, out: Path) -> None:
    """Four panels. Raises ModuleNotFoundError without the extra `plot`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms = list(reversed(report.arms))
    names = [arm.name for arm in arms]
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 0.8 * len(arms) + 2.4), layout="constrained")
    (failures, latency), (cost, calls) = axes
    left = [0.0] * len(arms)
    for fate, colour in (("error", "#b03a2e"), ("late", "#ca8a04"), ("truncated", "#7c3aed"), ("wrong", "#475569")):
        share = [100 * arm.fates[fate] / arm.requests for arm in arms]
        failures.barh(names, share, left=left, color=colour, label=fate)
        left = [a + b for a, b in zip(left, share, strict=True)]
    for place, arm in enumerate(arms):
        failures.text(left[place], place, f" {arm.availability:.3%} available", va="center", fontsize=8)
    failures.set_xlim(0, max(max(left) * 1.5, 0.1))
    failures.set_title("failed requests, %")
    failures.legend(fontsize=8, loc="center right")
    for share, colour in (("p99", "#93c5fd"), ("p95", "#3b82f6"), ("p50", "#1e3a8a")):
        latency.barh(names, [getattr(arm, share) or 0.0 for arm in arms], color=colour, label=share)
    latency.set_title("seconds to the whole answer")
    latency.legend(fontsize=8)
    cost.barh(names, [arm.cost_per_thousand for arm in arms], color="#0f766e")
    cost.set_title("US$ per 1,000 requests (all attempts)")
    calls.barh(names, [arm.calls for arm in arms], color="#64748b")
    calls.set_title("calls to providers per request")
    kind = "virtual clock" if report.clock == "virtual" else "sockets"
    seed = f", seed {report.plan.seed}" if report.plan is not None else ""
    figure.suptitle(f"headgate drill: {report.requests:,} requests, simulated providers, {kind}{seed}", fontsize=10)
    figure.savefig(out, dpi=110)
    pyplot.close(figure)
