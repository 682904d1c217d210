"""`headgate traces show ID`: one request, decision by decision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.books import clock, read
from headgate.cli.details import members, steps
from headgate.cli.output import bold, dim, fail, plain, say, show_json

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def traces() -> None:
    """Stored traces."""


@app.command()
def show(
    trace: str,
    config: Annotated[Path | None, typer.Option()] = None,
    data_dir: Annotated[Path, typer.Option()] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What was asked, chosen and tried, what it took and cost. (A request that just ended appears within a second.)"""
    from headgate.core.money import dollars
    from headgate.engine.archive import bodies_of, unpack
    from headgate.server.routes.traces import trace_view

    async def ask(store: Any) -> Any:
        return await store.request(trace, key_id=None), await store.attempts(trace)

    record, attempts = read(config, data_dir, ask)
    if record is None:
        fail(f"there is no trace {trace!r}")
    view = trace_view(unpack(record), record)
    bodies = bodies_of(record)
    if bodies is not None:
        view["bodies"] = bodies
    if json:
        show_json(view)
        return
    cost = "unknown" if record.cost is None else f"${dollars(record.cost)}"
    say(bold(f"{record.requested} → {record.model or 'nobody'}  {record.status}  {cost}  {record.latency:.2f} s"))
    say(dim(f"{clock(record.at)} UTC · {record.door} · key {record.key_id} · {record.id}"))
    for decision in view["decisions"]:
        over = f" over {', '.join(map(str, decision['over']))}" if decision.get("over") else ""
        chosen = "nothing" if decision["chosen"] is None else decision["chosen"]
        say(f"  {decision['kind']}: {chosen}{over}: {decision['because']}")
    for line in [*members(view), *steps(view)]:
        say(f"  {plain(line)}")
    for intent, outcome in attempts:
        said = "still open" if outcome is None else f"{outcome.outcome}, {outcome.state}"
        paid = "unknown cost" if outcome is None or outcome.cost is None else f"${dollars(outcome.cost)}"
        fault = f" ({outcome.error})" if outcome is not None and outcome.error else ""
        role = "" if intent.role is None else f"{intent.role}  "
        say(f"  {intent.id}  {role}{intent.deployment}  {said}{fault}  {paid}")
    for which, body in (bodies or {}).items():
        say(f"  {bold(which)} {dim('(redacted)')}\n    {plain(body)}")
