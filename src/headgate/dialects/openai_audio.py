"""`POST /v1/audio/speech` (JSON in, sound out), `/transcriptions` and `/translations` (forms in; JSON, text or subtitles
out)."""

from __future__ import annotations

from collections.abc import Mapping

from headgate.core.dialect import Wanted
from headgate.dialects.opaque import Opaque


class OpenAiAudio(Opaque):
    name = "openai_audio"
    noun = "audio"
    paths = {
        "speech": "/audio/speech",
        "transcriptions": "/audio/transcriptions",
        "translations": "/audio/translations",
    }

    def _wanted(self, form: Mapping[str, bytes] | None) -> Wanted:
        """Speech is asked for in JSON and told in sound. The forms' answers are JSON where the client says nothing else
        (json, verbose_json, diarized_json), and text in all other formats (text, srt, vtt)."""
        if form is None:
            return "sound"
        asked = form.get("response_format", b"").strip()
        return "text" if asked and b"json" not in asked.lower() else "json"


DIALECT = OpenAiAudio()
