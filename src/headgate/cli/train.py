"""`headgate train`: the task classifier, fitted to own labelled prompts (collected from the ledger, where it keeps bodies);
what models are worth, fitted to own traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.output import fail, say, show_json

if TYPE_CHECKING:
    from headgate.insight.strengths import Tried

app = typer.Typer(add_completion=False)
MOST = 200_000


@app.command()
def train(
    labels: Annotated[
        Path | None,
        typer.Option(
            help='The classifier, to JSON lines: {"prompt": ..., "label": ..., "source": team or application}.'
        ),
    ] = None,
    embedder: Annotated[
        Path | None,
        typer.Option(help="With --labels: a local folder with a static embedding model, whose vectors are fitted too."),
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="What models are worth, to the ledger's scored answers.")
    ] = False,
    collect: Annotated[
        Path | None,
        typer.Option(
            help="Writes the ledger's kept prompts (store.bodies) here, the least sure first, for you to label: a file for "
            "--labels."
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="With --collect: at most so many prompts.")] = 500,
    config: Annotated[Path | None, typer.Option(help="With --ledger or --collect; left out: headgate.yaml.")] = None,
    since: Annotated[str, typer.Option(help="With --ledger or --collect: 30d, 2026-11-01, ... (UTC)")] = "30d",
    until: Annotated[str, typer.Option(help="With --ledger or --collect.")] = "now",
    install: Annotated[bool, typer.Option("--install", help="Write what was fitted, if it is better.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write it whether or not.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where it is written; the ledger's own, with --ledger.")] = Path(
        ".headgate"
    ),
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Shows what a fit would gain on sources it has not seen; installs it only when told. Exit code 1: it is not better."""
    if (labels is not None) + ledger + (collect is not None) != 1:
        fail(
            "one of --labels FILE (the task classifier), --ledger (what models are worth) and --collect FILE (prompts to "
            "label for --labels)",
            2,
        )
    if embedder is not None and labels is None:
        fail("--embedder is for --labels FILE", 2)
    if collect is not None:
        _collect(collect, config, since, until, most=most, data_dir=data_dir, json=json)
    elif labels is not None:
        _classifier(labels, embedder, install=install, force=force, data_dir=data_dir, json=json)
    else:
        _strengths(config, since, until, install=install, force=force, data_dir=data_dir, json=json)


# -- the task classifier -------------------------------------------------------------------------------------------------
def _classifier(labels: Path, folder: Path | None, *, install: bool, force: bool, data_dir: Path, json: bool) -> None:
    import msgspec

    from headgate.insight.training import compare, packed, read_labelled, refit
    from headgate.strategies.route.embedder import load_embedder
    from headgate.strategies.route.learned import model

    try:
        rows = read_labelled(labels)
        embedder = None if folder is None else load_embedder(folder)
    except OSError as error:
        fail(f"{labels}: {error.strerror}", 2)
    except (ValueError, UnicodeDecodeError) as error:
        fail(str(error), 2)
    found = compare(rows, model(), embedder)
    written: Path | None = None
    if (install and found.is_better) or force:
        fitted = refit(rows, model(), embedder)
        written = _write(data_dir / f"tasks-{fitted.version}.npz", packed(fitted, rows))
    if json:
        show_json({**msgspec.to_builtins(found), "is_better": found.is_better, "written": written and str(written)})
    else:
        told = ", ".join(f"{count} {name}" for name, count in found.labels.items())
        left = "sources" if found.held_out == "sources" else "prompts"
        gain = f"gain {found.gain:+.1%} ({found.low:+.1%} to {found.high:+.1%}, 95 %)"
        say(f"{found.rows} prompts of {found.sources} sources: {told}")
        say(f"right on {left} left out: {found.before:.1%} now, {found.after:.1%} fitted; {gain}")
        if (beside := found.embedder) is not None:
            more = f"gain {beside.gain:+.1%} ({beside.low:+.1%} to {beside.high:+.1%}, 95 %)"
            say(f"the same fit without the embedder: {beside.without:.1%}; with it: {more}")
            if beside.low <= 0:
                say("the embedder is not better beyond doubt: fit without it")
        if found.after <= found.commonest:
            say(f"always saying the commonest label would be right on {found.commonest:.1%}")
        if found.held_out == "rows":
            say(
                "fewer than three sources: this is what it gains on more of the same, and says nothing of other prompts"
            )
        use = f"classifier: learned\n  trained: {written}"
        _verdict(found.is_better, written, install, use if folder is None else f"{use}\n  embedder: {folder.resolve()}")
    _end(found.is_better, written)


# -- prompts to label ----------------------------------------------------------------------------------------------------
def _collect(file: Path, config: Path | None, since: str, until: str, *, most: int, data_dir: Path, json: bool) -> None:
    import os

    import msgspec

    from headgate.cli.books import moment, read
    from headgate.core.clock import SYSTEM
    from headgate.insight.collect import collect
    from headgate.strategies.route.classify import LABELS

    now = SYSTEM.time()
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)
    if file.exists():
        fail(f"{file} is there already, maybe with labels: give another name", 2)
    found = read(config, data_dir, lambda store: collect(store, since=start, until=end, looked_at=MOST, most=most))
    if not found.prompts:
        why = (
            "none was routed" if not found.looked_at else "`store: {bodies: true}` keeps prompts from then on, redacted"
        )
        fail(
            f"no prompts in the ledger since {since}: of {found.looked_at} routed requests {found.kept} are kept; {why}"
        )
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(b"".join(msgspec.json.encode(one) + b"\n" for one in found.prompts))
    except OSError as error:
        fail(f"{file}: {error.strerror}", 2)
    if json:
        show_json({**msgspec.to_builtins(found), "prompts": len(found.prompts), "written": str(file)})
        return
    say(f"{len(found.prompts)} prompts of {found.looked_at} routed requests ({found.kept} kept): {file}")
    if found.unread:
        say(f"{found.unread} could not be read: cut at the length that is kept, or no conversation")
    say(f'give each a "label" ({", ".join(LABELS)}) in the place of null; then\n\n  headgate train --labels {file}')


# -- what models are worth -----------------------------------------------------------------------------------------------
def _strengths(
    config: Path | None, since: str, until: str, *, install: bool, force: bool, data_dir: Path, json: bool
) -> None:
    import msgspec

    from headgate.cli.books import moment, read
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.core.clock import SYSTEM
    from headgate.insight.log import read_log
    from headgate.insight.replay import Side, callers_of
    from headgate.insight.strengths import attempt, scored, table_of

    now = SYSTEM.time()
    start, end = moment(since, now), moment(until, now) + (1.0 if until == "now" else 0.0)

    async def ask(store):
        rows = await read_log(store, since=start, until=end, limit=MOST)
        return rows, callers_of(await store.keys())

    try:
        settings = load_file(config or Path("headgate.yaml"), environment()).config
        log, callers = read(config, data_dir, ask)
        side = Side(settings, callers=callers)
    except ConfigError as error:
        fail(str(error))
    try:
        rows = scored(log, side)
    except ValueError as error:
        fail(str(error), 2)
    found = attempt(rows, side)
    written: Path | None = None
    if (install and found.is_better) or force:
        table = table_of(rows, side)
        body = msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n"
        written = _write(data_dir / f"strengths-{table.version}.json", body)
    if json:
        more: dict[str, Any] = {"is_better": found.is_better, "written": written and str(written)}
        show_json({**msgspec.to_builtins(found), **more})
    else:
        _show(found)
        _verdict(found.is_better, written, install, f"learn: {{strengths: {written}}}")
    _end(found.is_better, written)


def _show(found: Tried) -> None:
    from headgate.cli.replay import told

    answers = ", ".join(f"{count} of {name}" for name, count in found.answers.items())
    say(f"{found.rows} scored answers from {found.sources} sources: {answers}")
    gain = f"gain {found.gain:+.4f} ({found.low:+.4f} to {found.high:+.4f}, 95 %)"
    left = "sources" if found.held_out == "sources" else "answers"
    say(f"squared error on {left} left out: {found.before:.4f} as shipped, {found.after:.4f} fitted; {gain}")
    if found.held_out == "rows":
        say("fewer than three sources (teams, else keys): this says nothing of traffic from elsewhere")
    say(f"{found.changed} of these requests would go elsewhere; quality: {told(found.quality)}")
    if found.does_harm:
        say("replay says that these choices are worse")


# -- both ----------------------------------------------------------------------------------------------------------------
def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _verdict(is_better: bool, written: Path | None, install: bool, use: str) -> None:
    if written is not None:
        say(f"wrote {written}; it is used by a route with\n\n  {use}")
    elif not is_better:
        say("not better beyond doubt: nothing is installed" if install else "not better beyond doubt")
    else:
        say("better; --install writes it")


def _end(is_better: bool, written: Path | None) -> None:
    if not is_better and written is None:
        raise SystemExit(1)
