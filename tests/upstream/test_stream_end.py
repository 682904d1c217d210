"""What counts as the end of a stream, raw and as events."""

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.core.dialect import Quirks
from headgate.core.errors import UpstreamFault
from headgate.core.usage import Usage
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

    def __init__(self, packets: list[bytes]) -> None:
        self.response = Response(packets)
        self.model = SimpleNamespace(name="m")
        self.deployment = SimpleNamespace(provider="p", name="d", timeouts=SimpleNamespace(idle=30.0))
        self.endpoint = SimpleNamespace(dialect=DIALECT, quirks=Quirks())
        peek = SimpleNamespace(include_usage=True, input_bound=7, background=False)
        self.request = SimpleNamespace(peek=peek, dialect=DIALECT)
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
