"""`headgate check`: exit 0 valid, 1 not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from headgate.cli.output import fail, say, show_json

app = typer.Typer(add_completion=False)
NO_PRICE = (
    "its price is not known: where a hard budget applies it is refused (402 price_unknown); give it a price, or set "
    "budgets.unknown_price_usd_per_mtok"
)


@app.command()
def check(
    file: Annotated[Path, typer.Argument()] = Path("headgate.yaml"),
    strict: Annotated[bool, typer.Option(help="Models without a key are errors too.")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Is the configuration valid? Every problem with its line, column and, where a name is wrong, a suggestion."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.engine.compile import Compiler

    try:
        loaded = load_file(file, environment())
        compiler = Compiler(environment())
        missing, unpriced = compiler.missing(loaded.config), compiler.unpriced(loaded.config)
    except ConfigError as error:
        problems = [one if one.file else replace(one, file=str(file)) for one in error.problems]
        if json:
            show_json({"ok": False, "problems": problems})
            raise SystemExit(1) from error
        fail(str(ConfigError(problems)))
    bad = strict and bool(missing)
    if json:
        show_json(
            {
                "ok": not bad,
                "notices": loaded.notices,
                "no_key": missing,
                "no_price": unpriced,
                "models": list(loaded.config.models),
            }
        )
    else:
        for notice in loaded.notices:
            say(f"notice: {notice}")
        for name, reason in missing.items():
            say(f"{'error' if strict else 'notice'}: {file}: models.{name}: {reason}, it is skipped")
        for name in unpriced:
            say(f"notice: {file}: models.{name}: {NO_PRICE}")
        say(f"{file}: {'not ' if bad else ''}ok, {len(loaded.config.models)} models")
    if bad:
        raise SystemExit(1)
