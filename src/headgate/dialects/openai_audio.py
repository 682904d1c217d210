"""`POST /v1/audio/speech` (JSON in, sound out), `/transcriptions` and `/translations` (forms in; JSON, text or subtitles
out)."""

from __future__ import annotations

from headgate.dialects.opaque import Opaque


class OpenAiAudio(Opaque):
    name = "openai_audio"
    noun = "audio"
    bare = True
    paths = {
        "speech": "/audio/speech",
        "transcriptions": "/audio/transcriptions",
        "translations": "/audio/translations",
    }


DIALECT = OpenAiAudio()
