"""What recorded answers cost, checked by hand.

Each row is one recorded answer (tests/data/traffic), prices in US$ per million tokens, and the cost in nano-US$ worked
out from the provider's published rule by hand; `stated` where the provider itself put the cost into the answer, which is
then the same figure. The rules:

    OpenAI, Azure, Groq, DeepSeek, Mistral, Cerebras, Z.AI, ...  cached and cache-written tokens are part of the input,
                  reasoning and audio part of input or output
    xAI           reasoning stands beside completion_tokens; the total has it
    Vercel        for Gemini models reasoning stands beside completion_tokens, and even the total leaves it out
    Anthropic     cache reads and writes stand beside input_tokens; thinking is part of output_tokens; what compacting the
                  conversation used stands in `iterations` only, as what advising models used does (not counted: they
                  have prices of their own)
    Gemini        cached tokens are part of the prompt, thoughts stand beside the candidates, the results of tools beside
                  the prompt; at its OpenAI-shaped endpoint thoughts are only in the total
Cohere's and Bedrock's Converse formats are not spoken, so their answers are not here.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.dialect import Quirks
from headgate.core.errors import UpstreamFault
from headgate.core.events import Used
from headgate.core.money import Price, cost_of, per_mtok, upper_bound
from headgate.core.usage import Media, Usage
from headgate.dialects.anthropic_messages import DIALECT as MESSAGES
from headgate.dialects.gemini import DIALECT as GEMINI
from headgate.dialects.openai_chat import DIALECT as CHAT
from headgate.dialects.openai_completions import DIALECT as COMPLETIONS
from headgate.dialects.openai_embeddings import DIALECT as EMBEDDINGS
from headgate.dialects.openai_responses import DIALECT as RESPONSES
from support.corpus import rows, select
from upstream.test_stream_end import Call, pulled

# id, dialect, prices, nano-US$, the sum in micro-US$
BY_HAND: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("fan-858633b4c2", CHAT, {"input": "1.1", "output": "4.4"}, 355_300, "azure: 19*1.1 + 76*4.4, 64 of them reasoning"),
    ("pai-ad96710b3b", CHAT, {"input": "2.5", "audio_input": "40", "output": "10"}, 1_900_000,
     "openai audio: 20*2.5 + 44*40 + 9*10"),
    ("pai-1188031feb", CHAT, {"input": "5", "cache_write": "6.25", "output": "30"}, 25_235_000,
     "openai cache write: 8*5 + 4012*6.25 + 4*30"),
    ("pai-bf28a6b2fe", RESPONSES, {"input": "1.25", "cached_input": "0.125", "output": "10"}, 23_642_500,
     "openai: 9394*1.25 + 3200*0.125 + 1150*10, 1088 of them reasoning"),
    ("pai-dbf2cc797b", RESPONSES, {"input": "5", "cache_write": "6.25", "output": "30"}, 49_962_500,
     "openai: 4158*5 + 4418*6.25 + 52*30"),
    ("pai-155f46c894", CHAT, {"input": "0.15", "output": "0.6"}, 44_400, "bedrock mantle: 72*0.15 + 56*0.6"),
    ("pai-b3fb1615f2", RESPONSES, {"input": "5", "cache_write": "6.25", "output": "30"}, 1_733_750,
     "bedrock mantle: 115*5 + 27*6.25 + 33*30"),
    ("pai-fb7903c515", EMBEDDINGS, {"input": "0.02", "output": "0"}, 40, "openai embeddings: 2*0.02"),
    ("pai-1cc6d6a14d", CHAT, {"input": "0.28", "cached_input": "0.028", "output": "0.42"}, 77_336,
     "deepseek: 51*0.28 + 512*0.028 + 116*0.42, 60 of them reasoning"),
    ("prm-2ea93326ca", CHAT, {"input": "0.28", "cached_input": "0.028", "output": "0.42"}, 29_596,
     "deepseek, older form: 28*0.28 + 192*0.028 + 39*0.42"),
    ("pai-aecc93b970", RESPONSES, {"input": "0.28", "cached_input": "0.028", "output": "0.42"}, 64_428,
     "deepseek: 110*0.28 + 256*0.028 + 63*0.42"),
    ("pai-cbc956da82", CHAT, {"input": "0.15", "cached_input": "0.075", "output": "0.6"}, 88_800,
     "groq: 80*0.15 + 256*0.075 + 96*0.6, 59 of them reasoning"),
    ("pai-4e4e4778d1", CHAT, {"input": "0.4", "cached_input": "0.04", "output": "2"}, 36_560,
     "mistral: 44*0.4 + 224*0.04 + 5*2"),
    ("pai-04c27d502e", CHAT, {"input": "0.4", "cached_input": "0.04", "output": "2"}, 26_080,
     "mistral, older form: 32*0.4 + 32*0.04 + 6*2"),
    ("pai-82aedc698c", CHAT, {"input": "0.35", "output": "0.75"}, 61_750, "cerebras: 80*0.35 + 45*0.75, 34 reasoning"),
    ("pai-f73a2f98e1", CHAT, {"input": "0.2", "cached_input": "0.1", "output": "1"}, 90_400,
     "crusoe: 150*0.2 + 64*0.1 + 54*1, 20 of them reasoning"),
    ("pai-197a8a206c", CHAT, {"input": "0.6", "cached_input": "0.11", "output": "2.2"}, 419_640,
     "z.ai: 431*0.6 + 4*0.11 + 73*2.2, 56 of them reasoning"),
    ("fan-82bfaba5f1", CHAT, {"input": "0.1", "output": "0.3"}, 37_600, "huggingface: 205*0.1 + 57*0.3"),
    ("tll-6aa6257519", CHAT, {"input": "0.2", "output": "0.2"}, 10_600, "together: 18*0.2 + 35*0.2"),
    ("pai-4c42faace7", CHAT, {"input": "1", "output": "2"}, 117_000, "snowflake: 89*1 + 14*2"),
    ("pai-51944f3252", CHAT, {"input": "0", "output": "0"}, 0, "ollama: nothing"),
    ("pai-71da7017d3", CHAT, {"input": "0.05", "output": "0.2"}, 26_200, "ollama's cloud: 172*0.05 + 88*0.2"),
    ("tll-e3db5bf8f0", CHAT, {"input": "0.1", "output": "0.1"}, 7_700, "vllm: 57*0.1 + 20*0.1"),
    ("pai-94ba2600b3", CHAT, {"input": "3", "output": "15"}, 807_000, "a router of somebody's own: 14*3 + 51*15"),
    ("tll-b364841f45", COMPLETIONS, {"input": "1.5", "output": "2"}, 381_500, "openai completions: 61*1.5 + 145*2"),
    ("tll-4481d056dd", COMPLETIONS, {"input": "0.6", "output": "0.6"}, 313_200, "together completions: (10 + 512)*0.6"),
    ("tll-96849f1e08", COMPLETIONS, {"input": "0.1", "output": "0.1"}, 4_000, "vllm completions: (20 + 20)*0.1"),
    ("pai-644cdda502", RESPONSES, {"input": "1.25", "output": "10"}, 182_500, "azure: 18*1.25 + 16*10, 9 reasoning"),
    ("pai-080a60aa9b", EMBEDDINGS, {"input": "0.06", "output": "0"}, 180, "voyage, which says the total only: 3*0.06"),
    ("tll-7becef388b", EMBEDDINGS, {"input": "0.1", "output": "0"}, 2_100, "mistral embeddings: 21*0.1"),
    ("tll-a7cc39e763", EMBEDDINGS, {"input": "0.13", "output": "0"}, 1_040, "azure embeddings: 8*0.13"),
    ("ell-e81545cd9d", MESSAGES, {"input": "3", "cached_input": "0.3", "cache_write": "3.75", "output": "15"}, 44_839_050,
     "anthropic: 4*3 + 2836*0.3 + 11107*3.75 + 155*15, 26 of them thinking"),
    ("pai-501741cfa3", MESSAGES, {"input": "3", "cached_input": "0.3", "cache_write": "3.75", "output": "15"}, 15_638_400,
     "anthropic: 6*3 + 20443*0.3 + 574*3.75 + 489*15"),
    ("pai-a5dbf7c78a", MESSAGES, {"input": "3", "cached_input": "0.3", "cache_write": "3.75", "output": "15"}, 10_857_300,
     "bedrock's Anthropic format: 3*3 + 9511*0.3 + 1956*3.75 + 44*15"),
    ("fan-b0ef7b22d6", MESSAGES, {"input": "3", "output": "15"}, 288_000, "vertex's Anthropic format: 16*3 + 16*15"),
    ("pai-56b3a4af28", MESSAGES, {"input": "5", "output": "25"}, 280_405_000,
     "anthropic, compacted: (55196 + 220)*5 + (125 + 8)*25"),
    ("pai-d0847f0bdc", MESSAGES, {"input": "5", "cached_input": "0.5", "cache_write": "6.25", "output": "25"}, 349_395_000,
     "anthropic, compacted: (100 + 229)*5 + 55096*6.25 + (131 + 5)*25"),
    ("pai-dbf33df824", MESSAGES, {"input": "5", "cached_input": "0.5", "cache_write": "6.25", "output": "25"}, 31_228_000,
     "anthropic, compacted, streamed: (100 + 181)*5 + 55096*0.5 + (83 + 8)*25"),
    ("pai-428531923a", MESSAGES, {"input": "3", "output": "15"}, 8_985_000, "anthropic, advised: 2390*3 + 121*15"),
    ("pai-147b59c33f", GEMINI, {"input": "1.25", "output": "10"}, 7_187_500,
     "gemini, streamed: (427 + 771 of tools)*1.25 + (122 + 447 thoughts)*10"),
    ("pai-189b24899a", GEMINI, {"input": "0.3", "output": "2.5"}, 655_200,
     "gemini: (95 + 439 of tools)*0.3 + (66 + 132 thoughts)*2.5"),
    ("pai-31b1f6817c", GEMINI, {"input": "0.3", "audio_input": "1", "cached_input": "0.03", "output": "2.5"}, 2_869_270,
     "gemini: 298*0.3 + 36 audio*1 + 17379 cached (1881 of them audio)*0.03 + (68 + 821)*2.5"),
    ("pai-d3f78ec2e3", GEMINI, {"input": "2", "output": "12", "image_output": "120"}, 137_744_000,
     "gemini, a picture: 22*2 + (96 + 179 thoughts)*12 + 1120 of the picture*120"),
    ("pai-64f4e7d78c", CHAT, {"input": "0.3", "output": "2.5"}, 195_500,
     "gemini's OpenAI-shaped endpoint: 35*0.3 + (12 + 62 that only the total has)*2.5"),
]  # fmt: skip
# id, dialect, prices, what the provider says it cost
STATED: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("pai-0c63b18fdf", CHAT, {"input": "3", "cached_input": "0.3", "cache_write": "3.75", "output": "15"}, 2_569_950,
     "openrouter, cost 0.00256995: 1*3 + 2569*0.3 + 79*3.75 + 100*15"),
    ("pai-0da10f74e2", RESPONSES, {"input": "5", "cache_write": "6.25", "output": "30"}, 25_265_000,
     "openrouter, cost 0.025265: 8*5 + 4012*6.25 + 5*30"),
    ("pai-469069da23", RESPONSES, {"input": "5", "cached_input": "0.5", "output": "30"}, 2_196_000,
     "openrouter, cost 0.002196: 8*5 + 4012*0.5 + 5*30"),
    ("fan-942566abd6", CHAT, {"input": "0.45", "cached_input": "0.225", "output": "2.2"}, 328_700,
     "avian, streamed, cost 0.0003287: 26*0.45 + 128*0.225 + 131*2.2, 87 of them reasoning"),
    ("fan-984a776de8", CHAT, {"input": "0.45", "cached_input": "0.225", "output": "2.2"}, 540_050,
     "avian, streamed, cost 0.00054005: 13*0.45 + 8*0.225 + 242*2.2"),
    ("pai-9499afe60e", CHAT, {"input": "0.59", "output": "0.79"}, 31_100,
     "a gateway before groq, 3.11e-05: 42*0.59 + 8*0.79"),
    ("pai-38c0b2ec0e", RESPONSES, {"input": "1.25", "output": "10"}, 96_250,
     "a gateway before openai, 9.625e-05: 13*1.25 + 8*10"),
    ("fan-26fcf7ac69", CHAT, {"input": "0.3", "output": "2.5"}, 283_300,
     "vercel, market_cost 0.0002833: 61*0.3 + (10 + 96 of reasoning)*2.5"),
    ("fan-3cdd3ef188", CHAT, {"input": "0.2", "cached_input": "0.05", "output": "0.5"}, 248_850,
     "xai, 2488500 ticks of 1e-10: 163*0.2 + 305*0.05 + (82 + 320 of reasoning)*0.5"),
]  # fmt: skip


def price(given: dict[str, str]) -> Price:
    return Price(**{name: per_mtok(Decimal(value)) for name, value in given.items()})


def usage_of(id: str, dialect: Any) -> Usage | None:
    response = next(row for row in rows() if row["id"] == id)["response"]
    body = response["body"].encode()
    if response["kind"] != "sse":
        return dialect.inspect_answer(body, Quirks()).usage
    parser, splitter = dialect.event_parser(Quirks()), dialect.splitter()
    events = [event for frame in splitter.feed(body) for event in parser.feed(frame)] + parser.close()
    return next((event.usage for event in reversed(events) if isinstance(event, Used)), None)


CASES = [*BY_HAND, *STATED]


@pytest.mark.parametrize(("id", "dialect", "prices", "nano", "sum"), CASES, ids=[case[0] for case in CASES])
def test_an_answer_costs_what_its_providers_rule_says(id, dialect, prices, nano, sum):
    usage = usage_of(id, dialect)
    assert usage is not None
    assert cost_of(usage, price(prices)) == nano, sum
    assert cost_of(usage, price(prices)) <= upper_bound(usage.input, usage.output, price(prices))


def test_every_provider_of_the_corpus_has_its_case():
    """But Cohere, whose format is not spoken."""
    counted = {row["api"].partition(".")[0] for row in rows() if '"usage' in (row["response"].get("body") or "")}
    cases = {case[0] for case in CASES}
    assert counted - {row["api"].partition(".")[0] for row in rows() if row["id"] in cases} == {"cohere"}


def dialect_of(api: str) -> Any:
    """None where the format is not spoken, or is no chat."""
    provider, _, kind = api.partition(".")
    if provider in ("cohere", "ollama"):
        return None
    known = {"chat": CHAT, "openai_chat": CHAT, "responses": RESPONSES, "messages": MESSAGES, "anthropic": MESSAGES,
             "streamGenerateContent": GEMINI}  # fmt: skip
    return known.get(kind)


async def test_a_recorded_stream_is_booked_alike_whether_its_bytes_or_its_events_are_passed_on():
    seen = counted = 0
    for row in rows():
        dialect, response = dialect_of(row["api"]), row["response"]
        if dialect is None or response["kind"] != "sse" or response.get("status", 200) != 200:
            continue
        booked = []
        for asked in (dialect.name, None):
            call = Call([response["body"].encode()], dialect)
            try:
                await pulled(call, asked)
            except UpstreamFault as error:
                booked.append(error.kind)
            else:
                booked.append(call.books["usage"])
        assert booked[0] == booked[1], row["id"]
        seen += 1
        counted += isinstance(booked[0], Usage)
        told = any(field in response["body"] for field in ('"usage":{', '"usage": {', '"usageMetadata"'))
        assert not told or booked[0] is not None, f"{row['id']} tells what it used and is estimated"
    assert seen > 700
    assert counted > 600


def test_every_part_has_its_own_price():
    usage = Usage(
        input=1000, output=500, cached_input=100, cache_write=50, audio_input=30, reasoning=200, audio_output=40
    )
    prices = price({"input": "1", "cached_input": "0.1", "cache_write": "1.25", "audio_input": "10", "output": "2",
                    "reasoning": "3", "audio_output": "20"})  # fmt: skip
    by_hand = 820 * 1 + 100 * 0.1 + 50 * 1.25 + 30 * 10 + 260 * 2 + 200 * 3 + 40 * 20
    assert cost_of(usage, prices) == round(by_hand * 1000)


def test_a_cache_written_for_an_hour_costs_what_that_costs():
    """Anthropic: five minutes 1.25 times the input's price, an hour twice."""
    block = {"input_tokens": 10, "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 0, "output_tokens": 20,
             "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000}}  # fmt: skip
    body = json.dumps({"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}],
                       "stop_reason": "end_turn", "usage": block}).encode()  # fmt: skip
    usage = MESSAGES.inspect_answer(body, Quirks()).usage
    prices = price({"input": "3", "cache_write": "3.75", "cache_write_1h": "6", "output": "15"})
    assert cost_of(usage, prices) == (10 * 3 + 1000 * 3.75 + 2000 * 6 + 20 * 15) * 1000
    assert (usage.input, usage.cache_write) == (3010, 3000)


TOKENS = st.integers(0, 100_000)
RATES = st.integers(0, 50_000_000_000)


@given(
    usage=st.builds(Usage, input=TOKENS, output=TOKENS, cached_input=TOKENS, cache_write=TOKENS, cache_write_1h=TOKENS,
                    audio_input=TOKENS, reasoning=TOKENS, audio_output=TOKENS,
                    media=st.none() | st.builds(Media, image_input=TOKENS, image_output=TOKENS)),
    price=st.builds(Price, input=RATES, output=RATES, cached_input=st.none() | RATES, cache_write=st.none() | RATES,
                    cache_write_1h=st.none() | RATES, audio_input=st.none() | RATES, reasoning=st.none() | RATES,
                    audio_output=st.none() | RATES, image_input=st.none() | RATES, image_output=st.none() | RATES),
)  # fmt: skip
def test_whatever_a_provider_counts_no_token_is_paid_twice(usage, price):
    """Parts that overlap (cached audio) or exceed the whole cost no more than the whole at its dearest."""
    dearest_in = max(
        price.input,
        *(one or 0 for one in (price.cached_input, price.cache_write, price.cache_write_1h)),
        *(one or 0 for one in (price.audio_input, price.image_input)),
    )
    dearest_out = max(price.output, price.reasoning or 0, price.audio_output or 0, price.image_output or 0)
    assert cost_of(usage, price) <= (usage.input * dearest_in + usage.output * dearest_out + 999_999) // 1_000_000


@pytest.mark.parametrize(("dialect", "apis", "total"), [
    (CHAT, ("*.chat",), "total_tokens"), (RESPONSES, ("*.responses",), "total_tokens"),
    (GEMINI, ("gemini.generateContent", "vertexai.generateContent"), "totalTokenCount"),
], ids=["chat", "responses", "gemini"])  # fmt: skip
def test_input_and_output_are_all_that_was_counted(dialect, apis, total):
    """Over the whole corpus: our two sums are the provider's total, but where it leaves reasoning out of that."""
    seen, odd = 0, set()
    for row in select(*apis, kind="json", ok=True):
        provider = row["api"].partition(".")[0]
        if provider in ("cohere", "ollama") or row["api"].endswith(("cohere.chat", "ollama.chat")):
            continue
        body = row["response"]["body"]
        block = json.loads(body).get("usageMetadata" if dialect is GEMINI else "usage")
        if not isinstance(block, dict) or not isinstance(block.get(total), int):
            continue
        usage = dialect.inspect_answer(body.encode(), Quirks()).usage
        if usage is None:
            continue
        seen += 1
        if usage.total != block[total]:
            odd.add(provider)
    assert seen > 50
    assert odd <= {"vercel_gateway", "openrouter"}
