"""What the price catalogue knows, in our units."""

import json
from datetime import date
from importlib.resources import files

import pytest

from headgate.catalog.catalog import lookup
from headgate.core.money import cost_of, parse_dollars, per_mtok
from headgate.core.usage import Media, Usage


@pytest.mark.parametrize(
    ("provider", "model", "usage", "dollars"),
    [
        ("openai", "text-embedding-3-small", Usage(input=1_000_000), "0.02"),
        ("cohere", "embed-v4.0", Usage(input=500_000), "0.06"),
        ("openai", "tts-1", Usage(media=Media(characters=1_000)), "0.015"),
        ("openai", "whisper-1", Usage(media=Media(milliseconds=600_000)), "0.06"),
        ("groq", "whisper-large-v3", Usage(media=Media(milliseconds=3_600_000)), "0.111"),
        ("openai", "gpt-4o-transcribe", Usage(input=1_000_000, audio_input=600_000), "4.6"),
        ("openai", "gpt-image-1.5", Usage(output=10_000, media=Media(image_output=10_000)), "0.32"),
        ("google", "gemini-2.5-flash-image", Usage(output=1_290, media=Media(image_output=1_290)), "0.0387"),
    ],
)
def test_each_kind_of_model_has_its_price(provider, model, usage, dollars):
    """As the vendors' price lists of 2026 have them; embeddings are paid by their input alone."""
    price = lookup(provider, model).price
    assert price is not None
    assert cost_of(usage, price) == parse_dollars(dollars)


def test_output_that_has_no_price_is_never_free():
    price = lookup("openai", "text-embedding-3-small").price
    assert price is not None
    assert price.output == per_mtok("0.02")


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "gpt-live-1"), ("mistral", "mistral-ocr-2505"), ("openai", "x")]
)
def test_units_that_are_not_counted_are_no_price(provider, model):
    assert lookup(provider, model).price is None


def test_the_vendored_snapshot_is_dated_and_has_no_prices_of_its_own():
    data = json.loads((files("headgate.catalog") / "data" / "models.json").read_text(encoding="utf-8"))
    assert date(2026, 1, 1) <= date.fromisoformat(data["date"]) <= date.today()
    assert not any("price" in key for row in data["models"] for key in row)
    for row in data["models"]:
        if row["features"]:
            assert set(row["features"]) <= (lookup(row["provider"], row["match"]).features or set()), row
