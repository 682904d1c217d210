"""Every bad input of the acceptance list through a real socket: the stated answer, no traceback, no upstream call."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from typing import Any

import pytest

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "claude-4.7", "messages": [{"role": "user", "content": "hi"}]}


def raw(port: int, data: bytes, timeout: float = 5.0) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body); status 0 where the connection was closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        sock.settimeout(timeout)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
        got = b""
        try:
            while piece := sock.recv(65536):
                got += piece
                head, blank, body = got.partition(b"\r\n\r\n")
                if blank and b"content-length:" in head.lower():
                    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                    if len(body) >= length:
                        break
        except (TimeoutError, ConnectionResetError):
            pass
    head, _, body = got.partition(b"\r\n\r\n")
    if not head:
        return 0, {}, b""
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split(" ")[1]), headers, body


def request(path: str, body: bytes, *, host: str = "127.0.0.1", extra: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {size}"]
    return ("\r\n".join(lines) + f"\r\n{extra}\r\n").encode("latin-1") + body


def post(stage: Any, path: str, body: bytes | dict[str, Any], **more: Any) -> tuple[int, dict[str, str], Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, headers, text = raw(stage.port, request(path, data, **more))
    return status, headers, json.loads(text) if text.startswith(b"{") else text


def check_error(stage: Any, answer: tuple[int, dict[str, str], Any], *statuses: int, before: int) -> dict[str, Any]:
    status, headers, body = answer
    assert status in statuses, (status, body)
    assert isinstance(body, dict)
    assert {"message", "type", "param", "code"} <= body["error"].keys()
    assert headers["x-request-id"].startswith("req_")
    assert "Traceback" not in json.dumps(body)
    assert stage.calls() == before
    return body["error"]


def with_(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


DEEP = b'{"model":"claude-4.7","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES: dict[str, bytes | dict[str, Any]] = {
    "1 empty": b"",
    "2 null": b"null",
    "2 list": b"[]",
    "2 string": b'"x"',
    "2 number": b"1",
    "3 truncated": b'{"model":"claude-4.7","messages":[{"role"',
    "4 deep": DEEP,
    "5 NaN": b'{"model":"claude-4.7","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "5 Infinity": b'{"model":"claude-4.7","messages":[{"role":"user","content":"x"}],"temperature":Infinity}',
    "5 1e999": b'{"model":"claude-4.7","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
    "7 BOM": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "8 invalid UTF-8": b'{"model":"claude-4.7","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "9 lone surrogate in the model": b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}',
    "11 huge integer": b'{"model":"claude-4.7","messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 5000 + b"}",
    "33 model is a number": with_(model=1),
    "33 model is empty": with_(model=""),
    "36 no messages": with_(messages=[]),
    "36 messages no list": with_(messages={"role": "user"}),
    "36 role root": with_(messages=[{"role": "root", "content": "x"}]),
    "36 content object": with_(messages=[{"role": "user", "content": {"text": "x"}}]),
    "38 n": with_(n=10_000),
    "38 max_tokens negative": with_(max_tokens=-1),
    "38 max_tokens huge": with_(max_tokens=10**12),
    "38 top_logprobs": with_(logprobs=True, top_logprobs=99),
    "40 input and messages": with_(input="x"),
    "41 stream string": with_(stream="true"),
    "42 tools no list": with_(tools={"a": 1}),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_400(stage, name):
    before = stage.calls()
    check_error(stage, post(stage, CHAT, BODIES[name]), 400, before=before)


DOORS: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "claude-4.7", "input": "hi"},
    "/v1/messages": {"model": "claude-4.7", "max_tokens": 5, "messages": GOOD["messages"]},
    "/v1/messages/count_tokens": {"model": "claude-4.7", "messages": GOOD["messages"]},
    "/v1beta/models/claude-4.7:generateContent": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "/v1beta/models/claude-4.7:streamGenerateContent": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    "/v1/embeddings": {"model": "gpt-5.5", "input": "hi"},
    "/v1/completions": {"model": "gpt-5.5", "prompt": "hi"},
    "/v1/moderations": {"model": "gpt-5.5", "input": "hi"},
    "/v1/images/generations": {"model": "gpt-5.5", "prompt": "hi"},
    "/v1/audio/speech": {"model": "gpt-5.5", "input": "hi", "voice": "a"},
    "/v1/rerank": {"model": "gpt-5.5", "query": "hi", "documents": ["a"]},
    "/v1/explain": GOOD,
    "/v1/feedback": {"trace": "tr_x", "score": 1},
}
SHAPELESS: dict[str, Any] = {
    "1 empty": lambda good: b"",
    "2 null": lambda good: b"null",
    "2 list": lambda good: b"[]",
    "2 string": lambda good: b'"x"',
    "2 number": lambda good: b"1",
    "3 truncated": lambda good: json.dumps(good).encode()[:-2],
    "4 deep": lambda good: json.dumps(good).encode()[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "5 NaN": lambda good: json.dumps(good).encode()[:-1] + b',"temperature":NaN}',
    "7 BOM": lambda good: b"\xef\xbb\xbf" + json.dumps(good).encode(),
    "8 invalid UTF-8": lambda good: json.dumps(good).encode()[:-1] + b',"user":"\xff"}',
    "11 huge integer": lambda good: json.dumps(good).encode()[:-1] + b',"seed":' + b"9" * 5000 + b"x}",
}


@pytest.mark.parametrize("name", SHAPELESS)
@pytest.mark.parametrize("path", DOORS)
def test_what_is_no_json_is_400_at_every_door(stage, path, name):
    before = stage.calls()
    status, _, answer = post(stage, path, SHAPELESS[name](DOORS[path]))
    assert status == 400, answer
    assert "Traceback" not in json.dumps(answer)
    assert answer["error"]["message"]
    assert stage.calls() == before


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "extra_headers", "organization"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, GOOD),
        *DOORS.items(),
        ("/v1beta/models/gemini-3.0:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
    ],
)
def test_34_fields_that_would_steer_the_gateway_are_refused(stage, field, path, body):
    before = stage.calls()
    status, _, answer = post(stage, path, {**body, field: "http://169.254.169.254"})
    assert status == 400
    assert field in json.dumps(answer)
    assert stage.calls() == before


def test_6_a_duplicate_model_has_one_value_for_all(stage):
    body = b'{"model":"nobody","messages":[{"role":"user","content":"x"}],"model":"claude-4.7"}'
    status, headers, _ = post(stage, CHAT, body)
    assert status == 200
    assert headers["x-headgate-model"] == "claude-4.7"


def test_an_escaped_key_cannot_name_another_model(stage):
    body = b'{"model":"claude-4.7","\\u006dodel":"llama-4","messages":[{"role":"user","content":"x"}]}'
    status, headers, _ = post(stage, CHAT, body)
    assert status == 200
    served = stage.loop.call(lambda: stage.sim.log[-1].model)
    assert headers["x-headgate-model"] == served


def test_10_nul_in_a_string_reaches_the_model(stage):
    before = stage.calls()
    status, _, _ = post(stage, CHAT, with_(messages=[{"role": "user", "content": "a\0b"}]))
    assert (status, stage.calls()) == (200, before + 1)
    assert json.loads(stage.loop.call(lambda: stage.sim.log[-1].call.body))["messages"][0]["content"] == "a\0b"


def test_12_too_large_by_length_is_413_before_the_body_is_read(stage):
    before = stage.calls()
    answer = raw(stage.port, request(CHAT, b"{", length=50_000_000))
    check_error(stage, (answer[0], answer[1], json.loads(answer[2])), 413, before=before)


def test_13_too_large_by_chunks_is_413_and_closed(stage):
    before = stage.calls()
    chunk = b"%x\r\n%s\r\n" % (500_000, b"x" * 500_000)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    status, headers, body = raw(stage.port, head + chunk * 5)
    check_error(stage, (status, headers, json.loads(body)), 413, before=before)
    assert headers["connection"] == "close"


def test_14_a_body_shorter_than_its_length_times_out(stage):
    before = stage.calls()
    status, headers, body = raw(stage.port, request(CHAT, b'{"model"', length=100))
    check_error(stage, (status, headers, json.loads(body)), 408, before=before)


def test_14_a_body_longer_than_its_length_is_two_requests_and_the_second_is_none(stage):
    before = stage.calls()
    data = json.dumps(GOOD).encode()
    status, _, _ = raw(stage.port, request(CHAT, data + b"more\r\n\r\n", length=len(data)))
    assert status == 200
    assert stage.calls() == before + 1


def test_15_compressed_bodies_are_415(stage):
    before = stage.calls()
    answer = post(stage, CHAT, gzip.compress(b" " * 100_000), extra="Content-Encoding: gzip\r\n")
    check_error(stage, answer, 415, before=before)


@pytest.mark.parametrize("kind", ["Content-Type: text/plain\r\n", "Content-Type: \r\n", ""])
def test_16_a_wrong_content_type_is_fine_if_the_body_is_json(stage, kind):
    data = json.dumps(GOOD).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {len(data)}\r\n\r\n"
    assert raw(stage.port, head.encode() + data)[0] == 200


def test_16_a_body_that_is_no_json_is_refused_whatever_it_is_called(stage):
    before = stage.calls()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
    status, headers, body = raw(stage.port, head.encode() + b"hello")
    check_error(stage, (status, headers, json.loads(body)), 400, 415, before=before)


@pytest.mark.parametrize("extra", ["X-Big: " + "a" * 70_000 + "\r\n", "".join(f"X-{i}: 1\r\n" for i in range(1000))])
def test_17_18_large_headers_are_431(stage, extra):
    before = stage.calls()
    answer = post(stage, CHAT, GOOD, extra=extra)
    check_error(stage, answer, 431, before=before)


@pytest.mark.parametrize(
    "extra", ["X-Bad: a\x00b\r\n", "X-Bad: a\rb\r\n", "X-Bad: a\nb\r\n", "X-Bad: a\nX-Good: b\r\n"]
)
def test_19_control_characters_in_headers_are_400(stage, extra):
    before = stage.calls()
    status, _, body = raw(stage.port, request(CHAT, json.dumps(GOOD).encode(), extra=extra))
    assert status == 400
    assert b"a\x00b" not in body
    assert stage.calls() == before


@pytest.mark.parametrize("extra", ["Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"])
def test_20_21_two_lengths_are_400(stage, extra):
    before = stage.calls()
    assert raw(stage.port, request(CHAT, json.dumps(GOOD).encode(), extra=extra))[0] == 400
    assert stage.calls() == before


@pytest.mark.parametrize("host", ["", "a/x?y#z", "a b", "a@b"])
def test_22_23_invalid_hosts_are_400(stage, host):
    before = stage.calls()
    assert raw(stage.port, request(CHAT, json.dumps(GOOD).encode(), host=host))[0] == 400
    assert stage.calls() == before


def test_22_a_missing_host_is_400(stage):
    data = json.dumps(GOOD).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    assert raw(stage.port, head + data)[0] == 400


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/chat;x/completions",
        "/nothing",
        "/v1/chat/completions/x",
    ],
)
def test_24_odd_paths_are_nobodys(stage, path):
    before = stage.calls()
    assert raw(stage.port, request(path, json.dumps(GOOD).encode()))[0] == 404
    assert stage.calls() == before


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/chat/completions", "http://127.0.0.1/v1/chat/completions"])
def test_24_the_same_route_by_another_spelling_is_the_same_route(stage, path):
    before = stage.calls()
    status, headers, _ = raw(stage.port, request(path, json.dumps(GOOD).encode()))
    assert (status, headers["x-headgate-model"]) == (200, "claude-4.7")
    assert stage.calls() == before + 1


def test_a_wrong_method_is_405(stage):
    status, _, body = raw(stage.port, f"GET {CHAT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 405
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("model", ["nobody", "../x", "\U0001f600", "x" * 10_000, "openai/", "nobody/x"])
def test_31_33_unknown_models_are_404_with_a_short_name(stage, model):
    before = stage.calls()
    error = check_error(stage, post(stage, CHAT, with_(model=model)), 404, before=before)
    assert error["code"] == "model_not_found"
    assert len(error["message"]) < 250


def test_35_unknown_fields_are_passed_on_or_named(stage):
    many = {f"unknown_{i}": i for i in range(100)}
    own = {
        CHAT: {**GOOD, "model": "deepseek-v4"},
        "/v1/responses": {"model": "gpt-5.5", "input": "hi"},
        "/v1/messages": DOORS["/v1/messages"],
        "/v1beta/models/gemini-3.0:generateContent": DOORS["/v1beta/models/claude-4.7:generateContent"],
    }
    for path, body in own.items():
        status, headers, _ = post(stage, path, {**body, **many})
        assert status == 200
        assert "x-headgate-lossy" not in headers
        sent = json.loads(stage.loop.call(lambda: stage.sim.log[-1].call.body))
        assert {name: sent.get(name) for name in many} == many, path
    status, headers, _ = post(stage, CHAT, {**GOOD, **many})
    assert status == 200
    *named, rest = headers["x-headgate-lossy"].split(", ")
    assert named == list(many)[: len(named)]
    assert rest == f"and {100 - len(named)} more"
    id = "tr_" + headers["x-headgate-trace"].removeprefix("tr_").upper()
    _, _, trace = raw(stage.port, f"GET /v1/traces/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert json.loads(trace)["lossy"] == list(many)


def test_37_too_many_messages(stage):
    before = stage.calls()
    answer = post(stage, CHAT, with_(messages=[{"role": "user", "content": ""}] * 30_000))
    assert "more than 20000" in check_error(stage, answer, 400, before=before)["message"]


def test_46_the_state_of_another_does_not_exist(stage):
    before = stage.calls()
    answer = post(stage, "/v1/responses", {"model": "gpt-5.5", "input": "x", "previous_response_id": "resp_other"})
    check_error(stage, answer, 404, before=before)


def test_47_a_long_idempotency_key_is_400(stage):
    before = stage.calls()
    check_error(stage, post(stage, CHAT, GOOD, extra=f"Idempotency-Key: {'k' * 256}\r\n"), 400, before=before)


@pytest.mark.parametrize(
    "header", ["x-headgate-tags: <script>", "x-headgate-max-cost: lots", "x-headgate-details: perhaps"]
)
def test_our_own_headers_are_checked(stage, header):
    before = stage.calls()
    check_error(stage, post(stage, CHAT, GOOD, extra=f"{header}\r\n"), 400, before=before)


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: Basic abc\r\n", 401),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: http://localhost:3000\r\n", 200),
    ],
)
def test_an_open_plane_serves_this_machine_only(stage, extra, status):
    assert post(stage, CHAT, GOOD, extra=extra)[0] == status


def test_a_foreign_host_is_refused_while_the_plane_is_open(stage):
    assert post(stage, CHAT, GOOD, host="evil.example")[0] == 403


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/v1/messages", {"model": "nobody", "max_tokens": 5, "messages": GOOD["messages"]}, "anthropic"),
        ("/v1beta/models/nobody:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}, "google"),
        ("/v1/responses", {"model": "nobody", "input": "x"}, "openai"),
    ],
)
def test_errors_speak_the_doors_own_dialect(stage, path, body, shape):
    status, _, answer = post(stage, path, body)
    assert status == 404
    if shape == "anthropic":
        assert (answer["type"], answer["error"]["type"]) == ("error", "not_found_error")
    elif shape == "google":
        assert answer["error"]["status"] == "NOT_FOUND"
    else:
        assert answer["error"]["code"] == "model_not_found"
