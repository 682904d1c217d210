"""Breaking, mending, keys, listing and the log, over real sockets; what needs no wire format of its own."""

import base64
import struct

import pytest

from headgate.simulator.breaks import ERRORS, Break
from headgate.simulator.demo import MODELS
from headgate.simulator.spec import SimModel
from support.sim import ask, port_of, simulator

KEYED = {"authorization": "Bearer k"}
CHAT = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]}
CALLS = {
    "openai": ("/openai/v1/chat/completions", CHAT),
    "anthropic": ("/anthropic/v1/messages", {**CHAT, "model": "claude-opus-4-7", "max_tokens": 100}),
    "google": (
        "/google/v1beta/models/gemini-3-pro:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    ),
}
NAMES = {"openai": "gpt-5.5", "anthropic": "claude-4.7", "google": "gemini-3.0"}


async def call(sim, provider, **options):
    path, body = CALLS[provider]
    return await ask(port_of(sim.base_url(provider)), body, path, headers=KEYED, **options)


STATUS = {
    **{mode: (int(mode), "") for mode in ("500", "502", "429", "403")},
    "503": (503, "overload"),
    "529": (529, "overload"),
    "overloaded": (503, ""),
    "not_found": (404, ""),
    "context_length": (400, "token"),
    "quota": (429, "quota"),
    "auth": (401, ""),
    "content_policy": (400, ""),
}
OTHERWISE = {
    ("quota", "anthropic"): (400, "credit balance"),
    ("overloaded", "anthropic"): (529, "overloaded_error"),
    ("auth", "google"): (400, "API_KEY_INVALID"),
    ("content_policy", "google"): (200, "blockReason"),
    ("429", "google"): (429, "RESOURCE_EXHAUSTED"),
    ("429", "anthropic"): (429, "rate_limit_error"),
    ("429", "openai"): (429, "rate_limit_exceeded"),
    ("context_length", "openai"): (400, "context_length_exceeded"),
    ("context_length", "anthropic"): (400, "prompt is too long"),
}


@pytest.mark.parametrize("provider", CALLS)
async def test_error_modes_in_each_providers_own_words(provider):
    async with simulator() as sim:
        for mode in ERRORS:
            await sim.break_model(NAMES[provider], mode, retry_after=7)
            heard = await call(sim, provider)
            status, word = OTHERWISE.get((mode, provider), STATUS[mode])
            assert heard.status == status, mode
            assert word in heard.body.decode(), mode
            shape = heard.json()
            if status != 200:
                assert "error" in shape
                assert (shape.get("type") == "error") == (provider == "anthropic")
            asked_to_wait = b"retry-after: 7" in heard.head
            assert asked_to_wait == (mode in ("500", "502", "503", "529", "429", "overloaded") and provider != "google")
            assert (b'"retryDelay":"7s"' in heard.body) == (
                provider == "google" and mode in ("500", "502", "503", "529", "429", "overloaded")
            )


async def test_modes_that_stand_in_an_answers_place():
    async with simulator() as sim:
        expected = {
            "html": (200, b"<!DOCTYPE"),
            "empty": (200, b""),
            "no_choices": (200, b"{}"),
            "malformed": (200, b'{"id": "sim"'),
            "error_in_200": (200, b'{"error"'),
            "redirect": (302, b""),
        }
        for mode, (status, start) in expected.items():
            await sim.break_model("gpt-5.5", mode)
            heard = await call(sim, "openai")
            assert heard.status == status
            assert heard.body.startswith(start)
        await sim.break_model("gpt-5.5", "refuse")
        assert (await call(sim, "openai")).end == "reset"
        await sim.break_model("gpt-5.5", "hang")
        heard = await call(sim, "openai", timeout=0.1)
        assert (heard.raw, heard.end) == (b"", "timeout")
        served = sim.served("gpt-5.5")[-1]
        await served.call.ended.wait()
        assert served.mode == "hang"
        assert served.call.left is not None
        assert sim.models["gpt-5.5"].active == 0


async def test_refusing_with_a_port_of_its_own_is_a_refused_connection():
    async with simulator(port_each=True) as sim:
        await sim.break_model("gpt-5.5", "refuse")
        with pytest.raises(ConnectionRefusedError):
            await call(sim, "openai")
        await sim.break_model("claude-4.7", "500")
        assert (await call(sim, "anthropic")).status == 500
        await sim.break_model("gpt-5.5", "500")
        assert (await call(sim, "openai")).status == 500
        await sim.break_model("gpt-5.5", "refuse")
        await sim.mend()
        await sim.break_model("gpt-5.5", "no_choices")
        assert (await call(sim, "openai")).body == b"{}"


async def test_control_over_http():
    async with simulator() as sim:
        port = port_of(sim.url)
        assert (await ask(port, {"break": "503", "retry_after": 2}, "/_sim/models/gpt-5.5")).json()["break"][
            "mode"
        ] == "503"
        assert (await call(sim, "openai")).status == 503
        shown = (await ask(port, b"", "/_sim/models", method="GET")).json()
        assert {each["name"] for each in shown} == {spec.name for spec in MODELS}
        assert next(each for each in shown if each["name"] == "gpt-5.5")["calls"] == 1
        assert (await ask(port, {"mend": True}, "/_sim/models/gpt-5.5")).json()["break"] is None
        await ask(port, {"break": 500}, "/_sim/models/gpt-5.5")
        assert (await call(sim, "openai")).status == 500
        log = (await ask(port, b"", "/_sim/log?after=1&model=gpt-5.5", method="GET")).json()
        assert [(each["number"], each["status"], each["mode"]) for each in log] == [(2, 500, "500")]
        for body in ({"break": "nonsense"}, {"brake": "500"}, b"[]", b"{", {"break": "500", "typo": 1}):
            assert (await ask(port, body, "/_sim/models/gpt-5.5")).status == 400
        assert (await ask(port, {"break": "500"}, "/_sim/models/nobody")).status == 404
        assert (await ask(port, {"match": "x", "answers": ["y"]}, "/_sim/script")).json() == {"ok": True}
        assert (await ask(port, {"match": "x", "answers": [{"nope": 1}]}, "/_sim/script")).status == 400
        await ask(port, b"", "/_sim/reset")
        assert sim.models["gpt-5.5"].broken is None
        assert len(sim.log) == 0


async def test_keys_models_and_paths_are_checked():
    async with simulator(keys={"meta": "right"}) as sim:
        port = port_of(sim.url)
        path, body = CALLS["openai"]
        assert (await ask(port, body, path)).status == 401
        assert (await ask(port, {**body, "model": "gpt-0"}, path, headers=KEYED)).json()["error"][
            "code"
        ] == "model_not_found"
        meta = "/meta/compat/v1/models"
        assert (await ask(port, b"", meta, method="GET", headers=KEYED)).status == 401
        listed = await ask(port, b"", meta, method="GET", headers={"authorization": "Bearer right"})
        assert [each["id"] for each in listed.json()["data"]] == ["llama-4-maverick"]
        assert (await ask(port, body, "/openai/v1/nothing", headers=KEYED)).status == 404
        google = await ask(port, b"", "/google/v1beta/models?key=k", method="GET")
        assert google.json()["models"][0]["name"] == "models/gemini-3-pro"
        claude = await ask(port, b"", "/anthropic/v1/models", method="GET", headers={"x-api-key": "k"})
        assert claude.json()["data"][0]["id"] == "claude-opus-4-7"
        assert len(sim.log) == 0


async def test_rate_limits_of_its_own():
    spec = SimModel(name="small", provider="openai", upstream="small", rpm=2)
    async with simulator(spec) as sim:
        await sim.break_model("small", "no_choices")
        path = "/openai/v1/chat/completions"
        heads = [(await ask(port_of(sim.url), {**CHAT, "model": "small"}, path, headers=KEYED)).head for _ in range(2)]
        assert b"x-ratelimit-remaining-requests: 1" in heads[0]
        assert b"x-ratelimit-remaining-requests: 0" in heads[1]
        await sim.mend()
        heard = await ask(port_of(sim.url), {**CHAT, "model": "small"}, path, headers=KEYED)
        assert heard.status == 429
        assert b"retry-after: " in heard.head


async def test_embeddings_are_stable_and_near_for_like_texts():
    async with simulator() as sim:
        port, path = port_of(sim.url), "/openai/v1/embeddings"
        body = {"model": "e", "input": ["the cat sat", "the cat sat down", "stock prices fell"], "dimensions": 64}
        data = [d["embedding"] for d in (await ask(port, body, path, headers=KEYED)).json()["data"]]

        def near(a, b):
            return sum(x * y for x, y in zip(a, b, strict=True))

        assert near(data[0], data[1]) > near(data[0], data[2])
        packed = (await ask(port, {**body, "encoding_format": "base64"}, path, headers=KEYED)).json()["data"][0][
            "embedding"
        ]
        values = struct.unpack("<64f", base64.b64decode(packed))
        assert values == pytest.approx(data[0], abs=1e-6)
        assert (await ask(port, {"model": "e"}, path, headers=KEYED)).status == 400


def test_every_mode_has_one_place():
    with pytest.raises(ValueError, match="no break mode"):
        Break("nonsense")
