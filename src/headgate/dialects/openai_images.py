"""`POST /v1/images/generations` (JSON), `/edits` and `/variations` (forms). Answers hold URLs or base64: never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.dialect import Peek
from headgate.core.usage import Media, Usage
from headgate.dialects.opaque import Opaque, usage_of

PICTURE = 7_024
"""Tokens of one picture where nobody says: 1024 by 1024 at high quality, the dearest of the usual sizes, as OpenAI's
calculator has it for gpt-image-2. Pictures of several megapixels have more."""


class OpenAiImages(Opaque):
    name = "openai_images"
    noun = "images"
    paths = {
        "images_generations": "/images/generations",
        "images_edits": "/images/edits",
        "images_variations": "/images/variations",
    }

    def _measure(self, peek: Peek, said: msgspec.Raw | None, content: memoryview) -> None:
        peek.media = Media(images=peek.n, image_output=PICTURE * peek.n)
        peek.max_tokens = PICTURE

    def _usage(self, raw: Mapping[str, Any]) -> Usage | None:
        """What is written is pictures, where the answer does not say otherwise. Without any tokens there is no usage:
        pictures are then counted by what was asked for."""
        usage, made = usage_of(raw), raw.get("data")
        if usage is None:
            return None
        media = usage.media or Media()
        drawn, images = media.image_output or usage.output, len(made) if isinstance(made, list) else 0
        return msgspec.structs.replace(
            usage, media=Media(image_input=media.image_input, image_output=drawn, images=images)
        )


DIALECT = OpenAiImages()
