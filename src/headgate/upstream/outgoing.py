"""What is sent to a deployment: the client's own bytes where they will do, else its request in the deployment's words."""

from __future__ import annotations

from headgate.core.request import Request
from headgate.dialects.jsonio import with_fields
from headgate.net.transport.protocol import HttpRequest
from headgate.upstream.account import covered
from headgate.upstream.deployment import Deployment, Endpoint, Model
from headgate.upstream.life import Life


def rendered(life: Life, model: Model, deployment: Deployment, endpoint: Endpoint, request: Request) -> HttpRequest:
    """The client's bytes with the model spliced in where the dialect is the door's own; else rendered anew. What only
    passes through is never rendered: the parameters that a profile drops are those of conversations."""
    dialect, quirks = endpoint.dialect, endpoint.quirks
    body: bytes | None = None
    extra: tuple[tuple[str, str], ...] = ()
    if dialect is request.dialect:
        extra = tuple(request.headers.items())
        if not request.is_edited and not (quirks.drop and request.op in ("chat", "count_tokens")):
            body = dialect.splice(request.body, request.peek, model=deployment.upstream, quirks=quirks)
    if body is None:
        content = request.content()
        made = dialect.render_request(content, model=deployment.upstream, quirks=quirks)
        life.trace.lose(*(name for name in made.lossy if name not in content.added))
        for name in content.added.intersection(made.lossy):
            _left_out(life, model, name)
        body, extra = made.body, (*extra, *made.headers)
    if deployment.extra:
        body = with_fields(body, covered(deployment.extra, request, model))
    path = dialect.path(request.op, model=deployment.upstream, stream=request.stream)
    headers = endpoint.headers
    if extra:
        # What the client says of its own protocol version replaces the profile's word.
        headers = tuple(pair for pair in headers if pair[0] not in request.headers)
    return HttpRequest(
        origin=endpoint.origin,
        method="POST",
        target=endpoint.base_path + path,
        headers=headers,
        body=body,
        extra=extra,
    )


def _left_out(life: Life, model: Model, name: str) -> None:
    """Once a request: a judge may be asked many times."""
    because = f"{model.name} does not take {name}, and the client did not ask for it"
    if not any(decision.kind == "parameter" and decision.because == because for decision in life.trace.decisions):
        at = round(life.clock.monotonic() - life.trace.started, 4)
        life.trace.decide("parameter", None, over=[name], because=because, at=at)
