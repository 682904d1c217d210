"""`headgate demo`: simulated providers, gateway, and a tour of what exists."""

from __future__ import annotations

import asyncio
import json as stdlib_json
import shlex
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headgate.cli.client import told
from headgate.cli.details import against_best, members, steps, summary
from headgate.cli.output import bold, dim, fail, myself, say, show_json
from headgate.cli.serve import Port

app = typer.Typer(add_completion=False, invoke_without_command=True)
STATE, DATA_DIR, PORT = "demo.json", Path(".headgate"), 4100
# What the tour asks each phase, in order; a phase that is not built yet is passed over.
TOUR = (
    ("1 single", "claude-4.7", "What is 17 * 23? Answer with the number."),
    ("2 fallback", "reliable", "Name three uses of a headgate in irrigation."),
    ("3 task routing", "auto", "Analyze this financial report: revenue 4.2 M, costs 3.9 M, last year 4.0 M and 3.1 M."),
    ("4 ensemble", "careful", "What is 17 * 23? Answer with the number."),
    ("5 agent", "agent", "What is 17 * 23? Answer with the number."),
)
# What a sum comes to: a simulated model is wrong now and then, and a reader has to be told.
SUMS = {"What is 17 * 23? Answer with the number.": "391"}
# One for each rule of the demo's route.
ROUTED = (
    "Write a Python function that reverses a linked list.",
    "TL;DR please: the meeting moved to Friday because the room was taken.",
    "Escribe un poema sobre el mar y la luna.",
    "Evaluate the pros and cons of these two market strategies.",
    "请把下面的句子翻译成英文：门是开着的。",
    "If a train covers 120 km in 1.5 hours, how far does it go in 4 hours?",
)


@app.callback()
def demo(
    context: typer.Context,
    host: str = "127.0.0.1",
    port: Port = PORT,
    admin_port: Port = 4101,
    data_dir: Annotated[Path, typer.Option(help="Everything the demo writes.")] = DATA_DIR,
    config: Annotated[
        Path | None, typer.Option(help="Another configuration over the same simulated providers.")
    ] = None,
    no_tour: Annotated[bool, typer.Option("--no-tour", help="Start the same without the tour.")] = False,
    seed: int = 0,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Five simulated models of five providers, each spoken to in its own wire format over real HTTP. No key needed."""
    if context.invoked_subcommand is not None:
        context.obj = data_dir
        return
    from headgate.cli.serve import run_process, show_first_key
    from headgate.cli.tour_keys import stop_at_keys
    from headgate.cli.tour_trial import stop_at_trial
    from headgate.server.options import Options

    demo_file = config or Path(str(files("headgate.config") / "example.yaml"))
    options = Options(config=demo_file, host=host, port=port, admin_port=admin_port, data_dir=data_dir, log=False)
    try:
        process = _Demo(options, seed=seed, is_own=config is None, on_first_key=partial(show_first_key, as_json=json))
    except Exception as error:  # noqa: BLE001  one screen for whatever keeps the demo from starting
        fail(str(error))

    async def ready(running) -> None:
        first_key = running.first_key
        if json:
            found = {"ready": running.url, "simulator": process.control, "models": list(running.house.snapshot.entries)}
            show_json(found if first_key is None else {**found, "first_key": first_key})
            return
        if first_key is not None:
            show_first_key(first_key)
        say(f"console {running.admin.url}  admin token: {running.admin.token}")
        say(f"ready {running.url}")
        if not running.house.governor.open:
            say("no tour: it asks without a key, and here a request needs one")
        elif not no_tour:
            names = list(running.house.snapshot.entries)
            stops: list[Callable[[], None]] = [partial(stop_at_keys, process.urls, data_dir)]
            if config is None:
                stops.append(partial(stop_at_trial, running.url, running.admin.url, running.admin.token))
            console = f"{running.admin.url}  (sign in with the admin token {running.admin.token})"
            await asyncio.to_thread(_tour, running.url, console, names, demo_file, data_dir, stops)

    run_process(process, ready)


class _Demo:
    """The gateway process with the simulator beside it."""

    def __init__(self, options, *, seed: int, is_own: bool, on_first_key: Callable[[str], None]) -> None:
        """`is_own`: the demo's own file, which the tour's experiment is added to. `on_first_key`: as Process."""
        from headgate.config.load import load_file

        load_file(options.config, simulated_environment())  # a bad file is told before anything starts
        self._options = options
        self._seed = seed
        self._is_own = is_own
        self._on_first_key = on_first_key
        self.control = ""
        self.urls: dict[str, str] = {}
        """Base URLs of the simulated providers, once it runs."""

    async def run(self, ready) -> None:
        from headgate.cli.tour_trial import with_trial
        from headgate.server.serve import Process
        from headgate.simulator.demo import DemoSimulator

        simulator = DemoSimulator(seed=self._seed)
        urls = self.urls = await simulator.start(0)
        self.control = simulator.url
        self._options.env = simulated_environment()
        self._options.override = lambda config: _pointed(with_trial(config) if self._is_own else config, urls)
        process = Process(self._options)
        process.on_close(simulator.aclose)
        process.on_first_key = self._show_first_key
        self._options.data_dir.mkdir(parents=True, exist_ok=True)
        (self._options.data_dir / STATE).write_text(stdlib_json.dumps({"control": simulator.url}), encoding="utf-8")
        await process.run(ready)

    async def _show_first_key(self, secret: str) -> None:
        self._on_first_key(secret)


def simulated_environment() -> dict[str, str]:
    """Keys that only the simulator sees: any will do."""
    from headgate.providers.registry import Registry

    names = [name for profile in Registry() for name in profile.key_env]
    return {name: f"simulated-{name.lower()}" for name in [*names, "OPENAI_API_KEY_2"]}


def _pointed(config, urls):
    """The configuration with each provider's base URL at the simulator."""
    providers = {
        name: provider.model_copy(update={"base_url": urls[name]}) if name in urls else provider
        for name, provider in config.providers.items()
    }
    return config.model_copy(update={"providers": providers})


@app.command("break")
def break_model(
    context: typer.Context,
    model: str,
    mode: Annotated[str, typer.Option(help="500, 429, hang, cut_stream, error_in_200, ...")] = "500",
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Break a simulated model while the demo runs."""
    _control(context.obj, model, {"break": mode})
    if json:
        show_json({"model": model, "state": mode})
        return
    say(f"{model} now fails ({mode}); mend it with: {_again(context.obj)} mend {model}")


@app.command()
def mend(context: typer.Context, model: str, json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Mend a broken model."""
    _control(context.obj, model, {"mend": True})
    if json:
        show_json({"model": model, "state": "ok"})
        return
    say(f"{model} works again")


def _control(data_dir: Path, model: str, command: dict) -> None:
    try:
        control = msgspec.json.decode((data_dir / STATE).read_bytes())["control"]
        body = msgspec.json.encode(command)
        request = urllib.request.Request(f"{control}/_sim/models/{model}", data=body, method="POST")
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError as error:
        fail(msgspec.json.decode(error.read())["error"])
    except OSError:
        fail(
            f"no demo is running on {data_dir}: start one with `{myself()} demo`, or name its --data-dir before the verb"
        )


def _again(data_dir: Path) -> str:
    """What to type to speak to the demo that runs on this data directory."""
    return f"{myself()} demo" if data_dir == DATA_DIR else f"{myself()} demo --data-dir {shlex.quote(str(data_dir))}"


def _tour(
    url: str, console: str, names: list[str], file: Path, data_dir: Path, stops: list[Callable[[], None]]
) -> None:
    """One prompt per phase: the answer, who made it, why, how long, what it cost; then the further stops."""
    say()
    lines: list[str] = []
    for phase, name, prompt in TOUR:
        if name not in names:
            continue
        found = _ask(url, name, prompt)
        if found is None:
            say(f"{bold(phase)}: not built yet")
            continue
        say(f"{bold(f'{phase}: model={name!r}')}  {dim(prompt)}")
        text, about = found[0], summary(found[1]) if found[1] else ""
        say(f"    {textwrap.shorten(text, 300, placeholder=' …')}")
        if (right := SUMS.get(prompt)) and right not in text:
            say(dim(f"    wrong, it is {right}: simulated models err now and then, as real ones do"))
        for line in [*members(found[1] or {}), *steps(found[1] or {})]:
            say(f"    {line}")
        say(f"    {dim(about)}\n")
        if name == "auto":
            _routes(url)
        body = stdlib_json.dumps({"model": name, "messages": [{"role": "user", "content": prompt}]})
        lines.append(f"curl -s {url}/v1/chat/completions -d '{body}'")
    for stop in stops:
        stop()
    _weather(file)
    say(bold("Try it yourself"))
    for number, line in enumerate(lines, 1):
        say(f"  {number}. {line}")
    say("\n  from a second terminal:")
    again, there = _again(data_dir), "" if url == f"http://127.0.0.1:{PORT}" else f" --url {url}"
    say(f"  break a model:  {again} break claude-4.7\n  mend it:        {again} mend claude-4.7")
    say(f"  talk to one:    {myself()} chat{there} auto")
    say(f"  any OpenAI client: base_url={url}/v1 · Anthropic: {url} · Google: {url}\n")
    say(f"  console:        {console}\n  Ctrl-C ends the demo.")


def _routes(url: str) -> None:
    """Six prompts, six routes, why; asked all at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(ROUTED)) as pool:
        found = list(pool.map(lambda prompt: _ask(url, "auto", prompt), ROUTED))
    routed = [(prompt, answer[1]) for prompt, answer in zip(ROUTED, found, strict=True) if answer and answer[1]]
    say(f"    {bold(f'{len(routed)} prompts, {len(routed)} routes')}")
    for prompt, details in routed:
        task = details["task"]
        why = ", ".join(task["signals"][:2])
        cost, saved = details.get("cost_usd"), details.get("saved_usd")
        parts = [
            f"{task['label']} {task['confidence']:.2f} ({why}) → {details['chosen']['model']}",
            "cost unknown" if cost is None else f"${cost}",
            *([against_best(Decimal(saved), details.get("baseline"))] if saved is not None and Decimal(saved) else []),
        ]
        say(f"    {prompt}\n      {dim(' · '.join(parts))}")
    best = next((details["baseline"] for _, details in routed if "baseline" in details), None)
    if best is not None:
        total = _signed(sum((Decimal(details.get("saved_usd", 0)) for _, details in routed), Decimal(0)))
        note = "less than nothing where a rule names a dearer model"
        say(f"    {dim(f'saved against always asking {best}: {total}; {note}')}")
    say()


def _weather(file: Path) -> None:
    """A drill of some seconds: one model, a hand-made chain and ours in the same bad weather."""
    from headgate.config.load import load_file
    from headgate.drill import drills
    from headgate.drill.arms import arms_of

    config = load_file(file, simulated_environment()).config
    if not any(entry.fallback is not None for entry in config.models.values()):
        return
    chains = [arm.name for arm in arms_of(config) if arm.kind in ("single", "naive", "fallback")][:3]
    setting = drills.short_drill(config, simulated_environment(), requests=300, seed=3)
    report = drills.run(setting, only=chains)
    weather = "300 requests each, in 15 seconds of bad weather: outages, limits, slow and broken answers"
    say(f"{bold('When providers fail')}  {dim(f'a drill: {weather}')}")
    for arm in report.arms:
        failed = ", ".join(f"{count} {fate}" for fate, count in arm.fates.items() if count and fate != "ok")
        say(f"    {arm.name:<12} {arm.availability:>6.1%} answered in full and right  {dim(failed)}")
    say(f"    {dim('simulated weather on a clock that jumps; the realistic one: headgate drill')}\n")


def _signed(amount: Decimal) -> str:
    return f"-${-amount}" if amount < 0 else f"${amount}"


def _ask(url: str, name: str, prompt: str) -> tuple[str, dict] | None:
    """(the answer, its details); None: not built yet."""
    body = {"model": name, "messages": [{"role": "user", "content": prompt}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        data=msgspec.json.encode(body),
        headers={"content-type": "application/json", "x-headgate-details": "true"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        if error.code == 501:
            return None
        return f"error {told(error)}", {}
    return found["choices"][0]["message"]["content"] or "", found["headgate"]
