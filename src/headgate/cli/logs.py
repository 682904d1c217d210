"""`headgate logs`: requests, newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.books import clock, moment, pairs, read
from headgate.cli.output import say, show_json, table

app = typer.Typer(add_completion=False)


@app.command()
def logs(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    before: Annotated[str, typer.Option(help="Only those before: 24h, 2026-11-01, ... (UTC)")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(help="name=auto, key=..., team=..., tag=..., status=502, error=..., search=...; may be repeated."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    config: Annotated[Path | None, typer.Option()] = None,
    data_dir: Annotated[Path, typer.Option()] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Who asked for what, who answered, how long it took, what it cost."""
    import msgspec

    from headgate.core.clock import SYSTEM
    from headgate.core.money import dollars

    filters = pairs(where or [], "--where") | ({"failed": "1"} if failed else {})
    until = moment(before, SYSTEM.time()) if before else None
    found = read(config, data_dir, lambda store: store.requests(limit=limit, before=until, where=filters))
    if json:
        rows = [msgspec.to_builtins(msgspec.structs.replace(record, trace_json=None)) for record in found]
        for row in rows:
            row.pop("trace_json")
            row["cost_usd"] = None if row["cost"] is None else dollars(row["cost"])
        show_json(rows)
        return
    if not found:
        say("no request matches")
        return
    cells = [
        [
            clock(record.at),
            record.requested,
            record.model or "-",
            str(record.status),
            record.error or "-",
            record.key_id,
            f"{record.latency:.2f} s",
            "unknown" if record.cost is None else f"${dollars(record.cost)}",
            record.trace,
        ]
        for record in found
    ]
    say(table([[_plain(text) for text in row] for row in cells], HEADS))


HEADS = ["at", "requested", "model", "status", "error", "key", "latency", "cost", "trace"]


def _plain(text: str) -> str:
    """A client's words cannot steer the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:60])
