"""`headgate init`: a commented starter file, phase by phase."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, myself, say, show_json

app = typer.Typer(add_completion=False)


@app.command()
def init(
    file: Annotated[Path, typer.Argument()] = Path("headgate.yaml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Write a commented starter file: the example of all five phases."""
    if file.exists() and not force:
        fail(f"{file} exists already (use --force to replace it)")
    text = (files("headgate.config") / "example.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    if json:
        show_json({"written": str(file)})
    else:
        named = "" if file == Path("headgate.yaml") else f" --config {file}"
        say(f"wrote {file}: set your keys in the environment, then: {myself()} check {file} && {myself()} serve{named}")
