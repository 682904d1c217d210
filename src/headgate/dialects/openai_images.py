"""`POST /v1/images/generations` (JSON), `/edits` and `/variations` (forms). Answers hold URLs or base64: never read."""

from __future__ import annotations

from headgate.dialects.opaque import Opaque


class OpenAiImages(Opaque):
    name = "openai_images"
    noun = "images"
    paths = {
        "images_generations": "/images/generations",
        "images_edits": "/images/edits",
        "images_variations": "/images/variations",
    }


DIALECT = OpenAiImages()
