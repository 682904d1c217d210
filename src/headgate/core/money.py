"""Money is an integer number of nano-US$ (1e-9 US$). Rounded once per attempt, half up; never a float."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

import msgspec

from headgate.core.usage import Media, Usage

NANO = 1_000_000_000
MTOK = 1_000_000
HOUR = 3_600_000
"""Milliseconds."""


class Price(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """Prices of one model in nano-US$ per million tokens (15.00 US$/Mtok = 15_000_000_000).

    None in an optional field means "as the base": cached_input, audio_input and image_input fall back to input,
    cache_write to input, cache_write_1h to cache_write, reasoning, audio_output and image_output to output. `version` names
    where the price came from and when. `request` is a flat fee per call in nano-US$. Beside tokens there may be prices of
    an `image` made (nano-US$ each), of `characters` spoken (nano-US$ per million) and of an `audio_hour` heard (nano-US$).
    """

    input: int
    output: int
    cached_input: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    image: int | None = None
    characters: int | None = None
    audio_hour: int | None = None
    request: int = 0
    version: str = "config"
    long_context_from: int | None = None
    """Where set, prompts of more input tokens than this are billed at `long`."""
    long: Price | None = None

    @property
    def counts_media(self) -> bool:
        """Something else than tokens is paid for."""
        return self.image is not None or self.characters is not None or self.audio_hour is not None

    def beside_tokens(self) -> str | None:
        """That, in US$, for people: `0.36 per hour`. None where tokens alone are paid for."""
        amounts = ((self.image, "image"), (self.characters, "M characters"), (self.audio_hour, "hour"))
        told = [f"{amount / NANO:g} per {unit}" for amount, unit in amounts if amount is not None]
        return ", ".join(told) or None


def per_mtok(dollars: Decimal | str | int) -> int:
    """US$ per million tokens -> the unit of Price."""
    return int((Decimal(dollars) * NANO).to_integral_value(ROUND_HALF_UP))


def cost_of(usage: Usage, price: Price) -> int:
    """Cost of one attempt in nano-US$: each token counted once, at its own price.

    usage.input includes cached, cache-written and audio input; usage.output includes reasoning and audio output. Parts
    that together are more than the whole (a provider's mistake) are cut, in that order.
    """
    if price.long is not None and price.long_context_from is not None and usage.input > price.long_context_from:
        price = price.long
    total = usage.input * price.input + usage.output * price.output
    if usage.cached_input or usage.cache_write or usage.audio_input:
        cached = min(usage.cached_input, usage.input)
        written = min(usage.cache_write, usage.input - cached)
        hour = min(usage.cache_write_1h, written)
        audio = min(usage.audio_input, usage.input - cached - written)
        write = _or(price.cache_write, price.input)
        total += (
            cached * (_or(price.cached_input, price.input) - price.input)
            + written * (write - price.input)
            + hour * (_or(price.cache_write_1h, write) - write)
            + audio * (_or(price.audio_input, price.input) - price.input)
        )
    if usage.reasoning or usage.audio_output:
        reasoning = min(usage.reasoning, usage.output)
        audio = min(usage.audio_output, usage.output - reasoning)
        total += reasoning * (_or(price.reasoning, price.output) - price.output)
        total += audio * (_or(price.audio_output, price.output) - price.output)
    if usage.media is not None:
        total += _pictured(usage, usage.media, price) + _beside_tokens(usage.media, price)
    return price.request + (total + MTOK // 2) // MTOK


def _pictured(usage: Usage, media: Media, price: Price) -> int:
    """What pictures' tokens cost more or less than the text that they were counted as. What other parts hold is cut."""
    seen = min(media.image_input, max(usage.input - usage.cached_input - usage.cache_write - usage.audio_input, 0))
    drawn = min(media.image_output, max(usage.output - usage.reasoning - usage.audio_output, 0))
    return seen * (_or(price.image_input, price.input) - price.input) + drawn * (
        _or(price.image_output, price.output) - price.output
    )


def _beside_tokens(media: Media, price: Price) -> int:
    """In the unit of tokens times their price: a millionth of a nano-US$."""
    heard = -(-media.milliseconds * (price.audio_hour or 0) * MTOK // HOUR)
    return media.characters * (price.characters or 0) + media.images * (price.image or 0) * MTOK + heard


def upper_bound(input_tokens: int, output_tokens: int, price: Price, media: Media | None = None) -> int:
    """The most that a call of these sizes can cost, in nano-US$, rounded up."""
    if price.long is not None and price.long_context_from is not None and input_tokens > price.long_context_from:
        price = price.long
    dearest_in, dearest_out = _dearest(price)
    beside = 0 if media is None else _beside_tokens(media, price)
    return price.request - (-(input_tokens * dearest_in + output_tokens * dearest_out + beside) // MTOK)


@lru_cache(maxsize=1024)
def _dearest(price: Price) -> tuple[int, int]:
    """What an input and an output token can cost at most."""
    return (
        max(
            price.input,
            price.cache_write or 0,
            price.cache_write_1h or 0,
            price.audio_input or 0,
            price.image_input or 0,
        ),
        max(price.output, price.reasoning or 0, price.audio_output or 0, price.image_output or 0),
    )


def stamped(price: Price) -> Price:
    """With its amounts in its version, in US$ per million tokens: `config (input 15, output 15)`. So a row of the ledger
    says what it was worked out from, whatever became of the price since."""
    amounts = _amounts(price)
    if price.long is not None and price.long_context_from is not None:
        amounts += f"; beyond {price.long_context_from} {_amounts(price.long)}"
    return msgspec.structs.replace(price, version=f"{price.version} ({amounts})")


def _amounts(price: Price) -> str:
    fields = {name: getattr(price, name) for name in ("input", "output", *OPTIONAL)}
    if price.request:
        fields["request"] = price.request
    return ", ".join(f"{name} {(Decimal(a) / NANO).normalize():f}" for name, a in fields.items() if a is not None)


OPTIONAL = (
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "image_input",
    "image_output",
    "image",
    "characters",
    "audio_hour",
)
"""Prices that a model may have beside those of input and output."""


def dollars(nano: int, places: int = 6) -> str:
    """`1230000` -> `"0.001230"`: the form of every amount that is shown. More places are used where 6 would show 0."""
    if places == 6 and nano > 0:  # the same by integers, many times a request
        micro, rest = divmod(nano, 1000)
        micro += rest > 500 or (rest == 500 and micro & 1)
        if micro:
            return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"
    value = Decimal(nano) / NANO
    text = f"{value:.{places}f}"
    return f"{value:.9f}" if nano and not text.strip("-0.") else text


def parse_dollars(text: str) -> int:
    """`"0.05"`, `"$0.05"` or `"1_000"` -> nano-US$. ValueError where it is no amount or is negative."""
    try:
        value = Decimal(text.strip().removeprefix("$").replace("_", ""))
    except ArithmeticError as error:
        raise ValueError(f"not an amount of money: {text[:40]!r}") from error
    if not value.is_finite() or value < 0:
        raise ValueError(f"not an amount of money: {text[:40]!r}")
    return int((value * NANO).to_integral_value(ROUND_HALF_UP))


def _or(value: int | None, base: int) -> int:
    return base if value is None else value
