"""`POST /v1/moderations`."""

from __future__ import annotations

from headgate.dialects.opaque import Opaque


class OpenAiModerations(Opaque):
    name = "openai_moderations"
    noun = "moderations"
    paths = {"moderations": "/moderations"}
    model = "omni-moderation-latest"
    """What OpenAI takes where none is named."""


DIALECT = OpenAiModerations()
