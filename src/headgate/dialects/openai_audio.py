"""`POST /v1/audio/speech` (JSON in, sound out), `/transcriptions` and `/translations` (forms in; JSON, text or subtitles
out)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.dialect import Peek, Wanted
from headgate.core.usage import Media, Usage
from headgate.dialects.opaque import Opaque, usage_of

SPOKEN = 2
"""Tokens of sound per byte of text, at most: OpenAI says 0.015 US$ a minute of gpt-4o-mini-tts at 12 US$ per million,
which are 1,250 tokens, and hardly anybody speaks as slowly as 625 letters a minute."""
SLOWEST = 2
"""Bytes per millisecond of sound, at least: speech in 16 kbit/s."""
_WAV = struct.Struct("<4s4x8s4xHHI6xH")
"""RIFF, WAVE and its first chunk: format, channels, samples a second, bits of a sample (RFC 2361; Microsoft's RIFF)."""
_PCM, _EXTENSIBLE = frozenset({1, 3}), 0xFFFE
"""Whole numbers and floating-point ones; WAVE_FORMAT_EXTENSIBLE, which says further on what it is."""
_FURTHER = struct.Struct("<16xI24xH")
"""The size of the first chunk, and the format in it."""
_LONGEST = 365 * 24 * 3600 * 1000


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

    def _measure(self, peek: Peek, said: msgspec.Raw | None, content: memoryview) -> None:
        """Whether there is something to be heard, in JSON too, or to be spoken: the model's price knows."""
        text = _text(said)
        peek.media = Media(characters=len(text), milliseconds=_longest(content))
        peek.max_tokens = SPOKEN * len(text.encode()) or None

    def _usage(self, raw: Mapping[str, Any]) -> Usage | None:
        """Tokens, or how long the sound was: `{"type": "duration", "seconds": 9}`, or verbose_json's `duration`, which some
        write as text."""
        usage, told = usage_of(raw), raw.get("usage")
        heard = _milliseconds(told.get("seconds") if isinstance(told, dict) else None) or _milliseconds(
            raw.get("duration")
        )
        if heard is None:
            return usage
        return msgspec.structs.replace(usage or Usage(), media=Media(milliseconds=heard))


def _longest(sound: memoryview) -> int:
    """Milliseconds at most: of PCM in a WAV file as its header says, by which whoever decodes it goes."""
    if len(sound) >= _WAV.size:
        riff, wave, kind, channels, rate, bits = _WAV.unpack_from(sound)
        if kind == _EXTENSIBLE and len(sound) >= _FURTHER.size:
            size, further = _FURTHER.unpack_from(sound)
            kind = further if size >= 40 else kind
        if (riff, wave) == (b"RIFF", b"WAVEfmt ") and kind in _PCM and (per_second := channels * rate * bits // 8):
            return math.ceil(len(sound) * 1000 / per_second)
    return len(sound) // SLOWEST


def _text(said: msgspec.Raw | None) -> str:
    try:
        return msgspec.json.decode(said, type=str) if said is not None else ""
    except msgspec.DecodeError:
        return bytes(said or b"").decode("utf-8", "replace")  # no text: the provider will refuse it


def _milliseconds(seconds: Any) -> int | None:
    """None where it is no length of time."""
    try:
        value = float(seconds) * 1000 if isinstance(seconds, int | float | str) and not isinstance(seconds, bool) else 0
    except (ValueError, OverflowError):
        return None
    return math.ceil(value) if 0 < value < _LONGEST else None


DIALECT = OpenAiAudio()
