"""`headgate config schema|show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, show_json

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The configuration's schema, and what is in force.")


@app.command()
def schema(
    json: Annotated[bool, typer.Option("--json", help="The same: the output is JSON anyway.")] = False,
) -> None:
    """The JSON Schema of the file, for editors."""
    from headgate.config.schema import json_schema

    show_json(json_schema())


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument()] = None,
    json: Annotated[bool, typer.Option("--json", help="The same: the output is JSON anyway.")] = False,
) -> None:
    """The configuration with every default filled in; secrets are shown as ***."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.engine.zero import config_from_environment

    try:
        path = file or (Path("headgate.yaml") if Path("headgate.yaml").exists() else None)
        config = load_file(path, environment()).config if path else config_from_environment(environment())
    except ConfigError as error:
        fail(str(error))
    show_json(config.model_dump(mode="json", by_alias=True))
