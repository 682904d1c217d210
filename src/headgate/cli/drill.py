"""`headgate drill`: breaks simulated providers on purpose and measures every strategy."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import bold, dim, fail, say, show_json, table

app = typer.Typer(add_completion=False)


@app.command()
def drill(
    requests: Annotated[int | None, typer.Option(min=1, help="Per strategy: 2,000, or 300 with --sockets.")] = None,
    seed: int = 1,
    strategies: Annotated[str, typer.Option(help="Only these, separated by commas.")] = "",
    sockets: Annotated[
        bool, typer.Option("--sockets", help="In real time over real connections: faster and worse weather.")
    ] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the figures too (needs the extra `plot`).")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Another configuration over the demo's simulated providers.")
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(help="Write the decision matrix to this file: 20,000 requests per strategy, and more."),
    ] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Availability, latency, cost and attempts of each strategy while simulated providers fail as real ones do."""
    from headgate.cli.demo import simulated_environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.drill import drills, show

    env = simulated_environment()
    file = config or Path(str(files("headgate.config") / "example.yaml"))
    try:
        found = load_file(file, env).config
        if matrix is not None:
            _write_matrix(matrix, file, requests or 20_000, seed, env, png)
            return
        make = drills.short_drill if sockets else drills.long_drill
        setting = make(found, env, requests=requests or (300 if sockets else 2000), seed=seed)
        only = [name.strip() for name in strategies.split(",") if name.strip()]
        report = drills.run(
            setting, sockets=sockets, only=only, done=lambda arm: None if json else say(dim(f"{arm.name} done"))
        )
    except (ConfigError, ValueError, OSError) as error:
        fail(str(error))
    if png is not None:
        _draw(report, png)
    if json:
        show_json(report)
        return
    say()
    say(table([show.row(arm) for arm in report.arms], show.HEADS))
    say(f"\n{bold('failed requests')}")
    for line in show.bars(report.arms):
        say(line)
    say()
    for line in show.about(report):
        say(dim(line))
    if png is not None:
        say(f"drawn: {png}")


def _draw(report, png: Path) -> None:
    from headgate.drill.show import plot

    try:
        plot(report, png)
    except ModuleNotFoundError:
        fail("drawing needs matplotlib: pip install 'headgate[plot]'")


def _write_matrix(out: Path, file: Path, requests: int, seed: int, env: dict[str, str], png: Path | None) -> None:
    from headgate.drill.matrix import measured, page

    figures = measured(file, env, requests=requests, seed=seed, tell=lambda words: say(dim(words)))
    if png is not None:
        _draw(figures.virtual, png)
    out.write_text(page(figures, png.name if png is not None else None), encoding="utf-8")
    say(f"written: {out}")
