"""Errors in the words of each door, with the headers that make SDKs do the right thing."""

from __future__ import annotations

import math

from headgate.core.dialect import Dialect
from headgate.core.errors import AllModelsUnavailable, HeadgateError, http_status
from headgate.core.trace import attempt_details
from headgate.server.http import JSON, Headers, Responder

LONGEST_RETRY_AFTER = 60
"""Both SDKs ignore or give up on longer ones."""


async def reply_error(error: HeadgateError, responder: Responder, dialect: Dialect, request_id: str) -> None:
    body = with_attempts(error, dialect.render_error(error, request_id), dialect)
    await responder.reply(http_status(error), [*JSON, *error_headers(error, request_id)], body)


def with_attempts(error: HeadgateError, body: bytes, dialect: Dialect) -> bytes:
    """A rendered error, with what was tried where everything has failed."""
    if not isinstance(error, AllModelsUnavailable) or not error.attempts:
        return body
    return dialect.attach(body, {"attempts": [attempt_details(attempt) for attempt in error.attempts]})


def error_headers(error: HeadgateError, request_id: str) -> Headers:
    out = [("x-request-id", request_id), ("request-id", request_id), *error.headers]
    if error.trace_id:
        out.append(("x-headgate-trace", error.trace_id))
    retry_after = error.retry_after
    if retry_after is None and http_status(error) == 429 and error.should_retry is not False:
        retry_after = 1.0  # a provider that names no time; its deployment cools for as long
    if retry_after is not None:
        wait = min(max(retry_after, 0.0), LONGEST_RETRY_AFTER)
        out += [("retry-after-ms", str(math.ceil(wait * 1000))), ("retry-after", str(math.ceil(wait)))]
    if error.should_retry is not None:
        out.append(("x-should-retry", "true" if error.should_retry else "false"))
    return out
