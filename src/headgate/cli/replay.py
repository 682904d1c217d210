"""`headgate replay`: yesterday's log against another configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.books import moment, read
from headgate.cli.output import bold, fail, say, show_json, table

if TYPE_CHECKING:
    from headgate.insight.estimate import Estimate
    from headgate.insight.log import Logged
    from headgate.insight.replay import Replay

app = typer.Typer(add_completion=False)
MOST = 100_000


@app.command()
def replay(
    candidate: Annotated[Path, typer.Argument(help="The file to try.")],
    config: Annotated[Path | None, typer.Option(help="The file in force; left out: headgate.yaml.")] = None,
    since: Annotated[str, typer.Option(help="24h, 7d, today, 2026-11-01, ... (UTC)")] = "24h",
    until: Annotated[str, typer.Option()] = "now",
    requests: Annotated[
        Path | None,
        typer.Option(help="Recorded chat bodies, one a line, instead of the log; both files classify them."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many requests.")] = MOST,
    data_dir: Annotated[Path, typer.Option()] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Which choices would differ, what they would cost, what they would be worth; and what a log cannot tell. No model is
    called."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.core.clock import SYSTEM
    from headgate.insight.log import read_log
    from headgate.insight.replay import Side, callers_of, shown
    from headgate.insight.replay import replay as compare

    now = SYSTEM.time()
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
    present = config or Path("headgate.yaml")
    try:
        old, new = load_file(present, environment()).config, load_file(candidate, environment()).config
    except ConfigError as error:
        fail(str(error))

    async def ask(store):
        rows = await read_log(store, since=start, until=end, limit=limit)
        return rows, await store.learned(), callers_of(await store.keys())

    rows, learned, callers = read(present, data_dir, ask) if requests is None else (_recorded(requests), (), {})
    try:
        sides = [Side(side, learned=learned, callers=callers) for side in (old, new)]
    except ConfigError as error:
        fail(str(error))
    found = compare(rows, *sides)
    if json:
        show_json(shown(found))
    elif not found.requests:
        say("nothing was asked in that time")
    else:
        show(found)
        for name in relabelled(old, new) if requests is None else ():
            say(f"{name}: the classifier differs, and prompts are not kept: the log's labels were used for both")


def _recorded(path: Path) -> list[Logged]:
    from headgate.insight.log import read_recorded

    try:
        return read_recorded(path)
    except OSError as error:
        fail(f"{path}: {error.strerror}", 2)
    except ValueError as error:
        fail(str(error), 2)


def show(found: Replay) -> None:
    from headgate.core.money import dollars

    share = f"{found.as_logged / found.compared:.0%}" if found.compared else "none"
    say(f"{found.requests} requests, {found.compared} compared; the present file chooses {share} of them as they were")
    for why, count in found.unknowable.items():
        say(f"  {count} cannot be compared: {why}")
    moved = sum(change.requests for change in found.changes)
    say(bold(f"{moved} would go elsewhere"))
    if found.changes:
        rows = [
            [
                change.task or "-",
                f"{change.before} → {change.after}",
                str(change.requests),
                _cost(change.cost_after - change.cost_before, change.unpriced),
                change.traces[0],
            ]
            for change in found.changes
        ]
        say(table(rows, ["task", "change", "requests", "cost", "for example"]))
        total = f"{_cost(found.cost_change, 0)} on ${dollars(found.cost)}"
        say(f"cost: {total}, if the other models read and write as many tokens")
    say(f"quality: {told(found.quality)}")


def told(quality: Estimate) -> str:
    """An estimate in one line."""
    counts = f"{quality.scored} scored, {quality.changed} of them changed"
    interval = ""
    if quality.mean is not None and not quality.verdict.startswith("cannot"):
        interval = f"{quality.mean:+.4f} per request ({quality.low:+.4f} to {quality.high:+.4f}, 95 %) "
    beyond = ""
    if quality.bounds is not None:
        beyond = f"; between {quality.bounds[0]:+.3f} and {quality.bounds[1]:+.3f} in any case"
    return f"{interval}{quality.verdict}{beyond} ({counts})"


def relabelled(old, new) -> list[str]:
    """Routes that would name tasks otherwise."""
    names = ("classifier", "model", "keywords", "threshold", "trained", "embedder")
    return [
        name
        for name, entry in new.models.items()
        if entry.route is not None
        and name in old.models
        and (before := old.models[name].route) is not None
        and any(getattr(before, field) != getattr(entry.route, field) for field in names)
    ]


def _cost(amount: int, unpriced: int) -> str:
    from headgate.core.money import dollars

    text = f"-${dollars(-amount)}" if amount < 0 else f"+${dollars(amount)}"
    return f"{text} ({unpriced} unknown)" if unpriced else text
