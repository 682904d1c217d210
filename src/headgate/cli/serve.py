"""`headgate serve`."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headgate.cli.output import fail, say, show_json

app = typer.Typer(add_completion=False)
DEFAULT_FILE = Path("headgate.yaml")
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")]


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration; left out: headgate.yaml if it is there.")] = None,
    host: str = "127.0.0.1",
    port: Port = 4100,
    admin_port: Port = 4101,
    data_dir: Annotated[Path, typer.Option(help="Everything the process writes.")] = Path(".headgate"),
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes on the same ports; more than one need PostgreSQL and Valkey.")
    ] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the ready line as JSON.")] = False,
) -> None:
    """Run the gateway. With no file at all, the provider keys in the environment make the configuration."""
    from headgate.config.document import environment
    from headgate.server.options import Options

    if config is None and DEFAULT_FILE.exists():
        config = DEFAULT_FILE
    options = Options(config=config, host=host, port=port, admin_port=admin_port, data_dir=data_dir, env=environment())
    if workers > 1:
        _supervise(options, workers, as_json=json)
    else:
        _serve(options, as_json=json)


def _serve(options, *, as_json: bool) -> None:
    from headgate.config.errors import ConfigError
    from headgate.core.errors import StorageUnavailable
    from headgate.server.options import NO_MODEL
    from headgate.server.serve import Process
    from headgate.server.worker import ready_of

    try:
        process = Process(options)
    except ConfigError as error:
        fail(str(error))
    except StorageUnavailable as error:
        fail(error.message)
    if not process.house.snapshot.entries:
        fail(NO_MODEL)

    async def ready(running: Process) -> None:
        announce(ready_of(running), options.data_dir, as_json=as_json)

    async def made(secret: str) -> None:
        show_first_key(secret, as_json=as_json)

    process.on_first_key = made
    run_process(process, ready)


def announce(ready, data_dir: Path, *, as_json: bool = False) -> None:
    if as_json:
        found = {"ready": ready.url, "models": ready.models}
        show_json(found if ready.first_key is None else {**found, "first_key": ready.first_key})
        return
    if ready.first_key is not None:
        show_first_key(ready.first_key)
    if ready.is_open:
        say("no virtual key exists: clients of this machine are served whatever key they send")
    if ready.skipped:
        say(f"skipped: {', '.join(ready.skipped)}")
    token = (
        f"admin token: {ready.admin_token}" if ready.admin_token else f"(admin token: in {data_dir / 'admin.token'})"
    )
    say(f"console {ready.admin}  {token}")
    say(f"ready {ready.url}")


def show_first_key(secret: str, *, as_json: bool = False) -> None:
    if as_json:
        show_json({"first_key": secret})
    else:
        say(f"the first key, shown only now: {secret}")


def run_process(process, ready) -> None:
    from headgate.core.errors import StorageUnavailable
    from headgate.server.serve import make_runner

    try:
        with make_runner() as runner:
            runner.run(process.run(ready))
    except* StorageUnavailable as group:
        error = group.exceptions[0]
        fail(error.message if isinstance(error, StorageUnavailable) else str(error))
    except* OSError as group:
        cannot_listen(group.exceptions[0])


def cannot_listen(error: BaseException) -> NoReturn:
    taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
    said = error.strerror if isinstance(error, OSError) and error.strerror else error
    fail(f"cannot listen: {said}" + ("; --port and --admin-port choose others" if taken else ""))


def _supervise(options, workers: int, *, as_json: bool) -> None:
    """Several processes, and this one to watch them."""
    import asyncio

    from headgate.config.errors import ConfigError
    from headgate.server.options import Order, read_config
    from headgate.server.supervisor import StartFailed, Supervisor, what_is_missing

    try:
        missing = what_is_missing(read_config(options).store)
    except ConfigError as error:
        fail(str(error))
    if missing is not None:
        fail(missing)
    order = Order(
        worker=0,
        config=None if options.config is None else str(options.config),
        host=options.host,
        port=options.port,
        admin_port=options.admin_port,
        data_dir=str(options.data_dir),
    )

    async def live() -> None:
        supervisor = Supervisor(order, workers)
        supervisor.on_first_key = lambda secret: show_first_key(secret, as_json=as_json)
        await supervisor.run(lambda ready: announce(ready, options.data_dir, as_json=as_json))

    try:
        asyncio.run(live())
    except StartFailed as error:
        raise SystemExit(error.code) from None
    except OSError as error:
        cannot_listen(error)
