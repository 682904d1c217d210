"""The wire does what the script says, no more and no less, over real sockets."""

import asyncio
import gzip
import zlib

import pytest

from headgate.simulator import script as s
from headgate.simulator.listener import unanswered_port
from headgate.simulator.wire import Call, Wire
from support.sim import ask, fake_upstream


async def heard_of(script, **options):
    async with fake_upstream() as fake:
        fake.on("*", script)
        heard = await ask(fake.listener.port, b"{}", **options)
        return heard, fake.calls[0]


async def test_complete_answer_with_length():
    heard, call = await heard_of(s.reply_json(200, {"a": 1}))
    assert (heard.status, heard.json(), heard.end) == (200, {"a": 1}, "eof")
    assert call.complete
    assert call.left is None
    assert call.sent == len(heard.raw)


async def test_keep_alive_serves_the_next_request_on_the_same_connection():
    async with fake_upstream() as fake:
        fake.on("*", s.reply(200, b"one"), lambda _: s.stream([b"data: two\n\n"]))
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.listener.port)
        for end in (b"one", b"0\r\n\r\n"):
            writer.write(b"GET /x?y=1 HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readuntil(end)).endswith(end)
        writer.close()
        assert [call.connection for call in fake.calls] == [1, 1]
        assert fake.calls[0].query == {"y": "1"}


async def test_pipelined_requests_are_answered_in_order():
    async with fake_upstream() as fake:
        fake.on("*", s.reply(200, b"one"), s.reply(200, b"two"))
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.listener.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 2)
        got = await reader.readuntil(b"two")
        assert got.index(b"one") < got.index(b"two")
        writer.close()


async def test_expect_continue_is_answered_before_the_body_comes():
    async with fake_upstream() as fake:
        fake.on("*", s.reply(200, b"ok"))
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.listener.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"{}")
        await reader.readuntil(b"ok")
        writer.close()


async def test_chunks_are_separate_packets():
    heard, _ = await heard_of([s.Head(), *s.sliced(b"abcdef", [1, 3]), s.End()])
    assert heard.packets == [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
        b"2\r\nbc\r\n",
        b"3\r\ndef\r\n",
        b"0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("cuts", "pieces"),
    [(2, [b"ab", b"cd", b"e"]), ([2], [b"ab", b"cde"]), ([0, 9, 2, 2], [b"ab", b"cde"]), ([], [b"abcde"])],
)
def test_slicing(cuts, pieces):
    assert [step.data for step in s.sliced(b"abcde", cuts)] == pieces


async def test_drip_sends_byte_by_byte():
    heard, _ = await heard_of(lambda _: s.drip(b"{}", every=0.001))
    assert heard.packets[0].endswith(b"content-length: 2\r\n\r\n")
    assert heard.packets[1:] == [b"{", b"}"]


async def test_reset_before_a_word_and_in_the_middle():
    heard, call = await heard_of([s.Reset()])
    assert (heard.raw, heard.end) == (b"", "reset")
    assert call.status is None
    heard, call = await heard_of([s.Head(), s.Body(b"data: x\n\n"), s.Pause(0.02), s.Reset()])
    assert (heard.body, heard.end, call.complete) == (b"data: x\n\n", "reset", False)


async def test_cut_chunked_short_length_and_half_close():
    heard, call = await heard_of(lambda _: s.cut_chunked([b"data: x\n\n"]))
    assert heard.end == "eof"
    assert not heard.raw.endswith(b"0\r\n\r\n")
    assert not call.complete
    heard, _ = await heard_of(s.short(b"{}", missing=5))
    assert b"content-length: 7" in heard.head
    assert heard.body == b"{}"
    heard, call = await heard_of(lambda _: s.cut_chunked([b"x"], ending=s.HalfClose()))
    assert heard.end == "eof"
    await asyncio.wait_for(call.ended.wait(), 10)
    assert call.left is not None


async def test_hang_lasts_until_the_client_leaves_and_the_log_says_when():
    heard, call = await heard_of([s.Head(), s.Body(b"x"), s.Hang()], timeout=0.1)
    assert heard.end == "timeout"
    await asyncio.wait_for(call.ended.wait(), 10)
    assert 0.05 < call.left < 1
    assert not call.complete


async def test_a_generator_hears_of_a_client_that_left():
    closed = asyncio.Event()

    def endless(_: Call):
        try:
            yield s.Head()
            while True:
                yield s.Body(b"x")
                yield s.Pause(0.01)
        finally:
            closed.set()

    _, call = await heard_of(endless, timeout=0.05)
    await asyncio.wait_for(closed.wait(), 10)
    assert call.left is not None


async def test_wait_gives_the_test_the_pace():
    go = asyncio.Event()
    async with fake_upstream() as fake:
        fake.on("*", [s.Head(), s.Body(b"first"), s.Wait(go), s.Body(b"second"), s.End()])
        asking = asyncio.ensure_future(ask(fake.listener.port, b"{}"))
        await asyncio.sleep(0.03)
        assert not asking.done()
        go.set()
        assert (await asking).body == b"firstsecond"


async def test_wrong_framings():
    heard, _ = await heard_of(s.bad_chunk_size())
    assert b"zz\r\n" in heard.raw
    heard, _ = await heard_of(s.both_lengths(b"{}"))
    assert b"content-length: 2" in heard.head
    assert b"transfer-encoding: chunked" in heard.head
    heard, _ = await heard_of(s.not_http())
    assert heard.raw.startswith(b"SSH-")
    heard, _ = await heard_of([s.Head(200, (), "close"), s.Body(b"till the end"), s.End()])
    assert (heard.body, heard.end) == (b"till the end", "eof")
    heard, _ = await heard_of(s.redirect("http://169.254.169.254/"))
    assert (heard.status, heard.body) == (302, b"")
    assert b"location: http://169.254.169.254/" in heard.head
    heard, _ = await heard_of(s.html())
    assert heard.body.startswith(b"<!DOCTYPE html>")
    heard, _ = await heard_of(lambda _: s.flood_of_headers(500))
    assert heard.head.count(b"x-filler-") == 500
    heard, _ = await heard_of(
        lambda _: s.with_headers(s.reply(200, b"{}"), {"Content-Type": "x/y", "retry-after": "1"})
    )
    assert b"Content-Type: x/y\r\nretry-after: 1" in heard.head
    assert heard.head.lower().count(b"content-type") == 1


async def test_gzip_bomb_is_small_and_unpacks_to_its_size():
    heard, _ = await heard_of(lambda _: s.gzip_bomb(8 << 20))
    assert len(heard.body) < 64 << 10
    assert len(zlib.decompress(heard.body, 31)) == len(gzip.decompress(heard.body)) == 8 << 20


async def test_flood_stops_when_the_reader_does():
    async with fake_upstream() as fake:
        fake.on("*", lambda _: s.flood())
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.listener.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.read(1000)
        await asyncio.sleep(0.05)
        held = fake.calls[0].sent
        await asyncio.sleep(0.05)
        assert fake.calls[0].sent == held  # back-pressure: nothing is buffered without end
        writer.transport.abort()
        await asyncio.wait_for(fake.calls[0].ended.wait(), 10)


async def test_broken_requests_get_400():
    async with fake_upstream() as fake:
        reader, writer = await asyncio.open_connection("127.0.0.1", fake.listener.port)
        writer.write(b"NOT HTTP AT ALL\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        assert fake.calls == []


async def test_refusing_ports_refuse_and_come_back():
    async with fake_upstream() as fake:
        fake.on("*", s.reply(200, b"ok"))
        port = fake.listener.port
        await fake.listener.refuse()
        with pytest.raises(ConnectionRefusedError):
            await ask(port, b"{}")
        await fake.listener.accept_again()
        assert (await ask(port, b"{}")).body == b"ok"
        assert fake.listener.port == port


async def test_unanswered_port_hangs_the_connect():
    with unanswered_port() as port, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await asyncio.open_connection("127.0.0.1", port)


async def test_answers_by_model_in_order_the_last_stays():
    async with fake_upstream() as fake:
        port = fake.listener.port
        fake.on("a", s.reply(500, b"1"), s.reply(200, b"2"))
        fake.on("g", s.reply(200, b"gemini"))
        fake.on("by-header", s.reply(200, b"header"))
        got = [(await ask(port, {"model": "a"})).body for _ in range(3)]
        assert got == [b"1", b"2", b"2"]
        assert (await ask(port, b"{}", "/v1beta/models/g:generateContent")).body == b"gemini"
        assert (await ask(port, {"model": "a"}, headers={"x-sim-scenario": "by-header"})).body == b"header"
        assert (await ask(port, {"model": "b"})).status == 404
        assert len(fake.calls_of("a")) == 3


async def test_a_script_that_raises_resets_the_client_and_is_reported():
    def broken(_: Call):
        raise ValueError("a defect of the script")

    wire = Wire(broken)
    listener = await wire.listen()
    assert (await ask(listener.port, b"{}")).end == "reset"
    with pytest.raises(ValueError, match="defect of the script"):
        await wire.aclose()


async def test_reset_connections_of_one_port():
    wire = Wire(lambda _: [s.Head(), s.Body(b"x"), s.Hang()])
    one, two = await wire.listen(), await wire.listen()
    first = asyncio.ensure_future(ask(one.port, b"{}"))
    second = asyncio.ensure_future(ask(two.port, b"{}", timeout=0.15))
    await asyncio.sleep(0.05)
    wire.reset_connections(one.port)
    assert (await first).end == "reset"
    assert (await second).end == "timeout"
    await wire.aclose()
