"""Failures of the transport in the words of the tree."""

from __future__ import annotations

from headgate.core.errors import UpstreamFault, fault
from headgate.net.transport import protocol as net


def of_transport(error: net.TransportError, *, opened: bool = False) -> UpstreamFault:
    """`opened`: the answer's head had come, so what broke is a stream or a body."""
    detail = f"{type(error).__name__}: {error}"
    match error:
        case net.TlsFailed():
            # A retry would meet the same certificate: as final as refused credentials.
            return fault("tls", "no trusted TLS connection to the provider", detail=detail, sent=False)
        case net.ConnectTimeout():
            return fault("timeout", "the provider could not be reached in time", detail=detail, sent=False)
        case net.ConnectFailed():
            return fault("connect", "the provider could not be reached", detail=detail, sent=error.sent)
        case net.TotalTimeout():
            return fault("timeout", "the provider's answer took longer than it may", detail=detail, sent=error.sent)
        case net.FirstByteTimeout() | net.IdleTimeout():
            return fault("timeout", "the provider fell silent", detail=detail, sent=error.sent)
        case net.BodyTooLarge() | net.HeaderTooLarge() | net.ProtocolViolation():
            return fault("invalid_answer", "the provider's answer is not valid HTTP or too large", detail=detail)
    if opened:
        return fault("stream_broken", "the provider's connection broke in the middle of its answer", detail=detail)
    return fault("unavailable", "the provider closed the connection without an answer", detail=detail)
