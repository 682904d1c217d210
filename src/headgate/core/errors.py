"""The closed tree of errors.

    HeadgateError
    ├── ClientError          the request is at fault: nothing was tried, or trying again cannot help
    │   ├── InvalidRequest, UnsupportedFeature, AuthenticationFailed, BudgetExceeded, PermissionDenied, NotFound,
    │   │   ModelNotFound, MethodNotAllowed, RequestTimeout, Conflict, PayloadTooLarge, UnsupportedMediaType,
    │   │   IdempotencyMismatch, RateLimited, HeadersTooLarge
    ├── GatewayError         we are at fault, or we refuse to go on
    │   └── InternalError, Overloaded, StorageUnavailable (StorageUnsure), DeadlineExceeded
    └── UpstreamFault        one attempt at a provider failed; `kind` is what `move_on:` names
        ├── UpstreamRefused(kind: auth | tls | quota | budget | bad_request | context_length | content_policy | not_found)
        ├── UpstreamBusy(kind: rate_limit | overloaded)
        ├── UpstreamDown(kind: connect | timeout | unavailable)
        └── UpstreamBroken(kind: invalid_answer | invalid_output | stream_broken)
    AllModelsUnavailable     every target failed; carries the attempts

`message` is safe to show to a client. `detail` is for our log only. No message may hold a key, a URL with a key or
the text of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

Blame = Literal["client", "gateway", "upstream"]
FaultKind = Literal[
    "auth",
    "tls",
    "quota",
    "budget",
    "bad_request",
    "context_length",
    "content_policy",
    "not_found",
    "rate_limit",
    "overloaded",
    "connect",
    "timeout",
    "unavailable",
    "invalid_answer",
    "invalid_output",
    "stream_broken",
]


class HeadgateError(Exception):
    """Base of the tree. `retry_after` is in seconds; `should_retry=False` renders `x-should-retry: false`."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str = "internal_error"
    retryable: ClassVar[bool] = False
    blame: ClassVar[Blame] = "gateway"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        detail: str = "",
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.detail = detail
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.headers: Sequence[tuple[str, str]] = ()
        """Further response headers (`x-ratelimit-*` of a limit that was reached)."""
        self.trace_id = ""
        """Set by the pipeline once the request has a trace."""
        self.attempted = False
        """A provider was asked before this came of it: set by the pipeline."""
        if code is not None:
            self.code = code


class ClientError(HeadgateError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    blame = "client"


class InvalidRequest(ClientError):
    """The body, a parameter or a header is not what the door takes."""


class UnsupportedFeature(ClientError):
    """What was asked for cannot be expressed by any target; leaving it out would change the meaning."""

    code = "unsupported_parameter"


class AuthenticationFailed(ClientError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class BudgetExceeded(ClientError):
    """402 with `x-should-retry: false`: the SDKs would retry a 429. `left`: nano-US$ that the budget which refused still
    covers, where that is known."""

    status = 402
    type = "billing_error"
    code = "budget_exceeded"

    def __init__(self, message: str, *, left: int | None = None, **more: Any) -> None:
        super().__init__(message, **{"should_retry": False, **more})
        self.left = left


class PermissionDenied(ClientError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFound(ClientError):
    status = 404
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ClientError):
    status = 405
    code = "method_not_allowed"


class RequestTimeout(ClientError):
    """The client was too slow in sending its request."""

    status = 408
    type = "timeout_error"
    code = "request_timeout"
    retryable = True


class Conflict(ClientError):
    """A request with the same Idempotency-Key is still running."""

    status = 409
    type = "conflict_error"
    code = "conflict"
    retryable = True


class PayloadTooLarge(ClientError):
    status = 413
    code = "request_too_large"


class UnsupportedMediaType(ClientError):
    status = 415
    code = "unsupported_media_type"


class IdempotencyMismatch(ClientError):
    status = 422
    code = "idempotency_key_reused"


class RateLimited(ClientError):
    """One of our own limits; `retry_after` is true, not a guess."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class HeadersTooLarge(ClientError):
    status = 431
    code = "headers_too_large"


class GatewayError(HeadgateError):
    pass


class InternalError(GatewayError):
    """A defect of ours. The message never says more than the request id's whereabouts."""


class Overloaded(GatewayError):
    """We shed load: a bounded queue is full, or we are draining."""

    status = 503
    code = "overloaded"
    retryable = True


class StorageUnavailable(GatewayError):
    status = 503
    code = "storage_unavailable"
    retryable = True


class StorageUnsure(StorageUnavailable):
    """The store was lost in the commit itself: what was asked of it may have happened all the same."""


class DeadlineExceeded(GatewayError):
    """The request's own deadline ran out."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class UpstreamFault(HeadgateError):
    """One attempt failed. `upstream_status` is the provider's HTTP status, None where there was none.

    `sent` is False only where no byte of the request can have reached the provider: nothing was billed. A fault that
    was relayed from the provider's own words keeps them in `message`, cut to 2,000 characters, with keys removed.
    """

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    blame = "upstream"
    kind: FaultKind

    def __init__(
        self,
        message: str,
        kind: FaultKind,
        *,
        upstream_status: int | None = None,
        native_code: str | None = None,
        sent: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(message, **more)
        self.kind = kind
        self.upstream_status = upstream_status
        self.native_code = native_code
        self.sent = sent

    def leave_out(self, secrets: Iterable[str]) -> None:
        """Takes them out of the provider's words, should it have repeated what it was sent."""
        for secret in secrets:
            self.message = self.message.replace(secret, "***")
            if self.native_code is not None:
                self.native_code = self.native_code.replace(secret, "***")
        self.args = (self.message,)

    @property
    def http_status(self) -> int:
        """The status a client sees when this fault ends the request."""
        return _STATUS.get(self.kind, self.status)


class UpstreamRefused(UpstreamFault):
    """The provider said no and means it: the same deployment is not asked again."""


class UpstreamBusy(UpstreamFault):
    """The provider asks for patience."""

    retryable = True


class UpstreamDown(UpstreamFault):
    """No answer came: not reached, reset before a word, 5xx, or silence."""

    retryable = True


class UpstreamBroken(UpstreamFault):
    """An answer came that is not one: an error inside a 200, no choices, broken JSON, a cut stream."""

    retryable = True


# What the client sees; auth and quota are ours to mend, so never a 401 that looks like the client's own key.
_STATUS: dict[str, int] = {
    "budget": 402,
    "bad_request": 400,
    "context_length": 400,
    "content_policy": 400,
    "not_found": 404,
    "rate_limit": 429,
    "overloaded": 503,
    "timeout": 504,
    "unavailable": 503,
}
_CLASS: dict[str, type[UpstreamFault]] = {
    **dict.fromkeys(
        ("auth", "tls", "quota", "budget", "bad_request", "context_length", "content_policy", "not_found"),
        UpstreamRefused,
    ),
    **dict.fromkeys(("rate_limit", "overloaded"), UpstreamBusy),
    **dict.fromkeys(("connect", "timeout", "unavailable"), UpstreamDown),
    **dict.fromkeys(("invalid_answer", "invalid_output", "stream_broken"), UpstreamBroken),
}
_CODE: dict[str, tuple[str, str]] = {  # kind -> (type, code) as clients know them (CLIENTS: OpenAI's table)
    "budget": ("billing_error", "budget_exceeded"),
    "bad_request": ("invalid_request_error", "invalid_request"),
    "context_length": ("invalid_request_error", "context_length_exceeded"),
    "content_policy": ("invalid_request_error", "content_policy_violation"),
    "not_found": ("invalid_request_error", "model_not_found"),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "overloaded": ("server_error", "overloaded"),
    "timeout": ("timeout_error", "upstream_timeout"),
}


def fault(kind: FaultKind, message: str, **more: Any) -> UpstreamFault:
    """The fault of the right class for `kind`."""
    return _CLASS[kind](message, kind, **more)


class AllModelsUnavailable(HeadgateError):
    """Every target failed. `attempts` are the trace's attempt views, safe to show. `kind`: what each of them failed with,
    where a strategy above has to tell it from an outage."""

    status = 503
    type = "server_error"
    code = "all_models_unavailable"
    blame = "upstream"

    def __init__(
        self, message: str, attempts: Sequence[Any] = (), *, kind: FaultKind | None = None, **more: Any
    ) -> None:
        super().__init__(message, **more)
        self.attempts = attempts
        self.kind = kind


def http_status(error: HeadgateError) -> int:
    """The HTTP status that a door answers for `error`; a rate limit everywhere is 429, not 503."""
    if isinstance(error, UpstreamFault):
        return error.http_status
    if isinstance(error, AllModelsUnavailable) and error.code == "rate_limit_exceeded":
        return 429
    return error.status


def wire_type(error: HeadgateError) -> tuple[str, str]:
    """(`type`, `code`) of OpenAI's error object for `error`."""
    if isinstance(error, UpstreamFault):
        return _CODE.get(error.kind, (error.type, error.code))
    if isinstance(error, AllModelsUnavailable) and error.code == "rate_limit_exceeded":
        return ("rate_limit_error", error.code)
    return (error.type, error.code)
