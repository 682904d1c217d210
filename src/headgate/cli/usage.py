"""`headgate usage`: what was used and spent, by any dimension."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.books import moment, pairs, read
from headgate.cli.output import fail, say, show_json, table

app = typer.Typer(add_completion=False)


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
    from headgate.governance.spending import SUMS, csv_text, usage_rows

    if csv and json:
        fail("either --csv or --json", 2)
    now = SYSTEM.time()
    names = [name.strip() for name in by.split(",") if name.strip()]
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
    filters = pairs(where or [], "--where")
    found = read(config, data_dir, lambda store: store.usage(since=start, until=end, by=names, where=filters))
    rows = usage_rows(names, found)
    heads = [*names, *SUMS]
    if json:
        show_json(rows)
    elif csv:
        sys.stdout.write(csv_text(heads, rows))
    elif not rows:
        say("nothing was used in that time")
    else:
        say(table([[str(row[head]) or "-" for head in heads] for row in rows], [h.replace("_", " ") for h in heads]))
