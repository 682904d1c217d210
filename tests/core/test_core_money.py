from hypothesis import given
from hypothesis import strategies as st

from headgate.core.money import Price, cost_of, dollars, parse_dollars, per_mtok, upper_bound
from headgate.core.usage import Media, Usage

TOKENS = st.integers(0, 2_000_000)


def test_each_token_is_billed_once_at_its_own_price():
    price = Price(
        input=per_mtok("3"), output=per_mtok("15"), cached_input=per_mtok("0.30"), cache_write=per_mtok("3.75")
    )
    usage = Usage(input=1_000_000, cached_input=600_000, cache_write=100_000, output=10_000, reasoning=4_000)
    assert dollars(cost_of(usage, price)) == "1.605000"  # .3 M at 3, .6 M at .30, .1 M at 3.75, 10 k at 15


def test_long_context_price_applies_to_the_whole_prompt():
    long = Price(input=per_mtok("6"), output=per_mtok("22.50"))
    price = Price(input=per_mtok("3"), output=per_mtok("15"), long=long, long_context_from=200_000)
    assert cost_of(Usage(input=200_000), price) == parse_dollars("0.6")
    assert cost_of(Usage(input=200_001), price) == parse_dollars("1.200006")


@given(TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_the_upper_bound_is_one(fresh, cached, written, said, thought):
    price = Price(input=150, output=600, cached_input=75, cache_write=188, reasoning=601)
    usage = Usage(
        input=fresh + cached + written,
        cached_input=cached,
        cache_write=written,
        output=said + thought,
        reasoning=thought,
    )
    assert cost_of(usage, price) <= upper_bound(usage.input, usage.output, price)


@given(TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 100), TOKENS, st.integers(0, 10**8))
def test_what_is_paid_beside_tokens_is_within_the_bound_too(read, seen, said, drawn, images, characters, milliseconds):
    price = Price(input=150, output=600, image_input=151, image_output=601, image=7, characters=15, audio_hour=11)
    media = Media(image_input=seen, image_output=drawn, images=images, characters=characters, milliseconds=milliseconds)
    usage = Usage(input=read + seen, output=said + drawn, media=media)
    bound = upper_bound(usage.input, usage.output, price, media)
    assert cost_of(usage, price) <= bound
    assert bound <= upper_bound(usage.input, usage.output, price, media + Media(images=1))


def test_units_beside_tokens_by_hand():
    price = Price(input=0, output=0, image=40_000_000, characters=per_mtok("15"), audio_hour=360_000_000)
    assert cost_of(Usage(media=Media(images=3)), price) == parse_dollars("0.12")
    assert cost_of(Usage(media=Media(characters=2_000)), price) == parse_dollars("0.03")
    assert cost_of(Usage(media=Media(milliseconds=90_000)), price) == parse_dollars("0.009")
    assert (Usage(media=Media(images=1)) + Usage() + Usage(media=Media(images=2))).media == Media(images=3)


def test_what_is_paid_beside_tokens_is_told_and_nothing_else_is():
    assert Price(input=0, output=0, audio_hour=360_000_000).beside_tokens() == "0.36 per hour"
    both = Price(input=5, output=5, image=40_000_000, characters=per_mtok("15"))
    assert both.beside_tokens() == "0.04 per image, 15 per M characters"
    assert Price(input=5, output=5, image_output=7).beside_tokens() is None


def test_amounts_read_naturally_and_small_ones_are_not_shown_as_nothing():
    assert parse_dollars("$0.05") == 50_000_000
    assert dollars(1_230_000) == "0.001230"
    assert dollars(7) == "0.000000007"
