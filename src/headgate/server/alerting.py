"""The configuration's `alerts:` made ready: a webhook, and a way to it that only goes where the operator allows."""

from __future__ import annotations

import msgspec

from headgate.config.errors import ConfigError, Problem
from headgate.config.model import Alerts as Section
from headgate.core.clock import SYSTEM
from headgate.net.egress import GuardedResolver
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.protocol import EgressRefused
from headgate.telemetry.alerts import Alerts, Webhook


class Hook(msgspec.Struct, frozen=True):
    alerts: Alerts
    transport: H1Transport


def open_alerts(section: Section) -> Hook | None:
    """None where there is no webhook. Raises ConfigError for a URL that may not be called."""
    if section.webhook is None:
        return None
    secret = section.webhook.secret
    hook = Webhook(
        url=section.webhook.url.reveal(),
        secret=None if secret is None else secret.reveal(),
        networks=tuple(section.webhook.networks),
    )
    transport = H1Transport(resolver=GuardedResolver(hook.policy), max_idle=1)
    try:
        return Hook(Alerts(hook, frozenset(section.on), transport, SYSTEM, every=section.every), transport)
    except EgressRefused as error:
        raise ConfigError([Problem(f"alerts.webhook.url: {error}")]) from error
