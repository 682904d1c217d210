"""Can this model serve this request at all? Protocol features and the context window filter; preferences do not."""

from __future__ import annotations

from headgate.core.errors import HeadgateError, UnsupportedFeature, fault
from headgate.core.request import Request
from headgate.core.strategy import ModelInfo


def check_talk(request: Request, name: str, kind: str) -> None:
    """What compares answers, or plans for them, needs to understand them. Raises UnsupportedFeature for anything but a
    conversation."""
    if request.op not in ("chat", "count_tokens"):
        raise UnsupportedFeature(
            f"{name!r} is an {kind} and takes conversations only: name a model that the provider has for this door",
            param="model",
        )


def unfit(request: Request, model: ModelInfo) -> HeadgateError | None:
    """The error that says why not; None where it may be tried. Unknown features or windows filter nothing."""
    if model.features and not request.peek.needs <= model.features:
        missing = ", ".join(sorted(request.peek.needs - model.features))
        return UnsupportedFeature(f"{model.name} does not support {missing}", code="unsupported_feature")
    if model.max_context is not None and request.peek.input_bound > 4 * model.max_context:
        # The bound is generous (bytes / 3): only where even a quarter of it cannot fit is it certain.
        return fault(
            "context_length", f"the request is longer than {model.name}'s context of {model.max_context} tokens"
        )
    return None
