"""`headgate usage`: what was used and spent, by any dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.books import moment, pairs, read
from headgate.cli.output import fail, say, show_json, table

app = typer.Typer(add_completion=False)
SUMS = ("attempts", "failed", "input", "output", "cached", "cost_usd", "unknown_cost")


@app.command()
def usage(
    by: Annotated[
        str,
        typer.Option(
            help="Any of day, key, user, team, model, provider, deployment, role, tag, error; `` for one sum."
        ),
    ] = "model",
    since: Annotated[str, typer.Option(help="24h, 7d, today, 2026-11-01, ... (UTC)")] = "30d",
    until: Annotated[str, typer.Option()] = "now",
    where: Annotated[list[str] | None, typer.Option(help="team=red; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option()] = None,
    data_dir: Annotated[Path, typer.Option()] = Path(".headgate"),
    csv: Annotated[bool, typer.Option("--csv")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Attempts, tokens and US$. An attempt counts under each of its tags; `unknown_cost` counts those without a price."""
    from headgate.core.clock import SYSTEM
    from headgate.core.money import dollars

    if csv and json:
        fail("either --csv or --json", 2)
    now = SYSTEM.time()
    names = [name.strip() for name in by.split(",") if name.strip()]
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
    filters = pairs(where or [], "--where")
    found = read(config, data_dir, lambda store: store.usage(since=start, until=end, by=names, where=filters))
    rows = [
        {
            **dict(zip(names, row.group, strict=True)),
            "attempts": row.attempts,
            "failed": row.failed,
            "input": row.input,
            "output": row.output,
            "cached": row.cached,
            "cost_usd": dollars(row.cost),
            "unknown_cost": row.unknown_cost,
        }
        for row in found
    ]
    heads = [*names, *SUMS]
    if json:
        show_json(rows)
    elif csv:
        _print_csv(rows, heads)
    elif not rows:
        say("nothing was used in that time")
    else:
        say(table([[str(row[head]) or "-" for head in heads] for row in rows], [h.replace("_", " ") for h in heads]))


def _print_csv(rows: list[dict[str, Any]], heads: list[str]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([cell(row[head]) for head in heads])


def cell(value: Any) -> str:
    """Text that a spreadsheet would run as a formula is marked as text."""
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
