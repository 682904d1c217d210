"""Bad inputs that are well-formed: limits that are missing, tools and schemas out of all measure, addresses that the
gateway must not open, headers that lie about where a request comes from. Real sockets, models of three formats."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from server.test_bad_inputs import CHAT, GOOD, check_error, post

MODELS = ("claude-4.7", "gpt-5.5", "gemini-3.0")


def sent(stage: Any) -> dict[str, Any]:
    """The body of the newest call upstream."""
    return json.loads(stage.loop.call(lambda: stage.sim.log[-1].call.body))


def asked(model: str, **fields: Any) -> dict[str, Any]:
    return {**GOOD, "model": model, **fields}


def test_39_without_max_tokens_anthropic_gets_the_catalogues_maximum_and_others_nothing(stage):
    assert post(stage, CHAT, asked("claude-4.7"))[0] == 200
    known = stage.loop.call(lambda: stage.gateway.house.snapshot.model("claude-4.7").max_output)
    assert known is not None
    assert known > 4096
    assert sent(stage)["max_tokens"] == known
    assert post(stage, CHAT, asked("gpt-5.5"))[0] == 200
    assert not {"max_tokens", "max_completion_tokens"} & sent(stage).keys()
    assert post(stage, CHAT, asked("gemini-3.0"))[0] == 200
    assert "maxOutputTokens" not in sent(stage).get("generationConfig", {})


def function(name: str, schema: Any = None) -> dict[str, Any]:
    parameters = schema if schema is not None else {"type": "object", "properties": {"a": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


CIRCLE = {"$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"}
HUGE = {"type": "object", "properties": {f"p{i}": {"type": "string", "description": "d" * 200} for i in range(5000)}}
TOOLS: dict[str, Any] = {
    "500 of them": [function(f"f{i}") for i in range(500)],
    "a schema that refers to itself": [function("f", CIRCLE)],
    "a schema of a megabyte": [function("f", HUGE)],
    "the same name twice": [function("f"), function("f")],
    "no schema at all": [{"type": "function", "function": {"name": "f"}}],
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", TOOLS)
def test_42_tools_out_of_all_measure_are_the_providers_to_judge(stage, name, model):
    """They reach it whole, every one of them; what it then says (too long, say) is relayed."""
    before = stage.calls()
    status, _, answer = post(stage, CHAT, asked(model, tools=TOOLS[name]))
    assert stage.calls() == before + 1
    assert status == 200 or (status, answer["error"]["code"]) == (400, "context_length_exceeded"), answer
    upstream = json.dumps(sent(stage))
    names = [tool["function"]["name"] for tool in TOOLS[name]]
    assert sum(upstream.count(f'"name": "{one}"') for one in set(names)) == len(names)
    assert ("p4999" in upstream) == (TOOLS[name][0]["function"].get("parameters") is HUGE)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "tools", [{"a": 1}, [7], [{"type": "function"}], [{"type": "function", "function": {"name": 7}}], "f"]
)
def test_42_tools_that_are_none_are_400_or_the_providers_own_business(stage, model, tools):
    """A provider of the client's own format gets them as they are and refuses them itself."""
    before = stage.calls()
    answer = post(stage, CHAT, asked(model, tools=tools))
    if model == "gpt-5.5" and isinstance(tools, list):
        assert answer[0] in (200, 400)
        assert sent(stage)["tools"] == tools
    else:
        check_error(stage, answer, 400, before=before)


@pytest.mark.parametrize("model", MODELS)
def test_42_a_result_that_nobody_asked_for_is_400_or_goes_to_the_provider(stage, model):
    messages = [*GOOD["messages"], {"role": "tool", "tool_call_id": "nobody", "content": "x"}]
    status, _, answer = post(stage, CHAT, asked(model, messages=messages))
    assert status in (200, 400), answer
    if status == 400:
        assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"answer": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}}},
        {"$ref": "#"},
        {"type": "nothing"},
    ],
)
def test_43_a_schema_is_never_a_trap_for_the_gateway(stage, schema):
    """A chain checks answers against the schema; it must not run this one's pattern, nor follow it in circles."""
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    status, _, answer = post(stage, CHAT, asked("reliable", response_format=wanted))
    assert status in (200, 400, 503), answer
    assert post(stage, CHAT, GOOD)[0] == 200


class Trap:
    """A listener on this machine. Nobody may come."""

    def __init__(self) -> None:
        self.visits: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            with visitor:
                self.visits.append(visitor.recv(1000))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    found = Trap()
    yield found
    found.close()


def bodies_with(url: str) -> dict[str, dict[str, Any]]:
    """A request for an image, a document or a schema from an address, at every door that has a place for one."""
    chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    blocks = [{"type": kind, "source": {"type": "url", "url": url}} for kind in ("image", "document")]
    parts = [{"type": "input_image", "image_url": url}, {"type": "input_file", "file_url": url}]
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": url}}}
    return {
        CHAT: {"messages": chat},
        CHAT + "?": {**GOOD, "response_format": schema},
        "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": blocks}]},
        "/v1/responses": {"input": [{"role": "user", "content": parts}]},
        "gemini": {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": url, "mimeType": "image/png"}}]}]},
    }


@pytest.mark.parametrize("model", [*MODELS, "llama-4", "reliable"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f000001", "2130706433"])
def test_44_no_address_in_a_request_is_ever_opened(stage, trap, host, model):
    """Were the gateway to open any, it would open these: they lead to a listener right here."""
    for path, body in bodies_with(f"http://{host}:{trap.port}/x").items():
        where = f"/v1beta/models/{model}:generateContent" if path == "gemini" else path
        status, _, answer = post(stage, where, body if path == "gemini" else {**body, "model": model})
        assert status in (200, 400, 503), (path, answer)
    assert trap.visits == []


@pytest.mark.parametrize("url", ["http://169.254.169.254/x", "file:///etc/passwd", "http://[::ffff:10.0.0.1]/"])
@pytest.mark.parametrize("model", MODELS)
def test_44_an_address_goes_to_the_provider_as_it_is_or_nowhere(stage, url, model):
    before = stage.calls()
    status, _, _ = post(stage, CHAT, {**bodies_with(url)[CHAT], "model": model})
    if status == 200:
        upstream = json.dumps(sent(stage))
        assert url in upstream
        assert "root:" not in upstream
    else:
        assert (status, stage.calls()) == (400, before)


def test_44_data_beyond_the_limit_is_413(stage):
    before = stage.calls()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    answer = post(stage, CHAT, asked("gpt-5.5", messages=[{"role": "user", "content": [image]}]))
    check_error(stage, answer, 413, before=before)


@pytest.mark.parametrize(
    "parent",
    ["00-zzz-1", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "\u00e9"],
)
def test_48_a_malformed_traceparent_starts_a_new_trace_and_baggage_stays_here(stage, parent):
    baggage = "secret=nobodys," * 560
    status, headers, _ = post(stage, CHAT, GOOD, extra=f"traceparent: {parent}\r\nbaggage: {baggage}\r\n")
    assert status == 200
    assert headers["x-headgate-trace"].startswith("tr_")
    upstream = stage.loop.call(lambda: dict(stage.sim.log[-1].call.headers))
    assert "nobodys" not in str(upstream)
    assert parent not in str(upstream)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "True-Client-IP"])
def test_49_who_says_to_come_from_elsewhere_comes_from_where_it_comes(stage, name):
    """An open plane serves this machine; no header makes a request local, or takes that from it. (Nothing here trusts a
    proxy's word; who is meant to be kept out is kept out by keys.)"""
    assert post(stage, CHAT, GOOD, extra=f"{name}: 203.0.113.7\r\n")[0] == 200
    assert post(stage, CHAT, GOOD, extra=f"{name}: 127.0.0.1\r\nOrigin: https://evil.example\r\n")[0] == 403
    assert (
        post(stage, CHAT, GOOD, host="evil.example", extra=f"{name}: 127.0.0.1\r\nX-Forwarded-Host: localhost\r\n")[0]
        == 403
    )
    assert "203.0.113.7" not in str(stage.loop.call(lambda: stage.sim.log[-1].call.headers))


@pytest.mark.parametrize("value", ["0", "0s", "-5s", "-1"])
def test_50_too_little_time_is_the_least_that_there_is(stage, value):
    """Answered where the model is quick enough, else 504: never an endless wait, never a 500."""
    status, _, answer = post(stage, CHAT, GOOD, extra=f"x-headgate-timeout: {value}\r\n")
    assert status in (200, 504), answer
    if status == 504:
        assert answer["error"]["type"] == "timeout_error"


@pytest.mark.parametrize("value", ["1e9", "1000000000s", "99999h", "1e300"])
def test_50_too_much_time_is_the_most_that_there_is(stage, value):
    assert post(stage, CHAT, GOOD, extra=f"x-headgate-timeout: {value}\r\n")[0] == 200


@pytest.mark.parametrize("value", ["soon", "1 year", "NaN", "1e", "--5s"])
def test_50_what_is_no_time_is_400(stage, value):
    before = stage.calls()
    check_error(stage, post(stage, CHAT, GOOD, extra=f"x-headgate-timeout: {value}\r\n"), 400, before=before)
