"""The middle of a stream, handed on in the transport's own callback: the same bytes, books and ends as where each piece is
pulled."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.core.answer import Piece
from headgate.core.errors import UpstreamFault
from headgate.core.events import TextDelta
from headgate.net.transport.protocol import ConnectionLost, TotalTimeout, TransportError, poured
from headgate.upstream.answers import StreamAnswer
from upstream.test_stream_end import COUNTED, DONE, FINISHED, SAID, Call

FAILED = b'data: {"error":{"message":"too many requests","code":"rate_limit_exceeded"}}\n\n'
PING = b": ping\n\n"


def word(text: str) -> bytes:
    return SAID.replace(b'"a"', b'"%b"' % text.encode())


class Response:
    """Gives packets; `seconds` pass before each. An error is raised in its turn."""

    def __init__(self, packets: list[Any], clock: Clock, seconds: float) -> None:
        self._packets, self._clock, self._seconds = packets, clock, seconds

    async def next(self) -> bytes:
        self._clock.now += self._seconds
        packet = self._packets.pop(0) if self._packets else b""
        if isinstance(packet, TransportError):
            raise packet
        return packet

    async def pour(self, into: Any) -> None:
        await poured(self, into)  # type: ignore[arg-type]

    def release(self) -> None:
        return None


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Client:
    """Takes pieces; slow after each `slow`-th."""

    def __init__(self, slow: int = 0) -> None:
        self.pushed: list[Piece] = []
        self.pulled: list[Piece] = []
        self._slow = slow

    def push(self, piece: Piece) -> bool:
        assert piece
        self.pushed.append(piece)
        return not self._slow or len(self.pushed) % self._slow != 0

    async def hear(
        self, call: Call, dialect: str | None = "openai_chat", seconds: float = 0.0, pause: float = 0.0
    ) -> None:
        clock = Clock()
        call.response = Response(call.response._packets, clock, seconds)  # type: ignore[assignment]
        answer = StreamAnswer(call, keep=True, clock=clock)  # type: ignore[arg-type]
        self.answer = answer
        await answer.open()
        push = None
        while (piece := await answer.pull(dialect, push)) is not None:
            self.pulled.append(piece)
            clock.now += pause
            push = self.push
            self.settled = answer.settled


async def heard(packets: list[Any], **how: Any) -> tuple[Client, Call]:
    call, client = Call(packets), Client(how.pop("slow", 0))
    await client.hear(call, **how)
    return client, call


WORDS = [word("b"), word("c"), word("d")]


async def test_the_middle_is_pushed_and_the_tail_is_pulled_when_the_books_are_closed() -> None:
    client, call = await heard([SAID, *WORDS, FINISHED, COUNTED, DONE])
    assert client.pushed == [*WORDS, FINISHED]
    assert client.pulled == [SAID, COUNTED + DONE]
    assert client.settled
    assert (call.outcome, call.books["usage"].output) == ("ok", 1)


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
async def test_however_packets_cut_it(size: int) -> None:
    whole = b"".join([SAID, *WORDS, FINISHED, COUNTED, DONE])
    client, call = await heard([whole[i : i + size] for i in range(0, len(whole), size)])
    assert call.outcome == "ok"
    assert all(piece.endswith(b"\n\n") for piece in client.pushed if isinstance(piece, bytes))  # whole frames only
    first, *rest = client.pulled
    assert first + b"".join(client.pushed) + b"".join(rest) == whole  # type: ignore[operator, arg-type]


async def test_words_before_the_tail_in_its_packet_go_out_and_the_tail_waits() -> None:
    client, call = await heard([SAID, WORDS[0] + WORDS[1] + FINISHED + COUNTED + DONE])
    assert client.pushed == [WORDS[0] + WORDS[1] + FINISHED]
    assert client.pulled == [SAID, COUNTED + DONE]
    assert call.outcome == "ok"


async def test_what_trails_the_end_mark_is_not_lost_on_the_way_to_it() -> None:
    client, call = await heard([SAID, *WORDS, FINISHED, COUNTED + DONE + b"\n"])
    assert client.pulled[-1] == COUNTED + DONE
    assert call.outcome == "ok"


async def test_a_slow_client_is_waited_for_and_gets_everything_in_order() -> None:
    client, call = await heard([SAID, *WORDS, FINISHED, COUNTED, DONE], slow=2)
    assert client.pushed == [*WORDS, FINISHED]
    assert client.pulled == [SAID, b"", b"", COUNTED + DONE]
    assert call.outcome == "ok"


async def test_as_events_too() -> None:
    client, call = await heard([SAID, *WORDS, FINISHED, COUNTED, DONE], dialect=None, slow=1)
    said = [event.text for piece in client.pushed for event in piece if isinstance(event, TextDelta)]
    assert said == ["b", "c", "d"]
    assert client.pulled[1:4] == [[], [], []]  # the client was slow each time
    assert client.settled
    assert call.books["usage"].output == 1


@pytest.mark.parametrize("dialect", ["openai_chat", None])
@pytest.mark.parametrize(
    ("packets", "kind"),
    [
        ([SAID, *WORDS], "stream_broken"),
        ([SAID, *WORDS, FAILED, DONE], "rate_limit"),
        ([SAID, *WORDS, b"data: {nothing\n\n", FINISHED, DONE], "invalid_answer"),
        ([SAID, *WORDS, ConnectionLost("reset")], "stream_broken"),
        ([SAID, *WORDS, TotalTimeout("over")], "timeout"),
    ],
    ids=["cut", "error frame", "no JSON", "reset", "deadline"],
)
async def test_what_breaks_in_the_middle_is_told_and_booked(packets: list[Any], kind: str, dialect: str | None) -> None:
    call, client = Call(list(packets)), Client()
    with pytest.raises(UpstreamFault) as caught:
        await client.hear(call, dialect)
    assert caught.value.kind == kind
    assert call.outcome == "failed"
    assert len(client.pushed) == 3
    assert [e.text for e in client.answer.said() if isinstance(e, TextDelta)] == ["a", "b", "c", "d"]  # for a rescue


async def test_keep_alives_are_silence_in_the_middle() -> None:
    with pytest.raises(UpstreamFault) as caught:
        await heard([SAID, *WORDS, *[PING] * 10, FINISHED, COUNTED, DONE], seconds=4.0)
    assert caught.value.kind == "timeout"
    _, call = await heard([SAID, PING, PING, PING, WORDS[0], PING, PING, PING, FINISHED, COUNTED, DONE], seconds=9.0)
    assert call.outcome == "ok"  # a word ends it


@pytest.mark.parametrize("slow", [0, 1], ids=["pushed", "pulled"])
async def test_keep_alives_that_come_in_pieces_are_silence_too(slow: int) -> None:
    pieces = [PING[:3], PING[3:]] * 5
    with pytest.raises(UpstreamFault) as caught:
        await heard([SAID, *WORDS, *pieces, FINISHED, COUNTED, DONE], seconds=4.0, slow=slow)
    assert caught.value.kind == "timeout"
    words = [part for one in WORDS * 4 for part in (one[:9], one[9:20], one[20:])]
    _, call = await heard([SAID, *words, FINISHED, COUNTED, DONE], seconds=9.0, slow=slow)
    assert call.outcome == "ok"  # a word ends it, in however many pieces


async def test_a_clients_pause_is_no_silence_in_the_middle() -> None:
    _, call = await heard([SAID, *[PING] * 20, FINISHED, COUNTED, DONE], seconds=1.0, slow=1, pause=100.0)
    assert call.outcome == "ok"


async def test_who_leaves_in_the_middle_pays_for_what_was_pushed() -> None:
    call = Call([SAID, *WORDS])
    call.response = Response([SAID, *WORDS], Clock(), 0.0)  # type: ignore[assignment]
    answer = StreamAnswer(call, keep=False, clock=Clock())  # type: ignore[arg-type]
    await answer.open()
    await answer.pull("openai_chat")
    slow = Client(slow=3)
    assert await answer.pull("openai_chat", slow.push) == b""
    await answer.aclose()
    assert call.outcome == "cancelled"
    assert call.books["partial"].output == 4


async def test_words_before_an_error_in_its_packet_are_charged() -> None:
    call = Call([SAID, b"".join([*WORDS, FAILED])])
    with pytest.raises(UpstreamFault):
        await Client().hear(call)
    assert call.books["partial"].output == 4
