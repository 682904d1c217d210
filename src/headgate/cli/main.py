"""The command line: one file per group, loaded when it is used."""

from __future__ import annotations

import sys
from importlib import import_module

GROUPS = {
    "serve": "serve",
    "demo": "demo",
    "check": "check",
    "config": "config",
    "init": "init",
    "chat": "chat",
    "models": "models",
    "connect": "connect",
    "explain": "explain",
    "keys": "keys",
    "experiments": "experiments",
    "usage": "usage",
    "insight": "insight",
    "replay": "replay",
    "train": "train",
    "logs": "logs",
    "traces": "traces",
    "drill": "drill",
    "import": "importer",
}
ABOUT = {
    "serve": "Run the gateway.",
    "demo": "Simulated providers, gateway and a guided tour: no key needed. `demo break MODEL`, `demo mend MODEL`.",
    "check": "Is the configuration valid?",
    "config": "The configuration's schema and what is in force.",
    "init": "Write a commented starter file.",
    "chat": "Talk to any model name, streaming.",
    "models": "What can be asked for, at what price.",
    "connect": "The exact lines for a client; with --run, start it configured.",
    "keys": "Make, list, revoke and rotate virtual keys.",
    "experiments": "Compare arms: status, stop, start.",
    "explain": "What would be chosen, and why; no model is called.",
    "usage": "What was used and spent, by any dimension.",
    "insight": "`insight tasks`: what is asked for, and how each model did on it.",
    "replay": "What another configuration would have chosen on the log, at what cost and quality.",
    "train": "Fit the task classifier to your own labelled prompts, if that is better.",
    "logs": "Requests, newest first.",
    "traces": "`traces show ID`: one request, decision by decision.",
    "drill": "Break simulated providers on purpose; availability, latency and cost of each strategy.",
    "import": "`import litellm FILE`, `litellm-keys FILE`: another gateway's configuration and keys as ours.",
}


def run(arguments: list[str] | None = None) -> None:
    """Exit codes: 0 fine, 1 the answer is no, 2 usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] in (["--version"], ["-V"]):
        from headgate import __version__

        print(f"headgate {__version__}")  # noqa: T201
        return
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        _usage(sys.stdout)
        return
    if arguments[0] not in GROUPS:
        from difflib import get_close_matches

        close = get_close_matches(arguments[0], GROUPS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        sys.stderr.write(f"headgate: there is no command {arguments[0]!r}{hint}\n")
        _usage(sys.stderr)
        raise SystemExit(2)
    app = import_module(f"headgate.cli.{GROUPS[arguments[0]]}").app
    app(arguments[1:], prog_name=f"headgate {arguments[0]}")


def _usage(stream) -> None:
    stream.write("headgate: one endpoint in front of many models\n\n")
    for name, about in ABOUT.items():
        stream.write(f"  headgate {name:<11} {about}\n")
    stream.write("\nEvery command has --help and --json. Exit codes: 0 fine, 1 the answer is no, 2 usage.\n")
