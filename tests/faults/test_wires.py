"""What breaks on the way to a provider, over real sockets through a faulty network. The numbers are those of the list in
test_index.py. Each fault is met alone (one clean error) and in a chain (a complete answer of the spare), streaming and
not; afterwards the same process serves the healed provider."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from faults.test_virtual import DISORDERLY
from headgate.net.transport.h1 import H1Transport
from headgate.net.transport.names import Address, CachingResolver
from headgate.net.transport.protocol import DnsFailed, Limits
from headgate.simulator import script as s
from headgate.simulator.faults import Faults
from headgate.simulator.listener import unanswered_port
from support.asking import ASK, told
from support.virtual import DONE, SSE_HEAD, USAGE, answer, chunk, either, streamed

STREAMS = pytest.mark.parametrize("stream", [False, True])


def text_of(body: bytes, stream: bool) -> str:
    if not stream:
        return json.loads(body)["choices"][0]["message"]["content"]
    text, finished, error, _ = told(body)
    assert (finished, error) == (True, None)
    assert body.endswith(b"data: [DONE]\n\n")
    return text


def details_of(body: bytes, stream: bool) -> dict:
    found = told(body)[3] if stream else json.loads(body)["headgate"]
    assert found is not None
    return found


def fails_over(wires, stream: bool, *, calls: int | None = None, chain: str = "chain") -> list[dict]:
    """The chain's answer is whole and the spare's; the attempts. `calls`: how often the broken one may have been called."""
    status, headers, body = wires.ask(chain, stream=stream)
    assert (status, headers["x-headgate-model"]) == (200, "spare"), body
    assert text_of(body, stream) == "Spared."
    attempts = details_of(body, stream)["attempts"]
    assert [a["outcome"] for a in attempts] == ["failed", "ok"]
    assert attempts[1]["usage"]["output"] > 0
    if calls is not None:
        assert len(wires.calls()) <= calls
    return attempts


def fails_cleanly(wires, stream: bool, *statuses: int) -> dict:
    """Asked alone: one error of the door's own form, nothing that looks finished."""
    status, _, body = wires.ask("first", stream=stream)
    if status == 200:
        text, finished, error, _ = told(body)
        assert stream
        assert text
        assert not finished
        assert b"[DONE]" not in body
    else:
        assert status in statuses, body
        error = json.loads(body)["error"]
    assert error is not None
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error


def is_well_again(wires, stream: bool) -> None:
    """The same process, the provider mended."""
    wires.loop.run(wires.proxy.heal())
    wires.says("one", either(answer("Back."), streamed("Back.")))
    status, _, body = wires.ask("first", stream=stream)
    assert (status, text_of(body, stream)) == (200, "Back."), body
    assert wires.gateway.house.inflight == 0
    assert wires.health("first").state == "closed"
    settled = {o.id for o in wires.outcomes()}
    assert settled == {i.id for i in wires.loop.call(lambda: list(wires.gateway.ledger.intents))}


@STREAMS
def test_1_refused(wires, stream):
    wires.loop.run(wires.proxy.down())
    attempts = fails_over(wires, stream, calls=0)
    assert (attempts[0]["error"], attempts[0]["cost_usd"]) == ("connect", "0.000000")
    fails_cleanly(wires, stream, 502)
    for _ in range(6):
        wires.ask("chain", stream=stream)
    assert wires.health("first").state == "open"
    assert wires.loop.call(lambda: wires.proxy.accepted) == 0
    is_well_again(wires, stream)


@STREAMS
def test_2_a_black_hole_for_syns(wires, stream):
    with unanswered_port() as port:
        wires.fresh(f"http://127.0.0.1:{port}/v1")
        began = time.monotonic()
        attempts = fails_over(wires, stream, calls=0)
        assert 0.25 < time.monotonic() - began < 5
        assert attempts[0]["error"] == "timeout"
        assert fails_cleanly(wires, stream, 504)["code"] == "upstream_timeout"


@STREAMS
def test_2_a_connection_that_swallows_everything(wires, stream):
    wires.proxy.black_hole = True
    attempts = fails_over(wires, stream, calls=0)
    assert attempts[0]["error"] == "timeout"
    assert attempts[0]["cost_usd"] != "0.000000"  # sent: it may have been served and billed
    fails_cleanly(wires, stream, 504)
    wires.proxy.black_hole = False
    is_well_again(wires, stream)


@STREAMS
@pytest.mark.parametrize("known", [True, False])
def test_3_names_that_cannot_be_looked_up(wires, stream, known):
    port = wires.loop.call(lambda: wires.proxy.port)
    lookups: list[str] = []

    async def lookup(name: str, at: int) -> list[Address]:
        lookups.append(name)
        if name == "api.test" and (not known or len(lookups) > 1):
            raise DnsFailed("the name server is down")
        return [Address(2, ("127.0.0.1", at))]

    wires.fresh(f"http://api.test:{port}/v1")
    resolver = CachingResolver(lookup, ttl=0.0)
    wires.gateway.house.transport = H1Transport(resolver=resolver)
    if not known:
        assert fails_over(wires, stream, calls=0)[0]["error"] == "connect"
        fails_cleanly(wires, stream, 502)
        return
    for _ in range(3):
        status, _, body = wires.ask("first", stream=stream)
        assert (status, text_of(body, stream)) == (200, "Water is let in.")
        wires.loop.call(lambda: wires.proxy.reset())  # a new connection, from the address that is remembered
    assert len(wires.calls()) == 3
    assert len(lookups) > 1  # asked again each time, in vain


@STREAMS
@pytest.mark.parametrize("ending", ["reset", "close", "half_close", "stall"])
def test_13_to_16_cut_before_the_answers_head(wires, stream, ending):
    wires.proxy.to_client = Faults(limit_data=10, at_limit=ending)
    fails_over(wires, stream, calls=1)
    fails_cleanly(wires, stream, 502, 503, 504)
    assert len(wires.calls()) <= 1 + 3
    is_well_again(wires, stream)


@STREAMS
@pytest.mark.parametrize("ending", ["reset", "close", "half_close", "stall"])
def test_14_to_16_cut_within_the_answer(wires, stream, ending):
    wires.proxy.to_client = Faults(limit_data=620 if stream else 150, at_limit=ending)
    error = fails_cleanly(wires, stream, 502, 503, 504)
    assert error["code"] in ("upstream_error", "upstream_timeout")
    if stream:
        books = wires.outcomes()[-1]
        assert (books.outcome, books.usage.estimated) == ("failed", True)  # what was said is settled
    status, headers, body = wires.ask("chain", stream=stream)
    assert (status, headers["x-headgate-model"]) == (200, "first" if stream else "spare")
    text = text_of(body, stream)
    assert text.endswith("Spared.")  # after what the first one had said, where it was a stream
    assert [a["outcome"] for a in details_of(body, stream)["attempts"]] == ["failed", "ok"]
    is_well_again(wires, stream)


@STREAMS
def test_18_an_answer_that_is_no_utf_8_is_an_error_of_the_provider(wires, stream):
    """Whole, of a format that passes as bytes, and with all else as it should be."""
    whole = next(step.data for step in answer("Said.") if isinstance(step, s.Body)).replace(b"Said.", b"Said\xff")
    piece = chunk({"content": "Said."}).replace(b"Said.", b"Said\xff")
    wires.says("one", either(s.reply(200, whole), [SSE_HEAD, *map(s.Body, [piece, chunk({}, "stop"), DONE]), s.End()]))
    assert fails_cleanly(wires, stream, 502)["code"] == "upstream_error"
    fails_over(wires, stream)
    is_well_again(wires, stream)


@STREAMS
def test_12_fields_that_nobody_knows_pass_through(wires, stream):
    whole = json.loads(next(step.data for step in answer("Said.") if isinstance(step, s.Body)))
    whole["x_new"] = {"a": [1, None]}
    piece = chunk({"content": "Said.", "x_delta": 1}).replace(b'"object"', b'"x_new": {"a": [1, null]}, "object"')
    frames = map(s.Body, [piece, chunk({}, "stop"), USAGE, DONE])
    wires.says("one", either(s.reply_json(200, whole), [SSE_HEAD, *frames, s.End()]))
    for model in ("first", "chain"):
        status, headers, body = wires.ask(model, stream=stream)
        assert (status, headers["x-headgate-model"], text_of(body, stream)) == (200, "first", "Said.")
        assert json.loads(body.partition(b"\n\n")[0][6:] if stream else body)["x_new"] == {"a": [1, None]}
        if stream:
            assert piece in body
    is_well_again(wires, stream)


@STREAMS
def test_13_a_slow_first_byte_is_abandoned(wires, stream):
    slow = [s.Pause(3), *answer("Late.")]
    wires.says("one", slow)
    attempts = fails_over(wires, stream, calls=1)
    assert attempts[0]["error"] == "timeout"
    first = next(o for o in wires.outcomes() if o.error == "timeout")
    assert first.state == "unknown"
    left = wires.calls()[0].left
    assert left is not None
    assert left < 3  # the provider was told to stop
    assert fails_cleanly(wires, stream, 504)["code"] == "upstream_timeout"
    assert len(wires.calls()) == 2  # silence is not asked again
    is_well_again(wires, stream)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_18_a_stream_cut_anywhere_into_packets(wires, size):
    words = ["Wasser läuft ", "über — ", "水門が開く", " 🌊\n"]
    wires.says("one", streamed(*words))
    wires.proxy.to_client = Faults(slice=size)
    status, _, body = wires.ask("first", stream=True)
    assert (status, text_of(body, True)) == (200, "".join(words))


ODD = {
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "no space": lambda data: data.replace(b"data: ", b"data:"),
    "comments": lambda data: b": keep-alive\n\n" + data + b":\n\n",
    "named": lambda data: b"event: message\nid: 7\nretry: 10\n" + data,
}


@pytest.mark.parametrize("form", ODD)
def test_18_every_form_of_sse_that_the_specification_allows(wires, form):
    frames = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Said."}), chunk({}, "stop"), USAGE, DONE]
    wires.says("one", [SSE_HEAD, *(s.Body(ODD[form](frame)) for frame in frames), s.End()])
    connection = HTTPConnection(urlsplit(wires.gateway.url).netloc, timeout=20)
    body = {"model": "first", "messages": ASK, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    heard = connection.getresponse()
    lines = heard.read().replace(b"\r\n", b"\n").split(b"\n")
    connection.close()
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    assert heard.status == 200
    assert data[-1] == b"[DONE]"
    choices = [c for d in data[:-1] for c in json.loads(d)["choices"]]
    assert "".join(c["delta"].get("content") or "" for c in choices) == "Said."
    assert choices[-1]["finish_reason"] == "stop"


NO_EVENTS = [b"{bad", b"{bad}", b"[1,2]", b'"x"', b"7", b"null", b"x" * (10 << 20)]


@pytest.mark.parametrize("bad", [b"data: " + data + b"\n\n" for data in NO_EVENTS], ids=range(len(NO_EVENTS)))
def test_18_what_is_no_event_is_an_error_of_the_provider(wires, bad):
    said = [SSE_HEAD, s.Body(chunk({"content": "So "})), s.Body(bad), s.Body(chunk({}, "stop")), s.Body(DONE), s.End()]
    wires.says("one", said)
    fails_cleanly(wires, True, 502)
    wires.says("one", [SSE_HEAD, s.Body(bad), s.Body(chunk({"content": "x"}, "stop")), s.Body(DONE), s.End()])
    status, _, body = wires.ask("chain", stream=True)
    assert (status, text_of(body, True)) == (200, "Spared.")
    is_well_again(wires, True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("name", DISORDERLY)
def test_19_deltas_out_of_order_pass_in_their_own_format_and_end_cleanly_in_another(wires, name, path):
    frames = [*DISORDERLY[name], chunk({}, "tool_calls"), USAGE, DONE]
    wires.says("one", [SSE_HEAD, *map(s.Body, frames), s.End()])
    connection = HTTPConnection(urlsplit(wires.gateway.url).netloc, timeout=20)
    asked = {"model": "first", "messages": ASK, "stream": True, "max_tokens": 50}
    connection.request("POST", path, json.dumps(asked), {"content-type": "application/json"})
    heard = connection.getresponse()
    body = heard.read()
    connection.close()
    if path == "/v1/chat/completions":
        assert heard.status == 200
        assert all(frame in body for frame in DISORDERLY[name])
        assert body.endswith(DONE)
    elif heard.status == 200:
        assert (body.count(b"event: message_stop"), body.count(b'"type":"error"')) in ((1, 0), (0, 1)), body
    else:
        assert (heard.status, json.loads(body)["type"]) == (502, "error")
    is_well_again(wires, True)


@STREAMS
def test_20_one_byte_at_a_time_for_ever_ends_with_the_total_limit(wires, stream):
    wires.says("one", s.drip(b" " * 10_000, every=0.05, content_type=s.SSE if stream else s.JSON))
    began = time.monotonic()
    attempts = fails_over(wires, stream, calls=1)
    assert attempts[0]["error"] == "timeout"
    assert time.monotonic() - began < 10
    assert wires.calls()[0].left is not None


@STREAMS
@pytest.mark.parametrize("what", ["flood", "bomb"])
def test_21_and_23_endless_bodies_and_bombs_end_at_the_cap(wires, monkeypatch, stream, what):
    monkeypatch.setattr("headgate.engine.compile.Limits", partial(Limits, body_bytes=2_000_000))
    wires.fresh()
    wires.says("one", s.flood(size=1 << 30) if what == "flood" else s.gzip_bomb(1 << 28))
    attempts = fails_over(wires, stream, calls=1, chain="calmly")
    assert attempts[0]["error"] in ("invalid_answer", "stream_broken")
    assert wires.calls()[0].sent < 64 << 20


@pytest.mark.parametrize("how", ["stream", "whole", "half_close"])
def test_24_to_26_a_client_that_leaves_ends_the_providers_call_within_a_second(wires, how):
    stream = how == "stream"
    said = [SSE_HEAD, s.Body(chunk({"content": "So"})), s.Hang()]
    wires.says("one", said if stream else [s.Hang()])
    client = socket.create_connection(urlsplit(wires.gateway.url).netloc.split(":"), timeout=5)
    # total is 2 s: whoever ends sooner was told to
    body = json.dumps({"model": "first", "messages": ASK, "stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    client.sendall(head + body)
    deadline = time.monotonic() + 10
    while not wires.calls() and time.monotonic() < deadline:
        time.sleep(0.005)
    if stream:
        assert client.recv(20)
    client.shutdown(socket.SHUT_WR) if how == "half_close" else client.close()
    while wires.calls()[0].left is None and time.monotonic() < deadline:
        time.sleep(0.01)
    call = wires.calls()[0]
    assert call.left is not None
    assert call.left < 1.5
    while not wires.outcomes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [o.outcome for o in wires.outcomes()] == ["cancelled"]
    assert len(wires.calls()) == 1
    client.close()
    is_well_again(wires, stream)


def test_27_a_slow_reader_holds_its_provider_back(wires):
    """What is not read is not kept by us: the provider waits, until the client goes on or leaves."""
    block = s.Body(chunk({"content": "water " * 10_000}))
    wires.says("one", lambda call: iter([SSE_HEAD, *[block] * 4_000, s.End()]))  # 240 MB
    client = socket.create_connection(urlsplit(wires.gateway.url).netloc.split(":"), timeout=20)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    body = json.dumps({"model": "calm", "messages": ASK, "stream": True}).encode()
    client.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    )

    def sent() -> int:
        """What the provider has got rid of once it has not got on for a second."""
        before, deadline = -1, time.monotonic() + 60
        while time.monotonic() < deadline:
            now = wires.calls()[0].sent if wires.calls() else -1
            if now == before > 0:
                return now
            before = now
            time.sleep(1)
        raise AssertionError(f"still sending: {before}")

    held = sent()
    assert held < 60_000_000
    for _ in range(200):
        assert client.recv(65536)
    assert sent() >= held  # it goes on as it is read
    assert wires.calls()[0].left is None
    client.close()
    deadline = time.monotonic() + 20
    while not wires.outcomes() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [o.outcome for o in wires.outcomes()] == ["cancelled"]
    assert wires.calls()[0].left is not None
    is_well_again(wires, True)


def opened(wires, stream: bool) -> None:
    """The breaker of `first`, by a provider that is down."""
    wires.says("one", s.reply_json(500, {"error": {"message": "down"}}))
    while wires.health("first").state == "closed":
        wires.ask("chain", stream=stream)


@STREAMS
def test_47_a_storm_on_providers_that_are_all_down(wires, stream):
    wires.says("two", s.reply_json(500, {"error": {"message": "down"}}))
    opened(wires, stream)
    while wires.health("spare").state == "closed":
        wires.ask("chain", stream=stream)
    before = len(wires.calls("one")) + len(wires.calls("two"))
    began = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        statuses = [found[0] for found in threads.map(lambda _: wires.ask("chain", stream=stream), range(200))]
    assert set(statuses) == {503}
    asked = len(wires.calls("one")) + len(wires.calls("two")) - before
    assert asked <= 1.2 * 200 + (time.monotonic() - began)
    wires.loop.call(lambda: setattr(wires.health("first"), "_open_until", 0.0))  # the cool-down is over
    is_well_again(wires, stream)


@STREAMS
def test_48_a_herd_at_a_half_open_breaker_is_one_probe(wires, stream):
    opened(wires, stream)
    wires.says("one", either(answer("Back.", after=0.4), streamed("Back.", after=0.4)))
    wires.loop.call(lambda: setattr(wires.health("first"), "_open_until", 0.0))  # the cool-down is over
    before = len(wires.calls())
    with ThreadPoolExecutor(16) as threads:
        bodies = [found[2] for found in threads.map(lambda _: wires.ask("chain", stream=stream), range(16))]
    texts = [text_of(body, stream) for body in bodies]
    assert (texts.count("Back."), texts.count("Spared.")) == (1, 15)
    assert len(wires.calls()) == before + 1
    is_well_again(wires, stream)


def test_43_a_thousand_reloads_leak_nothing_and_streams_outlive_their_model(wires):
    """Compiling anew keeps live state by fingerprint; a stream under way keeps its own snapshot."""
    import gc

    from headgate.engine.compile import Compiler
    from headgate.upstream.deployment import Model, Vitals
    from support.gateway import ENV

    compiler = Compiler(ENV)
    config = wires.gateway.config
    without = config.model_copy(update={"models": {"spare": config.models["spare"]}})
    released = asyncio.Event()
    wires.says("one", [*streamed(*["word "] * 20, ending=s.Wait(released)), *streamed("End.")[2:]])
    connection = HTTPConnection(urlsplit(wires.gateway.url).netloc, timeout=120)
    body = {"model": "calm", "messages": ASK, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    heard = connection.getresponse()
    assert heard.read(10)

    def swap(times: int) -> int:
        for number in range(times):
            wires.gateway.house.snapshot = compiler.compile(config if number % 2 else without)
        gc.collect()
        return sum(isinstance(thing, Model | Vitals) for thing in gc.get_objects())

    settled = swap(10)
    for _ in range(5):
        assert swap(200) <= settled
    wires.gateway.house.snapshot = compiler.compile(without)
    wires.loop.call(released.set)
    rest = heard.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b"End." in rest
    connection.close()
    assert wires.ask("first", stream=False)[0] == 404
    assert wires.ask("spare", stream=False)[0] == 200


def test_41_metrics_scraped_a_hundred_times_a_second_stop_nobody(wires):
    from headgate.telemetry.metrics import Metrics

    house = wires.gateway.house
    wires.gateway.plane.metrics = metrics = Metrics(version="0", entries=lambda: house)
    house.on_attempt.append(metrics.attempt)
    house.on_request.append(metrics.request)
    wires.says("one", answer("Fine."))

    async def scrape() -> None:
        for _ in range(100):
            reader, writer = await asyncio.open_connection(*urlsplit(wires.gateway.url).netloc.split(":"))
            writer.write(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()

    scraping = asyncio.run_coroutine_threadsafe(scrape(), wires.loop.loop)
    for _ in range(20):
        assert wires.ask("first", stream=False)[0] == 200
    scraping.result(30)
    page = wires.loop.call(metrics.render)
    assert b'headgate_requests_total{door="chat",route="first",status_class="2xx"} 20.0' in page
