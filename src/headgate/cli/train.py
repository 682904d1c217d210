"""`headgate train`: the task classifier, fitted to one's own labelled prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.output import fail, say, show_json

app = typer.Typer(add_completion=False)


@app.command()
def train(
    labels: Annotated[
        Path, typer.Option(help='JSON lines: {"prompt": ..., "label": ..., "source": team or application}.')
    ],
    install: Annotated[bool, typer.Option("--install", help="Write the weights, if they are better.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write them whether or not.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where the weights are written.")] = Path(".headgate"),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Shows what a fit would gain on prompts it has not seen; installs it only when told. Exit code 1: it is not better."""
    import msgspec

    from headgate.insight.training import compare, packed, read_labelled, refit
    from headgate.strategies.route.learned import model

    try:
        rows = read_labelled(labels)
    except OSError as error:
        fail(f"{labels}: {error.strerror}", 2)
    except (ValueError, UnicodeDecodeError) as error:
        fail(str(error), 2)
    found = compare(rows, model())
    written: Path | None = None
    if (install and found.is_better) or force:
        fitted = refit(rows, model())
        data_dir.mkdir(parents=True, exist_ok=True)
        written = data_dir / f"tasks-{fitted.version}.npz"
        written.write_bytes(packed(fitted, rows))
    if json:
        show_json({**msgspec.to_builtins(found), "is_better": found.is_better, "written": written and str(written)})
    else:
        told = ", ".join(f"{count} {name}" for name, count in found.labels.items())
        left = "sources" if found.held_out == "sources" else "prompts"
        gain = f"gain {found.gain:+.1%} ({found.low:+.1%} to {found.high:+.1%}, 95 %)"
        say(f"{found.rows} prompts of {found.sources} sources: {told}")
        say(f"right on {left} left out: {found.before:.1%} now, {found.after:.1%} fitted; {gain}")
        if found.held_out == "rows":
            say(
                "fewer than three sources: this is what it gains on more of the same, and says nothing of other prompts"
            )
        if written is not None:
            say(f"wrote {written}; it is used by a route with\n\n  classifier: learned\n  trained: {written}")
        elif not found.is_better:
            say("not better beyond doubt: nothing is installed" if install else "not better beyond doubt")
        else:
            say("better; --install writes it")
    if not found.is_better and written is None:
        raise SystemExit(1)
