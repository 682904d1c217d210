"""`headgate insight tasks`: what is asked for, and how each model did on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.books import moment, pairs, read
from headgate.cli.output import bold, dim, fail, say, show_json, table

if TYPE_CHECKING:
    from headgate.insight.taskmix import Served, TaskMix

app = typer.Typer(add_completion=False, no_args_is_help=True)
BARS = " ▁▂▃▄▅▆▇█"


@app.callback()
def insight() -> None:
    """What the ledger teaches."""


@app.command()
def tasks(
    since: Annotated[str, typer.Option(help="24h, 7d, today, 2026-11-01, ... (UTC)")] = "7d",
    until: Annotated[str, typer.Option()] = "now",
    where: Annotated[
        list[str] | None, typer.Option(help="requested=auto, strategy, key, team, model or task; may be repeated.")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="The rule table that the log suggests, as a diff of the file.")
    ] = False,
    config: Annotated[Path | None, typer.Option()] = None,
    data_dir: Annotated[Path, typer.Option()] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """The mix of tasks over time; per task and model quality (as feedback and judges scored it), cost, latency, failure."""
    import msgspec

    from headgate.core.clock import SYSTEM
    from headgate.insight.taskmix import task_mix

    now = SYSTEM.time()
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
    limits = pairs(where or [], "--where")
    if suggest:
        _suggest(config or Path("headgate.yaml"), data_dir, start, end, json=json)
        return
    found = read(config, data_dir, lambda store: task_mix(store, since=start, until=end, where=limits))
    if json:
        show_json(msgspec.to_builtins(found))
    elif not found.requests:
        say("nothing was asked in that time")
    else:
        _show(found)


def _show(found: TaskMix) -> None:
    say(f"{found.requests} requests · ${found.cost_usd} · saved ${found.saved_usd}".replace("$-", "-$"))
    days = [day.day for day in found.days]
    for task in found.tasks:
        most = max(day.tasks.get(task.task, 0) for day in found.days) or 1
        line = "".join(BARS[-(-day.tasks.get(task.task, 0) * 8 // most)] for day in found.days)
        failed = f" · {task.failed} failed" if task.failed else ""
        span = f" {dim(f'{days[0]} to {days[-1]}')}" if len(days) > 1 else ""
        name, share = bold(task.task or "not routed"), f"{task.requests} ({task.share:.0%})"
        say(f"\n{name} · {share}{failed} · ${task.cost_usd} · {line}{span}")
        heads = ["model", "requests", "quality", "scored", "cost", "latency", "calls failed"]
        say(table([_row(row) for row in task.models], heads))


def _row(row: Served) -> list[str]:
    quality = row.quality
    return [
        row.model,
        str(row.requests),
        "-" if quality is None else f"{quality.mean:.2f} ({quality.low:.2f} to {quality.high:.2f})",
        str(row.scored),
        f"${row.cost_usd}" if row.cost_usd is not None else "unknown" if row.requests else "-",
        f"{row.latency_ms:.0f} ms" if row.requests else "-",
        f"{row.calls_failed} of {row.calls}" if row.calls else "-",
    ]


def _suggest(file: Path, data_dir: Path, start: float, end: float, *, json: bool) -> None:
    import msgspec

    from headgate.cli.replay import MOST, show, told
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.insight.log import read_log
    from headgate.insight.replay import callers_of, shown
    from headgate.insight.suggest import suggest

    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        fail(f"{file}: {error.strerror}: a suggestion is a change of the file")

    async def ask(store):
        rows = await read_log(store, since=start, until=end, limit=MOST)
        return rows, await store.learned(), callers_of(await store.keys())

    rows, learned, callers = read(file, data_dir, ask)
    try:
        found = suggest(rows, text, str(file), environment(), learned=learned, callers=callers)
    except ConfigError as error:
        fail(str(error))
    if json:
        out = msgspec.to_builtins(msgspec.structs.replace(found, replay=None))
        show_json({**out, "replay": None if found.replay is None else shown(found.replay)})
        return
    for one in found.suggestions:
        say(f"{bold(f'{one.entry}.{one.task} → {one.model}')}: {one.because}")
        say(dim(f"  {told(one.quality)}"))
    if found.replay is None:
        say("no change of the rules is borne out by this log")
    else:
        say(f"\n{found.diff}")
        say(bold("What it would have changed"))
        show(found.replay)
    for name, why in found.silent.items():
        say(dim(f"{name}: {why}"))
