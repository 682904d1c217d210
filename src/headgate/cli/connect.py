"""`headgate connect CLIENT [--run]`: the exact lines for each client."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from headgate.cli.output import fail, say, show_json

# ruff: noqa: E501  lines for copying stay whole

app = typer.Typer(add_completion=False)
# client -> what to set, as text with {url}, {key} and {model}; checked against each client's own documentation, 2026-11.
CLIENTS: dict[str, str] = {
    "claude-code": "export ANTHROPIC_BASE_URL={url}\nexport ANTHROPIC_AUTH_TOKEN={key}\nclaude --model {model}",
    "codex": (
        "# ~/.codex/config.toml\n"
        'model = "{model}"\nmodel_provider = "headgate"\n\n'
        '[model_providers.headgate]\nname = "Headgate"\nbase_url = "{url}/v1"\nenv_key = "HEADGATE_KEY"\nwire_api = "responses"\n'
        "# then: export HEADGATE_KEY={key}; codex"
    ),
    "openai": "export OPENAI_BASE_URL={url}/v1\nexport OPENAI_API_KEY={key}",
    "anthropic": "export ANTHROPIC_BASE_URL={url}\nexport ANTHROPIC_API_KEY={key}",
    "google": "genai.Client(api_key='{key}', http_options={{'base_url': '{url}'}})",
    "cursor": (
        "Settings → Models → Override OpenAI Base URL: {url}/v1, API key: {key}, add model {model}\n"
        "(Cursor calls from its own servers: the gateway needs an address they can reach)"
    ),
    "open-webui": "export OPENAI_API_BASE_URL={url}/v1\nexport OPENAI_API_KEY={key}",
    "cline": "provider: OpenAI Compatible · base URL: {url}/v1 · key: {key} · model: {model}",
    "continue": "models:\n  - name: Headgate\n    provider: openai\n    model: {model}\n    apiBase: {url}/v1\n    apiKey: {key}",
    "aider": "export OPENAI_API_BASE={url}/v1\nexport OPENAI_API_KEY={key}\naider --model openai/{model}",
    "librechat": (
        "endpoints:\n  custom:\n    - name: Headgate\n      apiKey: {key}\n      baseURL: {url}/v1\n      models: {{fetch: true, default: [{model}]}}"
    ),
    "langchain": "ChatOpenAI(base_url='{url}/v1', api_key='{key}', model='{model}')",
    "llamaindex": "OpenAILike(api_base='{url}/v1', api_key='{key}', model='{model}', is_chat_model=True)",
    "vercel-ai": "createOpenAICompatible({{ name: 'headgate', baseURL: '{url}/v1', apiKey: '{key}', includeUsage: true }})",
    "n8n": "OpenAI credential → Base URL: {url}/v1, API key: {key}",
    "curl": 'curl {url}/v1/chat/completions -H \'authorization: Bearer {key}\' -d \'{{"model": "{model}", "messages": [...]}}\'',
}


@app.command()
def connect(
    client: Annotated[str | None, typer.Argument(help="Left out: the list of clients.")] = None,
    url: str = "http://127.0.0.1:4100",
    key: Annotated[str, typer.Option(envvar="HEADGATE_KEY")] = "local",
    model: str = "auto",
    run: Annotated[bool, typer.Option("--run", help="Start it configured (claude-code, codex).")] = False,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """The lines that point a client at the gateway."""
    if client is None:
        show_json(list(CLIENTS)) if json else say("\n".join(CLIENTS))
        return
    if client not in CLIENTS:
        from headgate.config.explain import did_you_mean

        fail(f"no lines for {client!r}{did_you_mean(client, CLIENTS)}; any OpenAI client takes base URL {url}/v1", 2)
    if run:
        _start(client, url, key, model)
    text = CLIENTS[client].format(url=url, key=key, model=model)
    show_json({"client": client, "lines": text}) if json else say(text)


def launch(client: str, url: str, key: str, model: str) -> tuple[list[str], dict[str, str]]:
    """(command, environment to add) that starts a client configured."""
    if client == "claude-code":
        env = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key, "ANTHROPIC_MODEL": model}
        env |= {f"ANTHROPIC_DEFAULT_{size}_MODEL": model for size in ("OPUS", "SONNET", "HAIKU")}
        return ["claude"], env
    if client == "codex":
        provider = f'{{name="Headgate",base_url="{url}/v1",env_key="HEADGATE_KEY",wire_api="responses"}}'
        flags = ["-c", f"model_providers.headgate={provider}", "-c", "model_provider=headgate", "-m", model]
        return ["codex", *flags], {"HEADGATE_KEY": key}
    raise KeyError(client)


def _start(client: str, url: str, key: str, model: str) -> None:
    try:
        command, env = launch(client, url, key, model)
    except KeyError:
        fail(f"{client} has no command line to start: use the lines that `headgate connect {client}` prints", 2)
    program = shutil.which(command[0])
    if program is None:
        fail(f"{command[0]} is not installed")
    os.execvpe(program, command, {**os.environ, **env})
