"""What counts as the end of a stream, raw and as events."""

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.core.dialect import Quirks
from headgate.core.errors import UpstreamFault
from headgate.core.usage import Usage
from headgate.dialects.anthropic_messages import DIALECT as MESSAGES
from headgate.dialects.gemini import DIALECT as GEMINI
from headgate.dialects.openai_chat import DIALECT
from headgate.upstream.answers import StreamAnswer

SAID = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
COUNTED = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}\n\n'
FINISHED = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Response:
    def __init__(self, packets: list[bytes]) -> None:
        self._packets = packets

    async def next(self) -> bytes:
        return self._packets.pop(0) if self._packets else b""

    def release(self) -> None:
        return None


class Call:
    """Only what a stream touches of its attempt."""

    def __init__(self, packets: list[bytes], dialect: Any = DIALECT) -> None:
        self.response = Response(packets)
        self.model = SimpleNamespace(name="m")
        self.deployment = SimpleNamespace(provider="p", name="d", timeouts=SimpleNamespace(idle=30.0))
        self.endpoint = SimpleNamespace(dialect=dialect, quirks=Quirks())
        peek = SimpleNamespace(include_usage=True, input_bound=7, background=False, n=1)
        self.request = SimpleNamespace(peek=peek, dialect=dialect)
        self.spoke = lambda: None
        self.books: dict[str, Any] = {}
        self.outcome = ""

    async def close_connection(self) -> None:
        return None

    def end(self, outcome: str, **books: Any) -> None:
        self.outcome, self.books = outcome, books


async def pulled(call: Any, dialect: str | None) -> list[Any]:
    answer = StreamAnswer(call, keep=False, clock=SimpleNamespace(monotonic=lambda: 0.0))  # type: ignore[arg-type]
    await answer.open()
    pieces: list[Any] = []
    while (piece := await answer.pull(dialect)) is not None:
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize("dialect", ["openai_chat", None])
@pytest.mark.parametrize("packets", [[SAID, FINISHED, COUNTED, DONE], [SAID, FINISHED, COUNTED], [SAID, COUNTED, DONE]])
async def test_a_finish_or_final_usage_with_the_end_mark_ends_a_stream(
    packets: list[bytes], dialect: str | None
) -> None:
    call = Call(list(packets))
    pieces = await pulled(call, dialect)
    assert call.outcome == "ok"
    assert call.books["usage"] == Usage(input=2, output=1)
    if dialect is not None:
        assert b"".join(pieces) == b"".join(packets)


@pytest.mark.parametrize("dialect", ["openai_chat", None])
@pytest.mark.parametrize("packets", [[SAID], [SAID, DONE], [SAID, COUNTED]])
async def test_nothing_less_does(packets: list[bytes], dialect: str | None) -> None:
    call = Call(list(packets))
    with pytest.raises(UpstreamFault) as caught:
        await pulled(call, dialect)
    assert caught.value.kind == "stream_broken"
    assert call.outcome == "failed"


# -- usage that comes in parts ---------------------------------------------------------------------------------------------
def named(kind: str, fields: str) -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}",{fields}}}\n\n'.encode()


BEGAN = named("message_start", '"message":{"id":"msg_1","model":"m","usage":{"input_tokens":20,"output_tokens":1}}')
BLOCK = named("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"four and twenty blackbirds"}')
STOPPED = named("message_delta", '"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}')
UNCOUNTED = named("message_delta", '"delta":{"stop_reason":"end_turn"}')
OVER = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def chunk(text: str, output: int, finish: str = "") -> bytes:
    return (
        f'data: {{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}}{finish}}}],'
        f'"usageMetadata":{{"promptTokenCount":20,"candidatesTokenCount":{output}}}}}\n\n'
    ).encode()


STREAMS = {
    "messages": (MESSAGES, [BEGAN, BLOCK, BLOCK + STOPPED, OVER]),
    "gemini": (GEMINI, [chunk("a", 1), chunk("b", 9, ',"finishReason":"STOP"')]),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_client_that_leaves_before_the_tail_pays_what_the_provider_counted(name: str) -> None:
    """Not what its first frame says had been made by then."""
    dialect, packets = STREAMS[name]
    call = Call(list(packets), dialect)
    answer = StreamAnswer(call, keep=False, clock=SimpleNamespace(monotonic=lambda: 0.0))  # type: ignore[arg-type]
    await answer.open()
    while not answer._finished:
        assert await answer.pull()
    await answer.aclose()
    assert (call.outcome, call.books["usage"]) == ("ok", Usage(input=20, output=9))


@pytest.mark.parametrize("dialect", ["anthropic_messages", None])
async def test_a_stream_whose_end_is_not_counted_is_estimated_and_says_so(dialect: str | None) -> None:
    call = Call([BEGAN, BLOCK, BLOCK, UNCOUNTED, OVER], MESSAGES)
    await pulled(call, dialect)
    booked = call.books["usage"] or call.books["partial"]
    assert (call.outcome, booked.estimated, booked.input) == ("ok", True, 20)
    assert booked.output >= 2


async def test_a_stream_that_is_left_half_way_is_charged_the_input_that_its_provider_told_of() -> None:
    call = Call([BEGAN, BLOCK, BLOCK], MESSAGES)
    answer = StreamAnswer(call, keep=False, clock=SimpleNamespace(monotonic=lambda: 0.0))  # type: ignore[arg-type]
    await answer.open()
    await answer.pull()
    await answer.aclose()
    assert (call.outcome, call.books["usage"]) == ("cancelled", None)
    assert call.books["partial"] == Usage(input=20, output=6, estimated=True)
