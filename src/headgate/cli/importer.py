"""`headgate import litellm FILE`: another gateway's configuration as ours, and what of it we cannot say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, plain, say, show_json

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Carry over from another gateway.")


@app.callback()
def _group() -> None:
    """One gateway each."""


@app.command()
def litellm(
    file: Annotated[Path, typer.Argument(help="The proxy's config.yaml.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here; left out: print.")] = None,
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Prints our file; its comments, and the standard error, list each line of the other that was not carried over."""
    from headgate.config.errors import ConfigError
    from headgate.config.importers.litellm import import_litellm

    try:
        made = import_litellm(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}")
    except ConfigError as error:
        fail(str(error))
    if output is not None:
        if output.exists() and not force:
            fail(f"{output} exists already (use --force to replace it)")
        output.write_text(made.text, encoding="utf-8")
    if json:
        show_json({"config": made.text, "lost": made.lost, "changed": made.changed})
        return
    if output is None:
        say(made.text.rstrip())
    for title, notes in (("not carried over", made.lost), ("said in another way", made.changed)):
        for note in notes:
            sys.stderr.write(f"{title}: {plain(f'{file}: {note}')}\n")
    if output is not None:
        say(f"wrote {output}: {len(made.lost)} not carried over; next: headgate check {output}")
