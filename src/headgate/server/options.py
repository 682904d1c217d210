"""How a gateway is started: light to import, for the process that only watches others."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from headgate.config.load import load_file
from headgate.config.model import Config

NO_MODEL = "no model to serve: set a provider key (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...) or give --config FILE"
URL_FILE = "admin.url"
"""In the data directory while the gateway runs: where commands find its admin API."""


class Options(msgspec.Struct, kw_only=True):
    """How `serve` and `demo` were called. `config` None: the environment's keys make the configuration."""

    config: Path | None = None
    host: str = "127.0.0.1"
    port: int = 4100
    admin_port: int = 4101
    data_dir: Path = Path(".headgate")
    override: Callable[[Config], Config] | None = None
    """Applied to every configuration that is loaded: the demo points its providers at the simulator."""
    env: Mapping[str, str] = {}
    log: bool = True
    worker: int | None = None
    """One of several processes on the same ports, of this number."""


class Order(msgspec.Struct, kw_only=True):
    """What a supervisor tells a worker to serve. Both ports are given: other workers listen there too."""

    worker: int
    config: str | None
    host: str
    port: int
    admin_port: int
    data_dir: str


class Ready(msgspec.Struct, kw_only=True):
    """What a gateway says once it answers. `first_key`, `admin_token`: made just now, shown once."""

    url: str
    admin: str
    models: list[str]
    skipped: list[str] = []
    is_open: bool = False
    first_key: str | None = None
    admin_token: str | None = None
    drain: float = 30.0


def read_config(options: Options) -> Config:
    """Raises ConfigError."""
    if options.config is None:
        from headgate.engine.zero import config_from_environment

        config = config_from_environment(options.env)
    else:
        config = load_file(options.config, options.env).config
    return options.override(config) if options.override is not None else config


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
