import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import UpstreamBroken
from headgate.dialects import sse

FRAMES = [
    b'data: {"a":1}\n\n',
    b": OPENROUTER PROCESSING\n\n",
    b"event: error\r\ndata: x\r\n\r\n",
    b"data: a\rdata: b\r\r",
    b"\n\nid: 7\ndata:no space\n\n",
    b"data: mixed\r\n\n",
    b"data: \xc3\xa9\n\r\n",
]


def split(data: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    splitter = sse.SseSplitter()
    frames: list[bytes] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(data)]):
        frames += splitter.feed(data[start:stop])
    return frames, splitter.close()


@given(st.lists(st.sampled_from(FRAMES), max_size=8), st.data())
def test_frames_are_the_same_however_the_bytes_are_cut(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    got, rest = split(stream, cuts)
    whole, whole_rest = split(stream, [])
    assert (got, rest) == (whole, whole_rest)
    assert b"".join(got) + rest == stream
    assert [sse.data_of(f) for f in [*got, rest] if f.strip()] == [sse.data_of(f) for f in frames]


def test_every_single_byte_is_a_packet() -> None:
    stream = b"".join(FRAMES)
    assert split(stream, list(range(len(stream)))) == (FRAMES, b"")


def test_an_unfinished_frame_is_given_at_the_end() -> None:
    assert split(b"data: 1\n\ndata: [DONE]", [3]) == ([b"data: 1\n\n"], b"data: [DONE]")


def test_a_frame_without_end_is_a_fault_not_a_full_memory() -> None:
    splitter = sse.SseSplitter(max_frame=1000)
    with pytest.raises(UpstreamBroken) as caught:
        for _ in range(20):
            splitter.feed(b"x" * 100)
    assert caught.value.kind == "invalid_answer"


def test_a_large_frame_in_small_packets_costs_linear_time() -> None:
    splitter = sse.SseSplitter()
    frames: list[bytes] = []
    for _ in range(4000):
        frames += splitter.feed(b"x" * 2000)
    frames += splitter.feed(b"\n\n")
    assert [len(f) for f in frames] == [8_000_002]


@pytest.mark.parametrize(
    ("frame", "data", "event"),
    [
        (b'data: {"a": 1}\n\n', b'{"a": 1}', None),
        (b'data:{"a": 1}\n\n', b'{"a": 1}', None),
        (b"event: message_stop\ndata: {}  \n\n", b"{}  ", "message_stop"),
        (b"data: a\ndata: b\n", b"a\nb", None),
        (b"data: a\r\ndata: b\r\n\r\n", b"a\nb", None),
        (b": ping\n\n", None, None),
        (b"retry: 10\n\n", None, None),
    ],
)
def test_data_and_event(frame: bytes, data: bytes | None, event: str | None) -> None:
    assert sse.data_of(frame) == data
    assert sse.event_of(frame) == event


def test_frames_written_are_frames_read() -> None:
    for data in (b"{}", b"two\nlines"):
        for event in (None, "error"):
            written = sse.frame(data, event)
            assert sse.SseSplitter().feed(written) == [written]
            assert (sse.data_of(written), sse.event_of(written)) == (data, event)
    assert sse.data_of(sse.PING) is None
