"""`headgate serve`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, say

app = typer.Typer(add_completion=False)
DEFAULT_FILE = Path("headgate.yaml")


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration; left out: headgate.yaml if it is there.")] = None,
    host: str = "127.0.0.1",
    port: int = 4100,
    admin_port: int = 4101,
    data_dir: Annotated[Path, typer.Option(help="Everything the process writes.")] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")] = False,
) -> None:
    """Run the gateway. With no file at all, the provider keys in the environment make the configuration."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.core.errors import StorageUnavailable
    from headgate.server.serve import Options, Process

    if config is None and DEFAULT_FILE.exists():
        config = DEFAULT_FILE
    options = Options(config=config, host=host, port=port, admin_port=admin_port, data_dir=data_dir, env=environment())
    try:
        process = Process(options)
    except ConfigError as error:
        fail(str(error))
    except StorageUnavailable as error:
        fail(error.message)
    if not process.house.snapshot.entries:
        fail("no model to serve: set a provider key (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) or give --config FILE")

    async def ready(running: Process) -> None:
        announce(running, as_json=json)

    run_process(process, ready)


def announce(process, *, as_json: bool = False) -> None:
    from headgate.cli.output import show_json

    house = process.house
    if as_json:
        found = {"ready": process.url, "models": list(house.snapshot.entries)}
        show_json(found if process.first_key is None else {**found, "first_key": process.first_key})
        return
    if process.first_key is not None:
        say(f"the first key, shown only now: {process.first_key}")
    if house.governor.open:
        say("no virtual key exists: clients of this machine are served whatever key they send")
    skipped = [f"{m.name} ({m.missing})" for m in house.snapshot.models() if m.missing]
    if skipped:
        say(f"skipped: {', '.join(skipped)}")
    admin = process.admin
    say(
        f"console {admin.url}"
        + (f"  admin token: {admin.token}" if admin.token_is_new else "  (sign in with the admin token)")
    )
    say(f"ready {process.url}")


def run_process(process, ready) -> None:
    """The event loop: uvloop where it is installed."""
    from headgate.core.errors import StorageUnavailable

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    try:
        with runner:
            runner.run(process.run(ready))
    except* StorageUnavailable as group:
        error = group.exceptions[0]
        fail(error.message if isinstance(error, StorageUnavailable) else str(error))
    except* OSError as group:
        fail(f"cannot listen: {group.exceptions[0]}")
