"""The configuration's `telemetry:` made ready: an exporter, and its own way to the collector."""

from __future__ import annotations

import socket

from headgate import __version__
from headgate.config.errors import ConfigError, Problem
from headgate.config.model import Otlp as Section
from headgate.core.clock import SYSTEM
from headgate.core.ids import new_id
from headgate.engine.house import House
from headgate.net.egress import EgressPolicy, parse_url
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.heads import render_headers
from headgate.net.transport.protocol import EgressRefused
from headgate.telemetry.metrics import Metrics
from headgate.telemetry.otlp import Collector, Exporter


class Export:
    """Where the collector is, is the operator's word, like a provider's `base_url`: any address will do."""

    def __init__(self, section: Section, house: House, metrics: Metrics, *, worker: int | None) -> None:
        """Raises ConfigError for an endpoint that is no URL of a collector."""
        self.transport = H1Transport(max_idle=2)
        try:
            origin, target = parse_url(section.endpoint, EgressPolicy(ports=()))
        except EgressRefused as error:
            raise ConfigError([Problem(f"telemetry.otlp.endpoint: {error}")]) from error
        headers = tuple((name.lower(), value.reveal()) for name, value in section.headers.items())
        try:
            render_headers(headers)
        except ValueError as error:
            raise ConfigError([Problem(f"telemetry.otlp.headers: {error}")]) from error
        attributes = {"service.instance.id": new_id("proc"), "host.name": socket.gethostname()}
        if worker is not None:
            attributes["headgate.worker"] = str(worker)
        collector = Collector(
            origin=origin,
            base=target.rstrip("/"),
            headers=headers,
            attributes={**attributes, **section.attributes},
            traces=section.traces,
            metrics=section.metrics,
            every=section.every,
        )
        self.exporter = Exporter(
            collector,
            self.transport,
            SYSTEM,
            version=__version__,
            figures=metrics.figures,
            known=lambda name: name in house.snapshot.entries,
        )

    async def aclose(self) -> None:
        await self.exporter.aclose()
        await self.transport.aclose()
