"""`headgate experiments`: what came of them; stop one, make one, or begin it anew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from headgate.cli.admin import NoGateway, ask_admin
from headgate.cli.books import read
from headgate.cli.output import bold, dim, fail, plain, say, show_json, table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Entries with `experiment:`.")
DATA_DIR = Annotated[Path, typer.Option(help="The gateway's data directory.")]
CONFIG = Annotated[Path | None, typer.Option(help="Configuration; left out: headgate.yaml if it is there.")]
JSON = Annotated[bool, typer.Option("--json")]
HERE = Path(".headgate")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Left out: all.")] = None,
    data_dir: DATA_DIR = HERE,
    config: CONFIG = None,
    json: JSON = False,
) -> None:
    """Quality, cost and latency of each arm with intervals that hold however often you look."""
    try:
        found = ask_admin(data_dir, "GET", "/experiments")
    except NoGateway:
        found = _kept(data_dir, config)
    if name is not None:
        found = [one for one in found if one["name"] == name]
        if not found:
            fail(f"there is no experiment {name!r}")
    if json:
        show_json(found if name is None else found[0])
    elif not found:
        say("no entry of the configuration is an experiment")
    for one in found if not json else ():
        _show(one)


@app.command()
def stop(
    name: str,
    arm: Annotated[str | None, typer.Option(help="What everybody gets from now on; left out: the control.")] = None,
    because: Annotated[str, typer.Option(help="For the record.")] = "",
    data_dir: DATA_DIR = HERE,
    json: JSON = False,
) -> None:
    """Nothing is counted any more, and everybody gets one arm: on other replicas within a minute."""
    body = {"because": because} if arm is None else {"arm": arm, "because": because}
    _change(data_dir, f"/{quote(name, safe='')}/stop", body, as_json=json)


@app.command()
def start(
    name: str,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="Make it: NAME=ENTRY, with @SHARE but for the one that gets the rest (cheap=auto-cheap@5%)."),
    ] = None,
    control: Annotated[str | None, typer.Option(help="Left out: the first arm.")] = None,
    metric: Annotated[str | None, typer.Option(help="success | feedback | judge | cost | latency")] = None,
    assign_by: Annotated[str | None, typer.Option(help="key | user | conversation")] = None,
    judge: Annotated[str | None, typer.Option(help="The entry that scores a tenth of the answers.")] = None,
    judge_daily: Annotated[str, typer.Option(help="US$ that it may cost a day.")] = "1.00",
    write: Annotated[bool, typer.Option(help="Put it into the file; left out: show what would be put in.")] = False,
    config: CONFIG = None,
    data_dir: DATA_DIR = HERE,
    json: JSON = False,
) -> None:
    """Begin an experiment anew: what was counted, and a stop, are over. With --arm: make one, as an entry of the
    configuration, which a running gateway takes up by itself."""
    if not arm:
        _change(data_dir, f"/{quote(name, safe='')}/start", {}, as_json=json)
        return
    fields: dict[str, Any] = {"arms": dict(_side(one) for one in arm)}
    if len(fields["arms"]) < len(arm):
        fail("two arms have the same name", 2)
    for field, value in (("control", control), ("metric", metric), ("assign_by", assign_by)):
        if value is not None:
            fields[field] = value
    if judge is not None:
        fields["judge"] = {"model": judge, "daily": judge_daily}
    _make(name, fields, config or Path("headgate.yaml"), write=write, as_json=json)


def _side(said: str) -> tuple[str, str | dict[str, str]]:
    arm, is_there, model = said.partition("=")
    if not (arm and is_there and model):
        fail(f"{said!r} is no arm: write NAME=ENTRY or NAME=ENTRY@5%", 2)
    found = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?%)", model)
    return (arm, model) if found is None else (arm, {"model": found[1], "share": found[2]})


def _make(name: str, fields: dict[str, Any], file: Path, *, write: bool, as_json: bool) -> None:
    from headgate.config import edit
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError

    try:
        with open(file, encoding="utf-8", newline="") as given:
            text = given.read()
        made, line = edit.with_entry(text, str(file), name, "experiment", fields, environment())
        if write:
            edit.replace(file, made)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot use {file}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}", 2)
    except ConfigError as error:
        fail(str(error))
    entry = "\n".join(edit.entry_lines(name, "experiment", fields))
    if as_json:
        show_json({"written": str(file) if write else None, "line": line, "entry": entry})
    elif write:
        say(f"wrote {plain(name)} into {file}, line {line}: clients ask for the model {plain(name)!r}")
    else:
        say(entry)
        say(dim(f"for {file}, line {line}, under models: it is valid there; --write puts it in"))


def _change(data_dir: Path, path: str, body: dict[str, Any], *, as_json: bool) -> None:
    try:
        found = ask_admin(data_dir, "POST", f"/experiments{path}", body)
    except NoGateway:
        fail(f"no gateway runs on {data_dir}: an experiment is stopped and started where it runs")
    if as_json:
        show_json(found)
    else:
        _show(found)


def _kept(data_dir: Path, config: Path | None) -> list[dict[str, Any]]:
    """What the last gateway on this store has left."""
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.engine.compile import Compiler
    from headgate.engine.trials import all_results, recall

    file = config or Path("headgate.yaml")
    if not file.exists():
        fail(f"no gateway runs on {data_dir}, and there is no configuration that names experiments: give --config", 2)
    try:
        compiler = Compiler(environment())
        snapshot = compiler.compile(load_file(file, environment()).config)
    except ConfigError as error:
        fail(str(error))
    recall(compiler.memory, read(config, data_dir, lambda store: store.learned()))
    return all_results(snapshot)


def _show(one: dict[str, Any]) -> None:
    say(f"{bold(plain(one['name']))} · {one['state']} · {plain(one['says'])}")
    metrics = [m for m in ("success", "feedback", "judge", "cost", "latency") if _is_seen(one, m)]
    rows = [[*_arm(name, arm, one), *(_cell(arm, metric) for metric in metrics)] for name, arm in one["arms"].items()]
    say(table(rows, ["arm", "model", "share", "requests", "failed", "units", *metrics]))
    for name, arm in one["arms"].items():
        for metric, found in arm.get("against_control", {}).items():
            ends = f"{_part(metric, found['low'])} to {_part(metric, found['high'])}"
            mark = bold(found["verdict"]) if found["verdict"] != "undecided" else "undecided"
            line = f"  {name}, {metric}: {_part(metric, found['difference'])} ({ends}), p {found['p']:.3f}: {mark}"
            say(line if metric == one["metric"] else dim(line))
    if one["shadow"] is not None:
        _show_shadow(one["shadow"])
    say()


def _show_shadow(shadow: dict[str, Any]) -> None:
    counts = f"{shadow['asked']} mirrored, {shadow['failed']} failed, {shadow['left_out']} left out"
    say(f"shadow {bold(plain(shadow['model']))}: {counts}")
    names = [name for name in ("agreement", "schema", "length", "cost", "latency") if name in shadow["candidate"]]
    if names:
        sides = (("served", shadow["served"]), (shadow["model"], shadow["candidate"]))
        say(table([[label, *(_beside(side, name) for name in names)] for label, side in sides], ["answers", *names]))


def _beside(side: dict[str, Any], name: str) -> str:
    found = side.get(name)
    if found is None:
        return "-"
    mean = found["mean"]
    return f"{mean:.0f}" if name == "length" else _value("success" if name in ("agreement", "schema") else name, mean)


def _is_seen(one: dict[str, Any], metric: str) -> bool:
    return any(metric in arm["metrics"] for arm in one["arms"].values())


def _arm(name: str, arm: dict[str, Any], one: dict[str, Any]) -> list[str]:
    shown = f"{name} (control)" if name == one["control"] else name
    return [shown, arm["model"], f"{arm['share']:.4g}", str(arm["requests"]), str(arm["errors"]), str(arm["units"])]


def _cell(arm: dict[str, Any], metric: str) -> str:
    found = arm["metrics"].get(metric)
    if found is None:
        return "-"
    if found["low"] is None:
        return _value(metric, found["mean"])
    return f"{_value(metric, found['mean'])} ({_value(metric, found['low'])} to {_value(metric, found['high'])})"


def _value(metric: str, value: float) -> str:
    if metric == "cost":
        return f"${value:.6f}"
    if metric == "latency":
        return f"{value:.2f} s"
    return f"{value:.1%}" if metric == "success" else f"{value:.2f}"


def _part(metric: str, value: float) -> str:
    if metric not in ("cost", "latency"):
        return f"{value * 100:+.1f} points"
    return "over +1000 %" if value > 10 else f"{value:+.1%}"
