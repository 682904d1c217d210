"""The one attempt loop: every call to every provider, by whatever strategy, goes through here.

    choose a deployment → enter its gate → open the books → send → first content or complete
        ├── fine: an Answer
        └── fault: retry the same (backoff, its retry budget), move to another deployment, or leave the model

A fault that is about the request (bad request, context length, content policy) ends the loop: no deployment of the same
model would say otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

import msgspec

from headgate.core import failpoints
from headgate.core.answer import JSON, Answer
from headgate.core.envelope import Envelope
from headgate.core.errors import (
    DeadlineExceeded,
    GatewayError,
    HeadgateError,
    Overloaded,
    UpstreamFault,
    fault,
)
from headgate.core.patience import Patience
from headgate.core.ports import Grant
from headgate.core.request import Request
from headgate.dialects.jsonio import is_utf8
from headgate.net.transport.protocol import Exhausted, HttpRequest, HttpResponse, TotalTimeout, TransportError
from headgate.upstream import pool
from headgate.upstream.account import Account, output_bound, worst_case
from headgate.upstream.answers import Misfit, StreamAnswer
from headgate.upstream.call import Call
from headgate.upstream.deployment import Deployment, Model
from headgate.upstream.faults import of_transport
from headgate.upstream.health import MISCONFIGURED, Ticket
from headgate.upstream.hedge import hedged
from headgate.upstream.life import Life
from headgate.upstream.limits import read_limits
from headgate.upstream.outgoing import rendered
from headgate.upstream.refusal import refusal
from headgate.upstream.retry import LONGEST_NAMED_WAIT, RETRY_SAME, delay
from headgate.upstream.untold import completed, guess
from headgate.upstream.whole import WholeAnswer

ABOUT_THE_REQUEST = frozenset({"bad_request", "context_length", "content_policy", "not_found"})
_TALK = frozenset({"chat", "completions"})
"""Operations whose whole answers are JSON."""
NAMED = "x-client-request-id"
"""The attempt's id, as OpenAI's API reference names it for ids of the client's own: what a provider logged can be laid
beside our books. Others ignore it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How hard one model is tried. `timeout` bounds the whole attempt, in seconds. `panic`: with all deployments cooling
    after failures, the one that recovers first is asked all the same (nothing else is left to ask). With neither that
    nor `wait` the model fails at once."""

    retries: int = 2
    timeout: float | None = None
    panic: bool = True
    wait: bool = False
    """With all deployments cooling, wait for the earliest, and for the one probe that it is sent, within the deadline."""
    keep: bool = False
    """Keep what a stream has said, so that it can be rescued."""
    misfit: Misfit | None = None
    """A stream that this finds fault with ends with a fault in the place of its finish."""


PLAIN = Policy()


async def attempt(
    life: Life, model: Model, request: Request, envelope: Envelope, *, policy: Policy = PLAIN, role: str | None = None
) -> Answer:
    """An answer of `model`, at first content or complete. Raises UpstreamFault (the last one), Overloaded,
    BudgetExceeded or DeadlineExceeded."""
    if model.missing:
        raise fault("auth", f"{model.name} cannot be used: {model.missing}", sent=False)
    left: set[str] = set(life.silent)
    last: HeadgateError | None = None
    retries = policy.retries
    asked: Deployment | None = None
    while True:
        envelope.check_time(life.clock.monotonic())
        deployment = await _next(life, model, request, envelope, policy, left, last)
        if life.trace.attempts and (late := _too_late_for(life, model, deployment, request, envelope)) is not None:
            last = last or late
            left.add(deployment.key)
            continue
        if asked is not None and deployment is not asked:
            why = _kind(last)
            life.trace.decide("failover", deployment.name, over=[asked.name], because=f"{asked.name}: {why}")
            life.event("failover", model=model.name, frm=asked.name, to=deployment.name, error=why)
        if deployment is not asked:
            deployment.vitals.retries.earn()
        asked = deployment
        try:
            if model.hedge is None:
                return await once(life, model, deployment, request, envelope, policy, role)

            def ask(chosen: Deployment, other_role: str | None) -> Awaitable[Answer]:
                return once(life, model, chosen, request, envelope, policy, other_role or role)

            return await hedged(life, model, deployment, request, left, hedge=model.hedge, ask=ask)
        except UpstreamFault as error:
            last = error
            if error.kind in ABOUT_THE_REQUEST:
                raise
            if error.kind == "timeout" and error.sent:
                life.silent.add(deployment.key)
        except Overloaded as error:
            last = error
        if isinstance(last, UpstreamFault) and _may_retry(last, deployment, model, left, retries, request.options.pin):
            pause = delay(last, policy.retries - retries, life.rng)
            if pause < envelope.remaining(life.clock.monotonic()) and deployment.vitals.retries.spend():
                retries -= 1
                life.trace.decide(
                    "retry", deployment.name, because=f"{last.kind}, the only one that may help", wait_s=round(pause, 3)
                )
                await life.clock.sleep(pause)
                continue
        left.add(deployment.key)


def _too_late_for(
    life: Life, model: Model, deployment: Deployment, request: Request, envelope: Envelope
) -> UpstreamFault | None:
    """After a request's first attempt none starts that half of the deployment's last ones would not have had time for:
    another deployment may be quicker. (The first always does: one that has become faster must be able to show it.)"""
    usual = deployment.vitals.percentile(0.5, stream=request.stream) if life.trace.calls else None
    left = envelope.remaining(life.clock.monotonic())
    if usual is None or left >= usual:
        return None
    life.trace.decide("skip", deployment.name, because=f"{left:.2f} s are left, it usually takes {usual:.2f} s")
    return fault("timeout", f"{model.name} usually takes longer than what is left of the time", sent=False)


def _may_retry(
    error: UpstreamFault, deployment: Deployment, model: Model, left: set[str], retries: int, pin: str | None
) -> bool:
    """The same deployment again? Not where another one is well, nor before a time that it has named, be that a long one,
    nor when its breaker has opened meanwhile: what it is spared by that must not come back as retries."""
    if retries <= 0 or error.kind not in RETRY_SAME or not error.retryable:
        return False
    if deployment.vitals.health.state != "closed":
        return False
    if error.retry_after is None:
        if error.kind == "rate_limit":
            return False
    elif error.retry_after > LONGEST_NAMED_WAIT:
        return False
    if pin is not None:
        return True  # no other holds what it refers to
    others = any(d.key not in left and d is not deployment and d.vitals.health.well for d in model.deployments)
    return not others


async def _next(
    life: Life,
    model: Model,
    request: Request,
    envelope: Envelope,
    policy: Policy,
    left: set[str],
    last: HeadgateError | None,
) -> Deployment:
    waited = 0.0
    while True:
        deployment, why = pool.choose(
            model, left=left, affinity=request.options.affinity, rng=life.rng, pin=request.options.pin
        )
        if deployment is not None:
            break
        if request.options.pin is not None:
            raise last or fault("unavailable", f"{model.name} has lost the deployment that this refers to", sent=False)
        first, wait = _cooling(life, model, policy, left, last)
        if wait <= 0 or not policy.wait:
            deployment, why = first, "all are cooling; it recovers first"
            break
        if wait >= envelope.remaining(life.clock.monotonic()):
            raise last or _cools(model, first, wait)
        waited += wait
        await life.clock.sleep(wait)
    if waited:
        life.trace.decide("wait", deployment.name, because="all were cooling down", wait_s=round(waited, 3))
    if len(model.deployments) > 1:
        life.trace.decide(
            "deployment", deployment.name, over=[d.name for d in model.deployments if d is not deployment], because=why
        )
    return deployment


def _cooling(
    life: Life, model: Model, policy: Policy, left: set[str], last: HeadgateError | None
) -> tuple[Deployment, float]:
    """Nothing may be asked: the model has been tried, or all its deployments cool down. The one that recovers first, and
    in how many seconds it does; raises where the policy is to fail."""
    first = pool.earliest(model, left)
    if first is None:
        raise last or fault("timeout", f"{model.name} stayed silent in this request", sent=False)
    health = first.vitals.health
    wait = health.ready_in()
    if not policy.wait and (health.told_to_wait or not policy.panic):
        raise last or _cools(model, first, wait)
    return first, wait


def _cools(model: Model, deployment: Deployment, wait: float) -> UpstreamFault:
    health = deployment.vitals.health
    kind = health.waits_for if health.told_to_wait else "unavailable"
    return fault(kind, f"{model.name} is cooling down: {health.reason}", retry_after=wait, sent=False)


async def once(
    life: Life,
    model: Model,
    deployment: Deployment,
    request: Request,
    envelope: Envelope,
    policy: Policy = PLAIN,
    role: str | None = None,
) -> Answer:
    """One call to one deployment."""
    endpoint = deployment.endpoint(request.dialect.name)
    http = rendered(life, model, deployment, endpoint, request)
    if not deployment.vitals.gate.try_enter():
        await _queued(life, model, deployment, envelope.remaining(life.clock.monotonic()))
    ticket = _admitted(model, deployment, policy)
    hold: Grant | None = None
    try:
        if life.governor.guards(model.name, deployment.name):
            hold = await _enter(life, model, deployment, request)
        account = Account(life, envelope, model, deployment, request, role, hold)
    except BaseException:
        if hold is not None:
            hold.settle(cost=0, tokens=0)
        deployment.vitals.gate.leave()
        deployment.vitals.health.abandoned(ticket)
        raise
    http.extra = (*http.extra, (NAMED, account.view.id))
    call = Call(life, model, deployment, endpoint, request, account, ticket)
    await _recorded(life, call)
    remaining = envelope.remaining(life.clock.monotonic())
    total = min(policy.timeout or deployment.timeouts.total, deployment.timeouts.total)
    if remaining <= total:
        total, call.hurry = remaining, envelope
    try:
        return await _exchange(life, call, http, total, remaining, policy)
    except UpstreamFault as error:
        await call.close_connection()
        call.end("failed", fault=error)
        if error.kind in MISCONFIGURED:
            life.event(
                "misconfigured", model=model.name, deployment=deployment.name, error=error.kind, message=error.message
            )
        raise
    except Overloaded as error:
        call.unsent("failed", error.message)
        raise
    except BaseException:
        # Cancelled, or a defect of ours: either way the provider is told to stop and the books are closed.
        with contextlib.suppress(OSError):
            await call.close_connection()
        call.end("cancelled")
        raise


async def _queued(life: Life, model: Model, deployment: Deployment, remaining: float) -> None:
    """A slot of the deployment's, once one is free. Raises Overloaded."""
    gate = deployment.vitals.gate
    try:
        await gate.enter(life.principal.priority, remaining)
    except Overloaded:
        life.event("shed", model=model.name, deployment=deployment.name, reason="concurrency", limit=int(gate.limit))
        raise


def _admitted(model: Model, deployment: Deployment, policy: Policy) -> Ticket:
    """The breaker's leave. Raises a fault, and gives the slot back, where somebody probes right now, or the provider has
    named a time to wait (since it was chosen: to others, while this request stood in the queue)."""
    health = deployment.vitals.health
    if (ticket := health.admit()) is not None:
        return ticket
    if policy.panic and not health.told_to_wait:
        return health.beside()
    deployment.vitals.gate.leave()
    if health.told_to_wait:
        raise _cools(model, deployment, health.ready_in())
    raise fault("unavailable", f"{model.name} is being probed", sent=False)


async def _enter(life: Life, model: Model, deployment: Deployment, request: Request) -> Grant:
    """What limits this model and deployment, whoever asks. A refusal is an unsent fault: the next one is tried."""
    return await life.governor.enter(
        model=model.name,
        deployment=deployment.name,
        tokens=request.peek.input_bound + output_bound(request, model),
        worst_case=worst_case(request, model, deployment),
        at=life.trace.started_at,
    )


async def _recorded(life: Life, call: Call) -> None:
    """The intent is as durable as promised before the first byte goes out. Refused or cancelled here: nothing was sent."""
    try:
        await life.ledger.durable()
    except BaseException as error:
        outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
        call.unsent(outcome, "ended before it was sent")
        raise


async def _exchange(
    life: Life, call: Call, http: HttpRequest, total: float, remaining: float, policy: Policy
) -> WholeAnswer | StreamAnswer:
    """A whole answer's time is kept by the transport; only a stream's first content needs a timer of its own."""
    deployment, stream = call.deployment, call.request.stream
    patience = min(total, deployment.timeouts.first_token) if stream else total
    loop = asyncio.get_running_loop()
    deadline = loop.time() + total
    try:
        if not stream:
            return await _whole(call, await _send(life, call, http, deadline))
        idle, silent = deployment.timeouts.idle, max(deployment.timeouts.idle, deployment.timeouts.first_token)
        async with Patience(loop.time() + patience):
            response = await _send(life, call, http, deadline, silent)
            answer = StreamAnswer(call, keep=policy.keep, clock=life.clock, misfit=policy.misfit)
            await answer.open()
            if silent > idle:
                response.silence(idle)
            return answer
    except (TimeoutError, TotalTimeout) as error:
        sent = getattr(error, "sent", True)
        if patience >= remaining:
            call.end("failed", fault=fault("timeout", "the request's own deadline passed first", sent=sent))
            raise DeadlineExceeded("the request's deadline passed before an answer came") from error
        what = "no content" if stream else "no answer"
        raise fault("timeout", f"{call.model.name} gave {what} within {patience:g} s", sent=sent) from error
    except Exhausted as error:
        raise Overloaded(
            "the gateway has no connection left for this call",
            retry_after=1.0,
            detail=f"{type(error).__name__}: {error}",
        ) from error
    except TransportError as error:
        raise of_transport(error, opened=call.response is not None) from error


async def _send(
    life: Life, call: Call, http: HttpRequest, deadline: float, silent: float | None = None
) -> HttpResponse:
    """The answer's head; anything but 200 is raised as the fault that it tells. `silent`: seconds that its body may be."""
    deployment, limits = call.deployment, call.deployment.limits
    if silent is not None and silent > limits.idle:
        limits = msgspec.structs.replace(limits, idle=silent)
    call.response = response = await life.transport.send(http, limits, deadline)
    failpoints.reached("attempt.sent")
    read_limits(response, deployment.vitals, life.clock.time())
    if response.status != 200:
        raise await refusal(call, response, life.clock.time())
    return response


async def _whole(call: Call, response: HttpResponse) -> WholeAnswer:
    body = await response.read()
    facts = call.endpoint.dialect.inspect_answer(body, call.endpoint.quirks, call.request.peek.wanted)
    error = facts.error
    if error is None and call.request.op in _TALK and not is_utf8(body):
        error = fault("invalid_answer", "the provider's answer is not valid UTF-8")
    if error is not None:
        if facts.usage is not None:  # what the provider counted before it failed, it bills
            call.end("failed", fault=error, usage=facts.usage, upstream_id=facts.id)
        raise error
    call.account.saw_content()
    await response.aclose()
    if facts.pending and facts.id:
        call.goes_on(facts.id)
        return WholeAnswer(call, body)
    usage, partial = facts.usage, None
    if usage is None:
        partial = guess(call.request, call.model, len(body))
    elif call.request.peek.media is not None:
        price = call.deployment.price or call.model.price
        usage = completed(usage, call.request, call.model, price, len(body))
    call.end("ok", usage=usage, partial=partial, upstream_id=facts.id, status=response.status)
    media = None if call.request.op in _TALK else response.header(b"content-type")
    return WholeAnswer(call, body, JSON if media is None else media.decode("latin-1"))


def _kind(error: HeadgateError | None) -> str | None:
    if isinstance(error, UpstreamFault):
        return error.kind
    return error.code if isinstance(error, GatewayError) else None
