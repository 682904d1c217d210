"""Recorded rows are served byte for byte, however they are cut and whichever way they are addressed."""

import asyncio

import pytest

from headgate.simulator.replay import Replay
from headgate.simulator.wire import Wire
from support.corpus import rows, select
from support.sim import ask


@pytest.fixture
async def replaying():
    replay = Replay(seed=7)
    wire = Wire(replay.respond)
    listener = await wire.listen()
    yield replay, listener.port
    await wire.aclose()


async def test_rows_arrive_byte_for_byte(replaying):
    replay, port = replaying
    for row in select(sample=97):
        recording = replay.register(row, packets="random")
        heard = await ask(port, b"{}", recording.path + row["request"]["path"])
        assert heard.status == row["response"]["status"]
        assert heard.body == recording.body
        if "body_base64" not in row["response"]:
            assert heard.body.decode() == row["response"]["body"]
        for name, value in row["response"]["headers"].items():
            if name.lower() not in ("content-encoding", "transfer-encoding", "content-length", "connection"):
                assert f"{name}: {value}".encode("latin-1", "replace") in heard.head


@pytest.mark.parametrize(("packets", "least"), [("whole", 1), ("frames", 4), ("random", 2), ("bytes", 200), (40, 5)])
async def test_cuts(replaying, packets, least):
    replay, port = replaying
    body = b"".join(b"data: %d of some more text here\n\n" % n for n in range(8))
    recording = replay.add("x", 200, [("content-type", "text/event-stream")], body, chunked=True, packets=packets)
    heard = await ask(port, b"{}", recording.path)
    assert heard.body == body
    assert len(heard.packets) >= least


async def test_addressed_by_model_name_in_body_and_path(replaying):
    replay, port = replaying
    replay.add("row-1.a", 200, [], b"one")
    assert (await ask(port, {"model": "replay-row-1.a"}, "/v1/chat/completions")).body == b"one"
    assert (await ask(port, b"{}", "/v1beta/models/replay-row-1.a:streamGenerateContent?alt=sse")).body == b"one"
    assert (await ask(port, {"model": "replay-none"}, "/v1/chat/completions")).status == 404
    received = replay.recordings["row-1.a"].received
    assert [call.path for call in received] == [
        "/v1/chat/completions",
        "/v1beta/models/replay-row-1.a:streamGenerateContent",
    ]


def test_everything_can_be_registered():
    replay = Replay()
    everything = rows()
    for row in everything:
        replay.register(row)
    assert len(replay.recordings) == len(everything)


async def test_same_seed_same_packets(replaying):
    replay, _ = replaying
    again = Replay(seed=7)
    other = Replay(seed=8)
    row = next(select("openai.chat", kind="sse"))
    scripts = [list(r.script(r.register(row, packets="random"))) for r in (replay, again, other)]
    assert scripts[0] == scripts[1] != scripts[2]


async def test_many_at_once(replaying):
    replay, port = replaying
    chosen = list(select("openai.chat", kind="sse", sample=20))
    for row in chosen:
        replay.register(row, packets="random")
    heard = await asyncio.gather(*(ask(port, b"{}", f"/replay/{row['id']}/v1") for row in chosen))
    assert [h.body.decode() for h in heard] == [row["response"]["body"] for row in chosen]
