"""`headgate import litellm FILE`: another gateway's configuration as ours, and what of it we cannot say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, plain, say, show_json

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Carry over from another gateway.")


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
        # It may hold keys that stood in theirs: for its owner's eyes.
        with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as written:
            os.fchmod(written.fileno(), 0o600)  # one that was there had a mode of its own
            written.write(made.text)
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


@app.command("litellm-keys")
def litellm_keys(
    file: Annotated[Path, typer.Argument(help="The answer of its GET /key/list?return_full_object=true, as JSON.")],
    config: Annotated[Path | None, typer.Option(help="Configuration; left out: headgate.yaml if it is there.")] = None,
    data_dir: Annotated[Path, typer.Option(help="The gateway's data directory.")] = Path(".headgate"),
    wider: Annotated[bool, typer.Option(help="Also keys that may do more here than there.")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Makes LiteLLM's virtual keys here, with their limits and budgets: whoever has one goes on using it. A key whose
    bounds cannot all be said here is not made, unless with --wider."""
    from headgate.cli.admin import Refused
    from headgate.cli.keys import Keys
    from headgate.config.importers.litellm import import_keys

    try:
        found = import_keys(file.read_bytes(), wider=wider)
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}")
    except ValueError as error:
        fail(f"{file}: {error}")
    keys, made = Keys(data_dir, config), []
    refused = [] if wider else [f"{name}: it would be wider here: {why} (--wider)" for name, why in found.wider.items()]
    for key in found.keys:
        try:
            made.append(keys.request("POST", "", key))
        except Refused as error:
            refused.append(f"{key['name']}: {error}")
    if json:
        show_json({"made": made, "refused": refused, "lost": found.lost, "wider": found.wider})
    else:
        for title, lines in (("not made", refused), ("not carried over", found.lost)):
            for line in lines:
                sys.stderr.write(f"{title}: {plain(line)}\n")
        if wider:
            for name, why in found.wider.items():
                sys.stderr.write(f"wider than there: {plain(f'{name}: {why}')}\n")
        say(f"{len(made)} keys made of {len(made) + len(refused)}")
    if refused:
        raise SystemExit(1)
