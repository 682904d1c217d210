"""What a provider's answer with any status but 200 means."""

from __future__ import annotations

import asyncio
import contextlib
from email.utils import formatdate

from headgate.core.errors import UpstreamFault, fault
from headgate.net.transport.protocol import HttpResponse, TransportError
from headgate.upstream.call import Call
from headgate.upstream.limits import resets_in

ERROR_BODY = 256 * 1024
"""Bytes of it that are read."""
PATIENCE = 2.0
"""Seconds that it may take to come: the next target could have answered by then."""


async def refusal(call: Call, response: HttpResponse, now: float) -> UpstreamFault:
    """The fault behind any status but 200. Redirects are not followed: they are an invalid answer. A rate limit that names
    no time to wait is over when the limit that is used up resets, where the headers say so. `now` is Unix time: what a
    date in them is measured against where they do not say when they were written."""
    if 300 <= response.status < 400:
        return fault("invalid_answer", "the provider answered with a redirect", upstream_status=response.status)
    body = b""
    with contextlib.suppress(TransportError, TimeoutError):  # what has come of it must do, and be it the status alone
        async with asyncio.timeout(PATIENCE):
            while (data := await response.next()) and len(body) < ERROR_BODY:
                body += data
    headers = {"date": formatdate(now, usegmt=True)}
    headers |= {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    refused = call.endpoint.dialect.parse_error(response.status, headers, body)
    if refused.kind == "auth" and response.status == 403 and body.lstrip().startswith(b"<"):
        # A page is not the API's word: a firewall before it refused this request, which says nothing of our key.
        return fault("invalid_answer", "a page was answered where an API should be", upstream_status=403)
    if refused.kind == "rate_limit" and refused.retry_after is None:
        refused.retry_after = resets_in(response, now)
    return refused
