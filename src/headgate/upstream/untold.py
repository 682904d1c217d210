"""What an answer used where its provider does not say: our estimate, marked as one."""

from __future__ import annotations

import msgspec

from headgate.core.bounds import PER_MEDIUM
from headgate.core.money import Price
from headgate.core.request import Request
from headgate.core.usage import Usage
from headgate.upstream.account import output_bound
from headgate.upstream.deployment import Model

_HEARD = frozenset({"transcriptions", "translations"})
"""Operations whose requests hold sound, as one medium."""
_TEXT = _HEARD | {"chat", "completions"}
"""Operations whose answers are text: a token per four bytes."""
_MADE = frozenset({"images_generations", "images_edits", "images_variations", "speech"})
"""Pictures and sound cannot be counted by their bytes: as much as was reserved for."""


def guess(request: Request, model: Model, size: int) -> Usage:
    """Of a whole answer of `size` bytes."""
    output = 0
    if request.op in _TEXT:
        output = size // 4
    elif request.op in _MADE:
        output = output_bound(request, model)
    peek = request.peek
    return Usage(
        input=peek.input_bound,
        output=output,
        audio_input=PER_MEDIUM if request.op in _HEARD else 0,
        audio_output=output if request.op == "speech" else 0,
        media=peek.media,
        estimated=True,
    )


def completed(usage: Usage, request: Request, model: Model, price: Price | None, size: int) -> Usage:
    """The provider's word. With our estimate of what is paid for beside tokens where it tells tokens alone, and of the
    tokens where those are paid for and it tells only the rest (how long the sound was)."""
    media, expected = usage.media, request.peek.media
    if price is None or expected is None:
        return usage
    counted = media is not None and (media.images or media.characters or media.milliseconds)
    if counted:
        if usage.total or price.counts_media:
            return usage
        return msgspec.structs.replace(guess(request, model, size), media=media)
    if not price.counts_media:
        return usage
    merged = expected if media is None else expected + media
    return msgspec.structs.replace(usage, media=merged, estimated=True)
