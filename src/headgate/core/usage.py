"""Tokens of one attempt, each counted once."""

from __future__ import annotations

import msgspec


class Media(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What models that make or read pictures and sound are paid by, where that is not each token alike.

    image_input   tokens of pictures, part of Usage.input and in no other part of it
    image_output  tokens of pictures, part of Usage.output and in no other part of it
    images        pictures made
    characters    of text spoken
    milliseconds  of sound heard
    """

    image_input: int = 0
    image_output: int = 0
    images: int = 0
    characters: int = 0
    milliseconds: int = 0

    def __add__(self, other: Media) -> Media:
        return Media(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says it used, in our one accounting.

    input       every input token, INCLUDING cached_input, cache_write and audio_input
    output      every output token, INCLUDING reasoning and audio_output
    The providers differ in what includes what; each dialect (with its profile's quirks) turns theirs into this one.
    cache_write_1h is the part of cache_write that is kept for an hour, where the provider asks more for that.
    Otherwise no token is in two parts: audio that was cached is in cached_input, not in audio_input.
    estimated   True where the provider gave no usage and the figures are ours.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    media: Media | None = None
    """Has no columns of its own in the ledger: the cost, and the price that it was worked out by, are kept."""
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.input + self.output

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cached_input=self.cached_input + other.cached_input,
            cache_write=self.cache_write + other.cache_write,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
            reasoning=self.reasoning + other.reasoning,
            audio_input=self.audio_input + other.audio_input,
            audio_output=self.audio_output + other.audio_output,
            media=self.media + other.media if self.media and other.media else self.media or other.media,
            estimated=self.estimated or other.estimated,
        )


def widest(one: Usage, two: Usage) -> Usage:
    """Cumulative counts that come in parts (Anthropic: input first, output last): field by field the larger."""
    return Usage(
        input=max(one.input, two.input),
        output=max(one.output, two.output),
        cached_input=max(one.cached_input, two.cached_input),
        cache_write=max(one.cache_write, two.cache_write),
        cache_write_1h=max(one.cache_write_1h, two.cache_write_1h),
        reasoning=max(one.reasoning, two.reasoning),
        audio_input=max(one.audio_input, two.audio_input),
        audio_output=max(one.audio_output, two.audio_output),
        media=two.media or one.media,
    )
