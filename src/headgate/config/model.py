"""The configuration as types. The docstrings of fields are the reference: schema, docs and console read them."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, field_validator, model_validator

from headgate.config.experiments import Experiment
from headgate.config.governance import Budgets, Limits, Team
from headgate.config.routing import Route
from headgate.config.strategies import Agent, Cascade, Ensemble, Fallback
from headgate.config.values import Count, Duration, Money, Secret, Size, plain

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,*A-Z]+")

STRATEGIES = ("fallback", "route", "cascade", "ensemble", "agent", "experiment")
MOVE_ON_WORDS = (
    "timeout",
    "unavailable",
    "rate_limit",
    "context_length",
    "invalid_output",
    "content_policy",
    "bad_request",
)


AlertKind = Literal[
    "health", "misconfigured", "shed", "failover", "fallback", "rescue", "stand_in", "hedge", "gave_up", "slept",
    "price_unknown",
    "budget_near", "budget_reached", "budget_store_lost", "budget_store_back", "store_lost", "store_back",
    "shared_store_lost", "shared_store_back", "repeats_lost", "team_missing",
    "key_damaged",
]  # fmt: skip


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Provider(Section):
    """Where models are served: a known profile by its name, or `kind` and `base_url`. An empty section is `{}`."""

    kind: str | None = None
    """Name of a profile (`openai-compatible` for any server that speaks like OpenAI); left out: the section's own name."""
    base_url: str | None = None
    """Replaces the profile's base URL."""
    api_key: Secret | None = None
    """Left out: the profile's environment variable."""
    headers: dict[str, Secret] = {}
    """Further headers of every request to it."""
    zone: str | None = None
    """Trust zone of its models (`private`, say): keys and rules can be confined to one."""
    tls_ca: str | None = None
    """File with the certificate authority of a self-hosted server."""


class Price(Section):
    """US$ per million tokens. What is left out costs as its base: cached input and cache write as input, reasoning as
    output."""

    input: Money
    output: Money
    cached_input: Money | None = None
    cache_write: Money | None = None
    cache_write_1h: Money | None = None
    """Tokens that are cached for an hour (Anthropic); left out: as cache_write."""
    reasoning: Money | None = None
    audio_input: Money | None = None
    audio_output: Money | None = None
    image_input: Money | None = None
    image_output: Money | None = None
    """Tokens of pictures; left out: as input and output."""
    image: Money | None = None
    """US$ per picture made."""
    characters: Money | None = None
    """US$ per million characters of text spoken."""
    audio_hour: Money | None = None
    """US$ per hour of sound heard."""
    request: Money | None = None
    """A flat fee per call, in US$."""


class Timeout(Section):
    """How long a model may stay silent, and how long it may take."""

    connect: Duration = 5.0
    """Name, TCP and TLS."""
    first_token: Duration = 60.0
    """Silence before the first content of a stream (thinking aloud is content)."""
    idle: Duration = 60.0
    """Silence after it."""
    total: Duration = 600.0
    """One attempt, from its first byte to its last."""


class Deployment(Section):
    """One account or region of a model."""

    provider: str
    upstream: str | None = None
    """The id that the provider knows; left out: the entry's own name."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Share of the traffic, whatever the `balance`; 0: a spare, asked only where no other is well and has room."""
    api_key: Secret | None = None
    base_url: str | None = None


class Hedge(Section):
    """A second call elsewhere when the first is slow. Both are paid for."""

    after: Duration | None = None
    """Left out: the 95th percentile of the time to first content."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.02
    """At most this share of the calls is hedged."""
    max_cost: Money | None = None
    """US$ that one hedge may cost at most."""


class Entry(Section):
    """One name in the one namespace: a physical model (`provider` or `deployments`) or exactly one strategy."""

    name: str | None = None
    """Display name."""
    provider: str | None = None
    upstream: str | None = None
    """The id that the provider knows; left out: the entry's own name."""
    deployments: list[Deployment] | None = None
    """Several accounts or regions of one model, balanced."""
    capabilities: list[str] = []
    """Preferences, used by choice and planning: reasoning, code, math, private_data, ..."""
    features: list[str] | None = None
    """Protocol features that the model has (tools, vision, json_schema, audio, ...); left out: the catalogue."""
    max_context: Count | None = None
    """Tokens; left out: the catalogue."""
    max_output: Count | None = None
    """Tokens; left out: the catalogue."""
    price: Price | None = None
    """US$ per million tokens; left out: the catalogue."""
    cost_per_1k: Money | None = None
    """US$ per 1,000 tokens, in and out alike: the short way to write a price."""
    timeout: Timeout = Timeout()
    zone: str | None = None
    balance: Literal["weighted", "least_outstanding", "latency", "rate_limit"] = "weighted"
    """How one of several deployments is chosen."""
    affinity: bool = True
    """Keep a conversation on one deployment while it is well, so that the provider's prompt cache stays warm."""
    hedge: Hedge | None = None
    """Off unless given."""
    concurrency: Annotated[Count, Field(ge=1)] | None = None
    """Most calls at a time per deployment; left out: found by the provider's own signs of overload."""
    extra: Annotated[dict[str, Any], BeforeValidator(plain)] = {}
    """Fields of a JSON body, in the provider's own words, that every request to this model carries, whatever the client
    says."""
    fallback: Fallback | None = None
    route: Route | None = None
    cascade: Cascade | None = None
    ensemble: Ensemble | None = None
    agent: Agent | None = None
    experiment: Experiment | None = None

    @property
    def strategy(self) -> str | None:
        """The strategy's kind, None for a physical model."""
        return next((kind for kind in STRATEGIES if getattr(self, kind) is not None), None)

    @model_validator(mode="after")
    def _one_kind(self) -> Entry:
        kinds = [kind for kind in ("provider", "deployments", *STRATEGIES) if getattr(self, kind) is not None]
        if len(kinds) != 1:
            said = f"has {' and '.join(kinds)}" if kinds else "has none"
            raise ValueError(
                f"an entry is either a model (provider or deployments) or exactly one strategy; this one {said}"
            )
        if self.price is not None and self.cost_per_1k is not None:
            raise ValueError("price and cost_per_1k say the same: give one of them")
        if self.hedge is not None and len(self.deployments or ()) < 2:
            raise ValueError("a hedge goes to another deployment of the same model: give it `deployments`")
        return self


class Store(Section):
    """Where keys, ledger and budgets are kept."""

    url: str = "sqlite:///headgate.db"
    """sqlite:///FILE (relative to the data directory) or postgresql://… for fleets."""
    shared: str | None = None
    """redis://… (Valkey, Redis) for limits, health and repeated requests shared by replicas."""
    durability: Literal["crash", "power"] = "crash"
    """crash: survives any death of the process. power: also of the machine, at the price of waiting for the disk."""
    unknown: Literal["reserved", "zero"] = "reserved"
    """What an attempt costs that was sent and whose usage was never seen: what was reserved for it, or nothing."""
    retention: Duration | None = 2_592_000.0
    """How long rows of requests and attempts are kept (`30d`); their sums per day stay for ever. `off`: for ever."""
    journal: Annotated[Size, Field(ge=1_000_000)] = 1_000_000_000
    """Bytes that may wait for a store that is down; beyond them new requests are refused."""
    contents: bool = False
    """Keep what the steps of agents asked and answered in stored traces too."""
    bodies: bool = False
    """Keep what clients sent and what they were answered, with the trace: redacted (keys, addresses, numbers of cards and
    accounts, files), and 64,000 characters of each at most."""

    @field_validator("url")
    @classmethod
    def _known_store(cls, url: str) -> str:
        if not re.match(r"sqlite:///.+|postgres(ql)?://.+", url):
            raise ValueError("a store is sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
        return url

    @field_validator("shared")
    @classmethod
    def _known_shared(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"rediss?://.+", url):
            raise ValueError("a shared store is redis://HOST:PORT/DATABASE, or rediss:// with TLS")
        return url

    @field_serializer("url", "shared")
    def _hide_password(self, url: str | None) -> str | None:
        """What is shown of the configuration holds no password."""
        return url if url is None else re.sub(r"//([^:/@]*):[^@/]*@", r"//\1:***@", url)

    @field_validator("retention", mode="before")
    @classmethod
    def _off_is_none(cls, value: Any) -> Any:
        return None if value in ("off", "null", False) else value

    @field_validator("retention")
    @classmethod
    def _days(cls, value: float | None) -> float | None:
        if value is not None and value < 86400.0:
            raise ValueError("rows are kept for a day at least")
        return value


class Server(Section):
    """Limits of the data plane."""

    max_body: Size = 32 * 1000 * 1000
    drain: Duration = 30.0
    """How long running requests may finish after SIGTERM."""
    deadline: Duration = 600.0
    """Longest time for one request, from its first byte to its last."""
    body_timeout: Duration = 30.0
    """How long a client may take to send its body."""
    frontend: Literal["own", "uvicorn"] = "own"
    """Our own HTTP/1.1 front end, or uvicorn: the same suite of tests, more CPU per request."""
    cors: list[str] = []
    """Origins of web pages that may read our answers (`https://app.example.com`; `*`: any page's): none unless named. A
    page has no secrets, so give it a key of its own with a small budget. Taken up at the next start."""

    @field_validator("cors")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: scheme and host, in lower case, without a path")
        return value


class AlertWebhook(Section):
    """Where alerts are posted as JSON. Redirects are not followed."""

    url: Secret
    """Whole: many services (Slack, Teams) put their secret into it, so it is shown nowhere."""
    secret: Secret | None = None
    """Signs every body (`x-headgate-signature: sha256=...`, HMAC-SHA-256). Never empty."""
    networks: list[str] = []
    """Networks that it may be in although they are not public (`10.1.2.0/24`)."""

    @field_validator("secret")
    @classmethod
    def _not_empty(cls, value: Secret | None) -> Secret | None:
        if value is not None and not value.reveal():
            raise ValueError("an empty secret signs nothing: leave it out, or set it")
        return value

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ipaddress.ip_network(network)
        return value


class Alerts(Section):
    """Events that an operator is told of. Read at the start of the process."""

    webhook: AlertWebhook | None = None
    on: list[AlertKind] = [
        "health", "misconfigured", "shed", "budget_near", "budget_reached", "store_lost", "shared_store_lost",
        "team_missing", "key_damaged",
    ]  # fmt: skip
    """Which events; the log and the metrics have all of them."""
    every: Duration = 60.0
    """The same alert of the same subject is sent once in this time, and says how often it came."""


class Otlp(Section):
    """An OpenTelemetry collector, told by OTLP over HTTP with bodies in JSON."""

    endpoint: str
    """Its base URL (`http://localhost:4318`); `/v1/traces` and `/v1/metrics` are put behind it."""
    headers: dict[str, Secret] = {}
    """Sent with every report: what the collector lets us in with."""
    traces: bool = True
    """A span for every request, and one below it for every call to a provider."""
    metrics: bool = True
    """What `/metrics` shows, and the metrics of the GenAI conventions."""
    every: Annotated[Duration, Field(ge=1)] = 60.0
    """How often metrics are told."""
    attributes: dict[str, str] = {}
    """Of the resource: `deployment.environment.name: production`, say."""

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("a collector's base URL is wanted, such as http://localhost:4318")
        return value


class Telemetry(Section):
    """Who else hears what happens. Read at the start of the process."""

    otlp: Otlp | None = None


class FilesTool(Section):
    """Reading files below one folder."""

    root: str
    max_bytes: Size = 1_000_000


class PythonTool(Section):
    """A sandboxed Python, for calculations."""

    timeout: Duration = 5.0
    memory: Size = 64 * 1000 * 1000


class McpServer(Section):
    """One MCP server; only the tools on `allow` exist for agents."""

    command: list[str] | None = None
    url: str | None = None
    allow: list[str] = []
    env: dict[str, Secret] = {}

    @model_validator(mode="after")
    def _one_way(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            raise ValueError("an MCP server has either a command (stdio) or a url (streamable HTTP)")
        return self


class Tools(Section):
    """What agents may use."""

    files: FilesTool | None = None
    python: PythonTool | None = None
    mcp: dict[str, McpServer] = {}


def _no_none(value: Any) -> Any:
    if value is None:
        raise ValueError("an empty section is written {}")
    return value


_Named = BeforeValidator(_no_none)


class Config(Section):
    """The whole file."""

    providers: dict[str, Annotated[Provider, _Named]] = {}
    models: dict[str, Annotated[Entry, _Named]] = {}
    aliases: dict[str, str] = {}
    """What existing clients send → entry; `*` matches anything."""
    tools: Tools = Tools()
    limits: Limits = Limits()
    budgets: Budgets = Budgets()
    teams: dict[str, Annotated[Team, _Named]] = {}
    store: Store = Store()
    server: Server = Server()
    alerts: Alerts = Alerts()
    telemetry: Telemetry = Telemetry()
