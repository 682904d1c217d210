"""What pictures, speech and transcripts cost at their doors: by the units that their models are paid by, as their provider
tells them, else estimated, marked as that, and never more than was reserved for."""

from __future__ import annotations

import io
import json
import struct
import wave
from collections.abc import Iterator
from typing import Any

import pytest

from support.passthrough import FORM, Stage, form

CONFIG = """
providers:
  near: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
  chatty: {kind: deepseek, base_url: "http://127.0.0.1:1/v1", api_key: sk-chatty}
models:
  painter: {provider: near, price: {input: 5, output: 10, image_input: 8, image_output: 32}}
  printer: {provider: near, price: {input: 0, output: 0, image: 0.04}}
  reader: {provider: near, price: {input: 0, output: 0, characters: 15}}
  voice: {provider: near, price: {input: 0.6, output: 12}}
  singer: {provider: near, price: {input: 0.6, output: 0.6, audio_output: 12}}
  hourly: {provider: near, price: {input: 0, output: 0, audio_hour: 0.36}}
  hearer: {provider: near, price: {input: 2.5, output: 10, audio_input: 6}}
  free: {provider: near, upstream: nobody-knows}
"""
USD = 1_000_000_000
SOUND = bytes(20_000)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage(CONFIG)
    yield found
    found.close()


def booked(stage: Stage) -> tuple[int | None, bool]:
    """(nano-US$, whether our estimate) of the newest attempt; what was reserved for it is never less."""

    def newest() -> tuple[Any, Any]:
        outcome = list(stage.gateway.ledger.outcomes.values())[-1]
        return outcome, next(i for i in stage.gateway.ledger.intents if i.id == outcome.id)

    outcome, intent = stage.loop.call(newest)
    assert outcome.cost is None or intent.reserved >= outcome.cost
    return outcome.cost, outcome.usage.estimated


def picture(stage: Stage, model: str, usage: dict[str, Any] | None, n: int = 1) -> tuple[int | None, bool]:
    told = {} if usage is None else {"usage": usage}
    stage.answer("/images/generations", {"created": 1, "data": [{"b64_json": "aGk="}] * n, **told})
    stage.client.images.generate(model=model, prompt="a weir", n=n)
    return booked(stage)


def test_pictures_tokens_have_their_own_price(stage):
    usage = {"input_tokens": 60, "output_tokens": 4200, "total_tokens": 4260,
             "input_tokens_details": {"text_tokens": 10, "image_tokens": 50}}  # fmt: skip
    assert picture(stage, "painter", usage) == (((10 * 5 + 50 * 8 + 4200 * 32) * 1000), False)
    usage["output_tokens_details"] = {"image_tokens": 4160, "text_tokens": 40}
    assert picture(stage, "painter", usage) == (((10 * 5 + 50 * 8 + 4160 * 32 + 40 * 10) * 1000), False)


def test_a_picture_without_usage_is_booked_as_one(stage):
    """At the dearest of the usual sizes, times how many were asked for; not at its prompt's price alone."""
    cost, estimated = picture(stage, "painter", None)
    assert estimated
    assert 7_024 * 32 * 1000 < cost < 7_024 * 32 * 1000 + 100 * 5 * 1000
    many, _ = picture(stage, "painter", None, n=3)
    assert cost * 2.9 < many < cost * 3.1


def test_pictures_paid_by_the_piece(stage):
    assert picture(stage, "printer", None, n=2) == (2 * USD * 4 // 100, True)
    told = {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}
    assert picture(stage, "printer", told, n=3) == (3 * USD * 4 // 100, False)


def test_a_forms_n_is_counted(stage):
    stage.answer("/images/edits", {"created": 1, "data": [{"b64_json": "eW8="}] * 4})
    stage.client.images.edit(model="printer", image=("a.png", b"\x89PNG", "image/png"), prompt="more", n=4)
    assert booked(stage) == (4 * USD * 4 // 100, True)
    twice = form(SOUND, n="4") + form(SOUND, model="printer", n="1")
    as_file = form(SOUND, model="printer").replace(b'"file"', b'"n"')
    odd = [form(SOUND, model="printer", n=n) for n in ("0", "129", "x", "-1")]
    for body in (*odd, twice.replace(b"\r\n--B--\r\n", b"\r\n", 1), as_file):
        status, answer = stage.raw("/v1/images/edits", body, FORM)
        assert (status, json.loads(answer)["error"]["param"]) == (400, "n")


def test_each_picture_of_a_form_is_reserved_for(stage):
    told = {"input_tokens": 16 * 2_000, "output_tokens": 4_160, "total_tokens": 36_160,
            "input_tokens_details": {"text_tokens": 0, "image_tokens": 16 * 2_000}}  # fmt: skip
    stage.answer("/images/edits", {"created": 1, "data": [{"b64_json": "eW8="}], "usage": told})
    pictures = [(f"{n}.png", b"\x89PNG", "image/png") for n in range(16)]
    stage.client.images.edit(model="painter", image=pictures, prompt="all in one")
    assert booked(stage) == ((16 * 2_000 * 8 + 4_160 * 32) * 1000, False)


def test_speech_is_paid_by_the_character_or_by_what_it_may_sound_like(stage):
    stage.answer("/audio/speech", b"ID3" + bytes(2000), kind="audio/mpeg")
    said = "Mind the gate, and the wéir."
    stage.client.audio.speech.create(model="reader", voice="alloy", input=said)
    assert booked(stage) == (len(said) * 15 * 1000, True)
    for model in ("voice", "singer"):
        stage.client.audio.speech.create(model=model, voice="alloy", input=said)
        cost, estimated = booked(stage)
        assert estimated
        assert cost > 2 * len(said.encode()) * 12 * 1000


def heard(stage: Stage, model: str, answer: Any, sound: bytes = SOUND, **fields: str) -> tuple[int | None, bool]:
    stage.answer("/audio/transcriptions", answer)
    status, _ = stage.raw("/v1/audio/transcriptions", form(sound, model=model, **fields), FORM)
    assert status == 200
    return booked(stage)


@pytest.mark.parametrize(
    ("answer", "milliseconds"),
    [
        ({"text": "x", "usage": {"type": "duration", "seconds": 9}}, 9_000),
        ({"text": "x", "task": "transcribe", "duration": 8.47, "segments": []}, 8_470),
        ({"text": "x", "duration": "8.47"}, 8_470),
    ],
)
def test_a_transcript_is_paid_by_the_hour_as_its_provider_heard_it(stage, answer, milliseconds):
    assert heard(stage, "hourly", answer) == (milliseconds * 360_000_000 // 3_600_000, False)


@pytest.mark.parametrize("answer", [b"1\n00:00:00,000 --> 00:00:01,000\nx\n", {"text": "x"}, {"text": "x", "duration": "?"},
                                    {"text": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 1}}])  # fmt: skip
def test_how_long_it_was_where_nobody_says_is_at_most_what_its_bytes_can_hold(stage, answer):
    fields = {"response_format": "srt"} if isinstance(answer, bytes) else {}
    cost, estimated = heard(stage, "hourly", answer, **fields)
    assert estimated
    assert cost == pytest.approx(len(SOUND) // 2 * 100, abs=2)


@pytest.mark.parametrize(("rate", "width"), [(16_000, 2), (44_100, 3)])
def test_how_long_a_wav_file_is_stands_in_its_head(stage, rate, width):
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(2 * width * rate * 3))
    cost, estimated = heard(stage, "hourly", b"x", sound=written.getvalue(), response_format="text")
    assert (cost, estimated) == (pytest.approx(3_000 * 100, rel=0.001), True)
    for head in (b"RIFF", b"RIFF" + bytes(60), written.getvalue()[:22] + bytes(40)):  # half a head, and none
        cost, _ = heard(stage, "hourly", b"x", sound=head, response_format="text")
        assert cost == len(head) // 2 * 100


@pytest.mark.parametrize(
    ("further", "size", "is_plain"), [(1, 40, True), (3, 40, True), (0x55, 40, False), (1, 18, False)]
)
def test_an_extensible_head_tells_further_on_whether_it_is_plain_sound(stage, further, size, is_plain):
    """Else a minute of MP3 (0x55) would pass for the blink of an eye that its head makes of it."""
    plain = struct.pack("<HHIIHH", 0xFFFE, 8, 192_000, 192_000 * 64, 64, 64)
    rest = struct.pack("<HHIH14s", 22, 64, 0, further, bytes.fromhex("000000001000800000aa00389b71"))
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<I", size) + plain + rest
    sound = head + bytes(120_000)
    cost, _ = heard(stage, "hourly", b"x", sound=sound, response_format="text")
    assert cost == (10 if is_plain else len(sound) // 2) * 100


def test_a_long_prompt_in_a_form_is_not_free(stage):
    """Too long a field to be read is text all the same."""
    for size in (60_000, 70_000):
        cost, estimated = heard(stage, "hearer", b"x", prompt="y" * size, response_format="text")
        assert estimated
        assert cost >= size // 3 * 2_500


def test_sound_that_comes_in_json_is_not_free(stage):
    """Some providers take it so."""
    stage.answer("/audio/transcriptions", {"text": "x"})
    body = {"model": "hourly", "input_audio": {"data": "AAAA" * 5_000, "format": "mp3"}}
    for more in ({}, {"input": ""}):
        assert stage.ask("POST", "/v1/audio/transcriptions", body | more)[0] == 200
        cost, estimated = booked(stage)
        assert (cost, estimated) == (pytest.approx(20_000 // 2 * 100, rel=0.01), True)


def test_where_tokens_are_paid_for_how_long_it_was_is_not_all(stage):
    """Nobody told any tokens: they are estimated, and those of sound cost what sound costs."""
    for answer, fields in (({"text": "x" * 80, "duration": 8.47}, {}), (b"x" * 80, {"response_format": "text"})):
        cost, estimated = heard(stage, "hearer", answer, **fields)
        assert estimated
        assert cost > (3_000 * 6 + 20 * 10) * 1000


def test_a_transcripts_tokens_of_sound_have_their_own_price(stage):
    usage = {"type": "tokens", "input_tokens": 120, "output_tokens": 45, "total_tokens": 165,
             "input_token_details": {"text_tokens": 20, "audio_tokens": 100}}  # fmt: skip
    assert heard(stage, "hearer", {"text": "x", "usage": usage}) == ((20 * 2.5 + 100 * 6 + 45 * 10) * 1000, False)
    cost, estimated = heard(stage, "hearer", b"x" * 400, response_format="text")
    assert estimated
    assert cost > 100 * 10 * 1000


def test_the_listing_says_what_is_paid_beside_tokens(stage):
    _, _, body = stage.get("/v1/models")
    prices = {row["id"]: row["price"] for row in json.loads(body)["data"]}
    assert prices["hourly"] == {"input": 0, "output": 0, "unit": "US$/Mtok", "beside_tokens": "US$ 0.36 per hour"}
    assert prices["voice"] == {"input": 0.6, "output": 12, "unit": "US$/Mtok"}
    assert prices["free"] is None


def test_what_has_no_price_costs_nobody_knows_what(stage):
    assert picture(stage, "free", {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}) == (None, False)
