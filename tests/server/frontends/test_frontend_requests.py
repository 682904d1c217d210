"""Requests as they should be, and as they should not: what is answered, what is refused, what reaches the handler."""

import asyncio

import pytest

from support.rawclient import get, post


async def ask(house, *wire: bytes, method: str = "GET"):
    async with house.client() as client:
        await client.send(*wire)
        return await client.answer(method)


# -- as they should be ---------------------------------------------------------------------------------------------
async def test_a_request_as_the_handler_sees_it(serve):
    async with serve() as house:
        wire = post(b"hello", "/v1/x%20y?a=1&b=%2F", "X-Thing: A", "x-thing: b", "X-Latin: \xe9")
        answer = await ask(house, wire)
        assert (answer.status, answer.body) == (200, b"POST /v1/x y?a=1&b=%2F")
        assert answer.headers["content-type"] == "text/plain"
        assert "date" in answer.headers
        request = house.seen[0]
        assert (request.method, request.path, request.query) == ("POST", "/v1/x y", "a=1&b=%2F")
        assert request.body == b"hello"
        assert request.headers["x-thing"] == "A"
        assert request.headers["x-latin"] == "\xe9"
        assert [value for name, value in request.pairs if name == "x-thing"] == ["A", "b"]
        assert request.argument("b") == "/"
        assert request.client == "127.0.0.1"


async def test_bytes_may_come_one_by_one(serve):
    async with serve() as house:
        wire = (
            get("/echo", "Transfer-Encoding: chunked", method="POST")
            + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n"
        )
        answer = await ask(house, *[wire[i : i + 1] for i in range(len(wire))])
        assert answer.body == b"abcde"
        assert "x-t" not in house.seen[0].headers


async def test_a_large_body_may_have_trailers(serve):
    """What the body took is no part of them."""
    async with serve() as house:
        chunks = (b"8000\r\n" + bytes(0x8000) + b"\r\n") * 3
        answer = await ask(
            house, get("/echo", "Transfer-Encoding: chunked", method="POST"), chunks, b"0\r\nx-t: 1\r\n\r\n"
        )
        assert (answer.status, len(answer.body)) == (200, 3 * 0x8000)


async def test_a_connection_is_kept(serve):
    async with serve() as house, house.client() as client:
        for number in range(3):
            await client.send(post(b"%d" % number, "/echo"))
            assert (await client.answer()).body == b"%d" % number


async def test_pipelined_requests_are_answered_in_order(serve):
    async with serve() as house, house.client() as client:
        await client.send(b"".join(post(b"%d" % number, "/echo") for number in range(20)))
        assert [(await client.answer()).body for _ in range(20)] == [b"%d" % number for number in range(20)]


async def test_a_refusal_comes_in_its_turn(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/hang") + b"GARBAGE\r\n\r\n")
        await house.waiting.wait()
        await asyncio.sleep(0.02)
        house.go_on.set()
        first, second = await client.answer(), await client.answer()
        assert (first.status, first.body) == (200, b"late")
        assert second.status == 400
        assert await client.ended() == b""


async def test_expect_100_continue(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.answer()).body == b"hello"


async def test_who_asks_to_send_too_much_is_told_before(serve):
    async with serve(body=1000) as house, house.client() as client:
        await client.send(get("/echo", "Content-Length: 5000", "Expect: 100-continue", method="POST"))
        assert (await client.answer()).status == 413
        assert await client.ended() == b""


async def test_a_continue_owed_to_a_pipelined_request(serve):
    async with serve() as house, house.client() as client:
        wire = get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST")
        await client.send(get("/hang") + wire)
        await house.waiting.wait()
        house.go_on.set()
        assert (await client.answer()).body == b"late"
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.answer()).body == b"hello"


async def test_head(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/x", method="HEAD") + get("/stream", method="HEAD") + get("/x"))
        house.go_on.set()
        assert (await client.answer("HEAD")).headers["content-length"] == "8"
        await client.answer("HEAD")
        assert (await client.answer()).body == b"GET /x?"


ASKS = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization, content-type")


async def test_a_page_of_a_named_origin_may_ask_and_read(serve):
    async with serve() as house, house.client() as client:
        house.go_on.set()
        origin = "Origin: https://app.example.com"
        await client.send(get("/x", origin, *ASKS, method="OPTIONS"))
        permission = await client.answer()
        assert (permission.status, permission.body, house.seen) == (200, b"", [])
        assert permission.headers["access-control-allow-origin"] == "https://app.example.com"
        assert permission.headers["access-control-allow-headers"] == "authorization, content-type"
        assert "POST" in permission.headers["access-control-allow-methods"]
        for wire in (post(b"{}", "/echo", origin), post(b"{}", "/stream", origin)):
            await client.send(wire)
            answer = await client.answer()
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
            assert answer.headers["vary"] == "origin"
            assert answer.body in (b"{}", b"onetwo")


async def test_other_pages_and_other_clients_see_no_difference(serve):
    async with serve() as house, house.client() as client:
        for origin in ("https://app.example.com.evil", "null", "http://app.example.com", ""):
            for wire in (get("/x", f"Origin: {origin}", *ASKS, method="OPTIONS"), get("/x", f"Origin: {origin}")):
                await client.send(wire)
                answer = await client.answer()
                assert answer.body
                assert not [name for name in answer.headers if name.startswith("access-control")]
        await client.send(
            get("/x", *ASKS, method="OPTIONS") + get("/x", "Origin: https://app.example.com", method="OPTIONS")
        )
        for _ in range(2):
            assert (await client.answer()).body == b"OPTIONS /x?"  # no preflight, and the handler's to answer


async def test_http_1_0(serve):
    async with serve() as house, house.client() as client:
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"GET /x?")
        assert await client.ended() == b""


async def test_connection_close(serve):
    async with serve() as house, house.client() as client:
        await client.send(get("/x", "Connection: close"))
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert await client.ended() == b""


async def test_a_body_of_any_size_up_to_the_limit(serve):
    body = bytes(range(256)) * 8000
    async with serve(body=len(body)) as house:
        assert (await ask(house, post(body, "/echo"))).body == body
        assert (await ask(house, post(body + b"x", "/echo"))).status == 413


async def test_an_offer_of_another_protocol_is_ignored(serve):
    async with serve() as house:
        answer = await ask(house, get("/x", "Connection: Upgrade", "Upgrade: h2c"))
        assert (answer.status, answer.body) == (200, b"GET /x?")


# -- as they should not ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wire",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n",
        get("/", "x: a\r\n folded"),
        get("/", "x : a"),
        get("/", "no colon"),
        get("/", "x: a\x00b"),
        get("/", "x: a\x01b"),
        get("/", "x: a\rb"),
        get("/\xe9"),
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_and_closed(serve, wire):
    async with serve() as house, house.client() as client:
        await client.send(wire)
        answer = await client.answer()
        assert (answer.status, answer.body) == (400, b'{"error": "invalid_request"}')
        assert answer.headers["connection"] == "close"
        assert await client.ended() == b""
        assert house.seen == []


SMUGGLED = get("/smuggled")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 50"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: -5",),
        ("Content-Length: 0x5",),
        ("Content-Length: 5 5",),
        ("Content-Length: \u0665".encode().decode("latin-1"),),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\x0bchunked",),
        ("Content-Length: 5", "Connection: Upgrade", "Upgrade: h2c"),
    ],
)
async def test_no_second_reading_of_where_a_body_ends(serve, headers):
    async with serve() as house, house.client() as client:
        await client.send(get("/", *headers, method="POST") + b"0\r\n\r\n" + SMUGGLED)
        assert (await client.answer()).status == 400
        assert await client.ended() == b""
        assert house.seen == []


async def test_chunks_in_http_1_0_are_refused(serve):
    async with serve() as house:
        wire = get("/", "Transfer-Encoding: chunked", "Connection: keep-alive", method="POST", version="1.0")
        assert (await ask(house, wire + b"0\r\n\r\n" + SMUGGLED)).status == 400
        assert house.seen == []


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"-1\r\nx\r\n", b"2\r\nhiXX0\r\n\r\n", b"2\nhi\n0\n\n", b"FFFFFFFFFFFFFFFFFF\r\n"]
)
async def test_broken_chunks(serve, chunks):
    async with serve() as house, house.client() as client:
        await client.send(get("/echo", "Transfer-Encoding: chunked", method="POST"), chunks)
        assert (await client.answer()).status == 400
        assert await client.ended() == b""
        assert house.seen == []


@pytest.mark.parametrize("host", ["", "a/x?y#z", "a b", "user@a", "a:b", "a:123456", "a,b", "<a>", "a\\b", "[::1"])
async def test_hosts_that_are_none(serve, host):
    async with serve() as house:
        assert (await ask(house, get("/x", host=host))).status == 400
        assert house.seen == []


async def test_one_host_exactly(serve):
    async with serve() as house:
        assert (await ask(house, b"GET /x HTTP/1.1\r\n\r\n")).status == 400
        assert (await ask(house, get("/x", "Host: b"))).status == 400
        for good in ("a", "a.b-c.d:80", "127.0.0.1:4100", "[::1]:4100"):
            assert (await ask(house, get("/x", host=good))).status == 200


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("http://evil/v1/models", "/v1/models"),
        ("/v1%2Fmodels", "/v1/models"),
        ("/%76%31/models", "/v1/models"),
        ("/v1/models/", "/v1/models/"),
        ("/v1/%252e%252e/admin", "/v1/%2e%2e/admin"),
        ("//v1/models", None),
        ("/v1//models", None),
        ("/v1/%2Fmodels", None),
        ("/v1/../admin", None),
        ("/v1/%2e%2e/admin", None),
        ("/v1/%2E./admin", None),
        ("/v1/..%2fadmin", None),
        ("/./v1/models", None),
        ("/v1/models;x=y", None),
        ("/v1\\models", None),
        ("/v1%5cmodels", None),
        ("/v1%00", None),
        ("/v1%0d%0ax", None),
        ("/v1%ff", None),
        ("/" + "a" * 5000, None),
    ],
)
async def test_paths_mean_one_thing_or_nothing(serve, path, route):
    async with serve() as house:
        answer = await ask(house, get(path))
        if route is None:
            assert answer.status == 404 or (answer.status == 400 and "\\" in path)
            assert house.seen == []
        else:
            assert answer.status == 200
            assert house.seen[0].path == route


async def test_no_compressed_bodies(serve):
    async with serve() as house:
        assert (await ask(house, post(b"x", "/echo", "Content-Encoding: gzip"))).status == 415
        assert (await ask(house, post(b"x", "/echo", "Content-Encoding: identity"))).body == b"x"


# -- too much ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wire",
    [
        get("/", *[f"x-{n}: y" for n in range(1000)]),
        get("/", "x: " + "y" * 70_000),
        get("/", *[f"x: {'y' * 1000}"] * 100),
    ],
    ids=["count", "one", "sum"],
)
async def test_too_many_headers(serve, wire):
    async with serve() as house, house.client() as client:
        await client.send(wire)
        answer = await client.answer()
        assert (answer.status, answer.body) == (431, b'{"error": "headers_too_large"}')
        assert answer.headers["connection"] == "close"
        assert house.seen == []


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: a\r\nx: ", b"GET /"])
async def test_a_head_without_end(serve, start):
    async with serve() as house, house.client() as client:
        await client.send(start)
        for _ in range(40):
            await client.send(b"a" * 16_000)
        assert (await client.answer()).status in (400, 431)
        assert house.seen == []


async def test_a_body_too_large_is_refused_unread(serve):
    async with serve(body=1000) as house, house.client() as client:
        await client.send(get("/echo", "Content-Length: 1001", method="POST"))
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b'{"error": "request_too_large"}')
        assert house.seen == []


async def test_a_chunked_body_too_large_is_refused_on_the_way(serve):
    async with serve(body=100_000) as house, house.client() as client:
        await client.send(get("/echo", "Transfer-Encoding: chunked", method="POST"))

        async def pour() -> None:
            while True:
                await client.send(b"1000\r\n" + bytes(4096) + b"\r\n")
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        assert (await client.answer()).status == 413
        pouring.cancel()
        assert house.seen == []


async def test_a_refusal_knows_the_path(serve):
    async with serve(body=10) as house:
        await ask(house, post(bytes(20), "/v1/messages?x=1"))
        assert house.refused[0][1] == "/v1/messages"
