"""The books of one attempt: opened before the first byte goes upstream, closed exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core import failpoints
from headgate.core.envelope import Envelope
from headgate.core.errors import UpstreamFault
from headgate.core.ids import new_id
from headgate.core.money import cost_of, upper_bound
from headgate.core.ports import Grant
from headgate.core.records import AttemptIntent, AttemptOutcome
from headgate.core.request import Request
from headgate.core.trace import AttemptView
from headgate.core.usage import Usage
from headgate.upstream.deployment import Deployment, Model
from headgate.upstream.life import Life

DEFAULT_OUTPUT = 4096
"""Output tokens assumed where neither the client nor the catalogue bounds them: an estimate, flagged by its price."""


def worst_case(request: Request, model: Model, deployment: Deployment) -> int | None:
    """Nano-US$ that one call can cost at most; None where the price is unknown."""
    price = deployment.price or model.price
    if price is None:
        return None
    return upper_bound(request.peek.input_bound, output_bound(request, model), price, request.peek.media)


def output_bound(request: Request, model: Model) -> int:
    """Output tokens of one call at most."""
    return (request.peek.max_tokens or model.max_output or DEFAULT_OUTPUT) * max(request.peek.n, 1)


_MAXIMA = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"})
_CHOICES = frozenset({"n", "candidateCount"})
_NESTED = "generationConfig"


def covered(fields: Mapping[str, Any], request: Request, model: Model) -> dict[str, Any]:
    """`extra:` as this request may carry it: no maximum in it, in whatever dialect's words, lets an answer become longer,
    or more of them be made, than what was reserved for. Where nothing bounds the answer it stands as it is."""
    longest = request.peek.max_tokens or model.max_output
    out: dict[str, Any] = {}
    for name, value in fields.items():
        if name == _NESTED and isinstance(value, Mapping):
            out[name] = covered(value, request, model)
        elif name in _MAXIMA and isinstance(value, int) and longest is not None:
            out[name] = min(value, longest)
        elif name in _CHOICES and isinstance(value, int):
            out[name] = min(value, max(request.peek.n, 1))
        else:
            out[name] = value
    return out


class Account:
    """Knows the attempt's money. `close` is idempotent: the first word counts."""

    __slots__ = (
        "_closed",
        "_deployment",
        "_envelope",
        "_hold",
        "_life",
        "_price",
        "_worst",
        "first_content",
        "started",
        "view",
    )

    def __init__(
        self,
        life: Life,
        envelope: Envelope,
        model: Model,
        deployment: Deployment,
        request: Request,
        role: str | None,
        hold: Grant | None = None,
    ) -> None:
        """Takes the money from the envelope, then records the intent. Raises BudgetExceeded or StorageUnavailable; then
        nothing is owed. `hold`: what the attempt has of its model's own limits and budgets; given back at the end."""
        self._life = life
        self._envelope = envelope
        self._deployment = deployment
        self._price = deployment.price or model.price
        self._hold = hold
        self._closed = False
        trace, principal, now = life.trace, life.principal, life.clock.time()
        self.started = life.clock.monotonic()
        self.first_content: float | None = None
        worst = worst_case(request, model, deployment)
        self._worst = worst or 0
        envelope.commit(self._worst)
        self.view = AttemptView(
            model=model.name,
            deployment=deployment.name,
            provider=deployment.provider,
            id=new_id("at"),
            role=role,
            at_ms=round((self.started - trace.started) * 1000, 2),
        )
        try:
            life.ledger.intend(
                AttemptIntent(
                    id=self.view.id,
                    request_id=trace.request_id,
                    trace=trace.id,
                    at=now,
                    model=model.name,
                    provider=deployment.provider,
                    deployment=deployment.name,
                    upstream=deployment.upstream,
                    key_id=principal.key_id,
                    user=principal.user,
                    team=principal.team,
                    tags=trace.tags if trace.booked is None else trace.booked,
                    role=role,
                    reserved=worst,
                    price_version=self._price.version if self._price else None,
                    expires=now + deployment.timeouts.total + 60.0,
                    admitted=trace.started_at,
                )
            )
        except BaseException:
            envelope.settle(self._worst, 0)
            raise
        trace.attempts.append(self.view)

    def saw_content(self) -> None:
        if self.first_content is None:
            failpoints.reached("attempt.content")
            self.first_content = self._life.clock.monotonic() - self.started

    def close(
        self,
        outcome: str,
        *,
        usage: Usage | None = None,
        fault: UpstreamFault | None = None,
        partial: Usage | None = None,
        upstream_id: str | None = None,
        status: int | None = None,
    ) -> None:
        """`usage` is the provider's word; `partial` our estimate of what was said where it gave none.

        settled: usage known, estimated, or the provider answered with an error (which is not billed).
        released: no byte was sent. unknown: sent, and nothing came back to count; charged at the worst case.
        """
        if self._closed:
            return
        self._closed = True
        latency = self._life.clock.monotonic() - self.started
        state = "settled"
        if usage is None and fault is not None and not fault.sent:
            state, cost = "released", 0
        elif usage is None and partial is not None:
            usage, cost = partial, self._cost(partial)
        elif usage is not None:
            cost = self._cost(usage)
        elif fault is not None and fault.upstream_status is not None and fault.upstream_status >= 400:
            cost = 0
        else:
            state = "unknown"
            self._life.trace.unheard = True
            cost = self._worst if self._price is not None and self._life.charge_unknown else self._cost(Usage())
        self._envelope.settle(self._worst, cost or 0)
        if self._hold is not None:
            used = usage.total if usage is not None else 0
            self._hold.settle(cost=cost or 0, tokens=used, pending=state == "unknown")
        self._show(outcome, cost, usage, fault, latency, status)
        self._life.ledger.settle(
            AttemptOutcome(
                id=self.view.id,
                at=self._life.clock.time(),
                state=state,
                outcome=outcome,
                error=fault.kind if fault else None,
                usage=usage,
                cost=cost,
                ttft=self.first_content,
                latency=latency,
                upstream_id=upstream_id,
                status=status,
            )
        )
        self._life.closed(self.view, self._deployment, upstream_id)

    def _cost(self, usage: Usage) -> int | None:
        return None if self._price is None else cost_of(usage, self._price)

    def _show(
        self,
        outcome: str,
        cost: int | None,
        usage: Usage | None,
        fault: UpstreamFault | None,
        latency: float,
        status: int | None,
    ) -> None:
        view = self.view
        view.outcome = outcome
        view.cost = cost
        view.usage = usage
        view.latency_ms = round(latency * 1000, 2)
        view.status = status if status is not None else (fault.upstream_status if fault else None)
        if fault is not None:
            view.error = fault.kind
        if self.first_content is not None:
            view.ttft_ms = round(self.first_content * 1000, 2)
        if cost is None:
            self._life.trace.cost_unknown = True
