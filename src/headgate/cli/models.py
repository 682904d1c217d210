"""`headgate models`: what can be asked for, at what price."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError, URLError

import typer

from headgate.cli.client import listed, told
from headgate.cli.output import fail, no_gateway, say, show_json, table

app = typer.Typer(add_completion=False)
NO_KEY = "local"
"""What is sent where no key is given: a gateway without keys takes any."""


@app.command()
def models(
    config: Annotated[Path | None, typer.Option()] = None,
    health: Annotated[bool, typer.Option(help="Ask the running gateway how each deployment is.")] = False,
    url: Annotated[str, typer.Option(help="The running gateway.")] = "http://127.0.0.1:4100",
    key: Annotated[str, typer.Option(help="Virtual key.", envvar="HEADGATE_KEY")] = NO_KEY,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Entries with provider, window, prices (US$ per million tokens; `unknown` is not 0), protocol features and
    capabilities. --json has every kind of price and where it is from."""
    if health:
        _health(url, as_json=json)
        return
    from headgate.config.document import environment
    from headgate.config.errors import ConfigError
    from headgate.config.load import load_file
    from headgate.engine.compile import Compiler
    from headgate.engine.zero import config_from_environment

    try:
        path = config or (Path("headgate.yaml") if Path("headgate.yaml").exists() else None)
        loaded = load_file(path, environment()).config if path else config_from_environment(environment())
        snapshot = Compiler(environment()).compile(loaded)
    except ConfigError as error:
        fail(str(error))
    rows = [_row(name, snapshot, loaded.models.get(name)) for name in snapshot.entries]
    if json:
        show_json(rows)
    elif not rows:
        fail(
            f"no models: set a provider key or give --config FILE (--health asks a running gateway){_running(url, key)}"
        )
    else:
        cells = [[str(row[key] if row[key] is not None else "-") for key in _HEADS] for row in rows]
        say(table(cells, [head.replace("_", " ") for head in _HEADS]))


def _running(url: str, key: str) -> str:
    """What a gateway that runs there would serve to this key, or why it does not say; nothing where none answers."""
    try:
        offered = sorted(listed(url, key))
    except HTTPError as error:
        if error.code in (401, 403) and key == NO_KEY:
            return f"\nthe gateway at {url} wants a key: HEADGATE_KEY=hg-... headgate models, or --key hg-..."
        return f"\nthe gateway at {url} does not say what it serves: {told(error)}"
    return f"\nthe gateway at {url} serves: {', '.join(offered)}" if offered else ""


_HEADS = ["name", "kind", "provider", "upstream", "context", "input", "output", "features", "capabilities", "state"]


def _row(name: str, snapshot, entry) -> dict[str, Any]:
    """`entry`: as the configuration has it, which says where a model without a key would be."""
    model = snapshot.model(name)
    if model is None:
        strategy = snapshot.strategy(name)
        names = ", ".join(dict.fromkeys(ref.name for ref in strategy.refs()))
        blank = dict.fromkeys(_HEADS)
        return {**blank, "name": name, "kind": strategy.kind, "upstream": names, "state": "ready"}
    first = model.deployments[0] if model.deployments else (entry.deployments or [entry])[0]
    price = model.price
    return {
        "name": name,
        "kind": "single",
        "provider": first.provider,
        "upstream": first.upstream or name,
        "context": model.max_context,
        "input": _input(price),
        "output": f"{price.output / 1e9:g}" if price else "unknown",
        "prices": _prices(price),
        "features": ",".join(sorted(model.features)) if model.features else None,
        "capabilities": ",".join(model.capabilities) or None,
        "state": model.missing or "ready",
    }


def _input(price) -> str:
    """Of a model that is not paid by the token: what it is paid by."""
    if price is None:
        return "unknown"
    return f"{price.input / 1e9:g}" if price.input else price.beside_tokens() or "0"


def _prices(price) -> dict[str, Any] | None:
    """All that are known, US$ per million tokens as text (`image`: per picture, `characters`: per million of them,
    `audio_hour`: per hour); `version`: where they are from, and of when."""
    from headgate.core.money import OPTIONAL

    if price is None:
        return None
    known = {kind: amount for kind in ("input", "output", *OPTIONAL) if (amount := getattr(price, kind)) is not None}
    return {**{kind: f"{amount / 1e9:g}" for kind, amount in known.items()}, "version": price.version}


def _health(url: str, *, as_json: bool) -> None:
    import urllib.request

    import msgspec

    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            found = msgspec.json.decode(answer.read())
    except (OSError, URLError) as error:
        no_gateway(url, error)
    if as_json:
        show_json(found["models"])
        return
    rows = [
        [
            name,
            deployment,
            view["state"],
            view.get("reason") or "-",
            f"{view['recovers_in']:.1f} s" if "recovers_in" in view else "-",
        ]
        for name, model in found["models"].items()
        for deployment, view in model["deployments"].items()
    ]
    say(table(rows, ["model", "deployment", "state", "reason", "recovers in"]))
