"""`headgate keys`: through the admin API of the running gateway, or on its store when none runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from headgate.cli.admin import NoGateway, Refused, try_admin
from headgate.cli.output import bold, dim, fail, plain, say, show_json, table

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Virtual keys.")
DATA_DIR = Annotated[Path, typer.Option(help="The gateway's data directory.")]
CONFIG = Annotated[Path | None, typer.Option(help="Configuration; left out: headgate.yaml if it is there.")]
JSON = Annotated[bool, typer.Option("--json")]
HERE = Path(".headgate")


@app.command()
def create(  # noqa: PLR0913  typer reads options from parameters
    name: Annotated[str, typer.Argument(help="What it is for.")],
    user: str | None = None,
    team: str | None = None,
    tag: Annotated[list[str] | None, typer.Option(help="Carried by every request; may be repeated.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="May be asked for (`claude-*`); may be repeated. Left out: all.")
    ] = None,
    door: Annotated[list[str] | None, typer.Option(help="chat, responses, messages, gemini, embeddings.")] = None,
    zone: Annotated[str | None, typer.Option(help="Confined to models of this zone.")] = None,
    priority: Annotated[int, typer.Option(help="Lower ones are shed first.")] = 0,
    expires: Annotated[str | None, typer.Option(help="From now (30d), or a date.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens a minute.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests at a time.")] = None,
    daily: Annotated[str | None, typer.Option(help="Hard budget in US$ a day.")] = None,
    weekly: Annotated[str | None, typer.Option(help="A week.")] = None,
    monthly: Annotated[str | None, typer.Option(help="A month.")] = None,
    total: Annotated[str | None, typer.Option(help="For ever.")] = None,
    data_dir: DATA_DIR = HERE,
    config: CONFIG = None,
    json: JSON = False,
) -> None:
    """Make a key. It is shown once; only its hash is stored."""
    given: dict[str, Any] = {
        "name": name,
        "user": user,
        "team": team,
        "tags": tag,
        "models": model,
        "doors": door,
        "zone": zone,
        "priority": priority,
        "expires": expires,
        "limits": _given(requests_per_minute=rpm, tokens_per_minute=tpm, concurrent=concurrent),
        "budgets": _given(daily=daily, weekly=weekly, monthly=monthly, total=total),
    }
    books = Keys(data_dir, config)
    made = books.ask("POST", "", {name: value for name, value in given.items() if value is not None})
    _show_made(made, as_json=json)
    if not json and len(books.ask("GET", "")) == 1:
        say(dim("the first key: until now every client of this machine was served, from now on a request needs a key"))


@app.command("list")
def list_keys(data_dir: DATA_DIR = HERE, config: CONFIG = None, json: JSON = False) -> None:
    """All keys, the newest first. Their secrets are nowhere to be found."""
    keys = Keys(data_dir, config).ask("GET", "")
    if json:
        show_json(keys)
    elif not keys:
        say("no key yet")
    else:
        heads = ["id", "name", "key", "state", "user", "team", "models", "limits", "budgets", "created"]
        say(table([_row(key) for key in keys], heads))


@app.command()
def revoke(id: str, data_dir: DATA_DIR = HERE, config: CONFIG = None, json: JSON = False) -> None:
    """End a key now: on every replica within seconds."""
    found = Keys(data_dir, config).ask("POST", f"/{quote(id, safe='')}/revoke")
    if json:
        show_json(found)
    else:
        say(f"revoked {found['id']} ({plain(found['name'])})")


@app.command()
def rotate(
    id: str,
    overlap: Annotated[str | None, typer.Option(help="How long the old one goes on; left out: 1h.")] = None,
    data_dir: DATA_DIR = HERE,
    config: CONFIG = None,
    json: JSON = False,
) -> None:
    """A successor with the same rights, limits and budgets; the old key goes on for the overlap."""
    body = {} if overlap is None else {"overlap": overlap}
    _show_made(Keys(data_dir, config).ask("POST", f"/{quote(id, safe='')}/rotate", body), as_json=json)


def _given(**values: Any) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


def _show_made(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(made)
        return
    say(bold(made["secret"]))
    say(dim(f"{made['id']}, shown only now: keep it somewhere safe"))


def _row(key: dict[str, Any]) -> list[str]:
    limits = [f"{value:,} {name.replace('_', ' ')}" for name, value in key["limits"].items()]
    budgets = [f"${float(one['limit_usd']):g} {period}" for period, one in key["budgets"].items()]
    return [
        key["id"],
        key["name"],
        key["hint"],
        key["state"],
        key["user"] or "-",
        key["team"] or "-",
        "all" if key["models"] is None else ", ".join(key["models"]),
        ", ".join(limits) or "-",
        ", ".join(budgets) or "-",
        datetime.fromtimestamp(key["created"], UTC).strftime("%Y-%m-%d %H:%M"),
    ]


class Keys:
    """Where no gateway runs, the store is free to be opened."""

    def __init__(self, data_dir: Path, config: Path | None) -> None:
        self._data_dir = data_dir
        self._config = config

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ends the command where it is refused."""
        try:
            return self.request(method, path, body)
        except Refused as error:
            fail(plain(str(error)))

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Raises Refused."""
        try:
            return try_admin(self._data_dir, method, f"/keys{path}", body)
        except NoGateway:
            return asyncio.run(self._on_the_store(method, path, body))

    async def _on_the_store(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        from headgate.config.document import environment
        from headgate.config.errors import ConfigError
        from headgate.config.load import load_file
        from headgate.config.model import Config
        from headgate.core.errors import HeadgateError
        from headgate.governance.desk import Desk
        from headgate.governance.rules import rules_of
        from headgate.server.books import open_store

        file = self._config or (Path("headgate.yaml") if Path("headgate.yaml").exists() else None)
        try:
            config = load_file(file, environment()).config if file is not None else Config()
            store = open_store(config.store, self._data_dir)
        except ConfigError as error:
            fail(str(error))
        except HeadgateError as error:
            fail(error.message)
        try:
            desk = Desk(store, rules=lambda: rules_of(config))
            id, _, verb = path.strip("/").partition("/")
            match method, verb:
                case "GET", "":
                    return await desk.keys()
                case "POST", "revoke":
                    return await desk.revoke(id, "command line")
                case "POST", "rotate":
                    return await desk.rotate(id, "command line", overlap=(body or {}).get("overlap"))
                case _:
                    return await desk.create(body or {}, "command line")
        except HeadgateError as error:
            raise Refused(error.message) from error
        finally:
            await store.aclose()
