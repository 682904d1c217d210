"""The promise, word for word: an application points its OpenAI client here, and curl works too; plain and streaming."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from openai import OpenAI

from support.gateway import SimulatedGateway

MODELS = ("claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4", "reliable", "auto", "careful", "agent")
ASKED = [{"role": "user", "content": "What is 12 * 12?"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SimulatedGateway() as found:
        yield found.url


@pytest.fixture(scope="module")
def curl() -> str:
    if (found := shutil.which("curl")) is None:
        subprocess.run(["sh", "-c", "apt-get update -q && apt-get install -qy curl"], check=True, timeout=300)
        found = shutil.which("curl")
    assert found is not None
    return found


@pytest.mark.parametrize("model", MODELS)
def test_the_openai_client_needs_a_base_url_and_nothing_else(url: str, model: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="anything")
    answer = client.chat.completions.create(model=model, messages=ASKED)
    assert answer.object == "chat.completion"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    chunks = list(client.chat.completions.create(model=model, messages=ASKED, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({c.id for c in chunks}) == 1


@pytest.mark.parametrize("model", ["gpt-5.5", "auto"])
def test_curl_with_the_lines_of_everybodys_documentation(url: str, curl: str, model: str) -> None:
    command = [curl, "-sS", "--no-buffer", f"{url}/v1/chat/completions"]
    command += ["-H", "Content-Type: application/json", "-H", "Authorization: Bearer anything"]
    whole = subprocess.run(
        [*command, "-d", json.dumps({"model": model, "messages": ASKED})], capture_output=True, check=True, timeout=60
    )
    assert json.loads(whole.stdout)["choices"][0]["message"]["content"]
    streamed = subprocess.run(
        [*command, "-d", json.dumps({"model": model, "messages": ASKED, "stream": True})],
        capture_output=True,
        check=True,
        timeout=60,
    )
    frames = [line for line in streamed.stdout.decode().split("\n") if line.startswith("data: ")]
    assert frames[-1] == "data: [DONE]"
    words = [json.loads(frame[6:])["choices"] for frame in frames[:-1]]
    assert "".join(choices[0]["delta"].get("content") or "" for choices in words if choices)


def test_curl_without_a_content_type_as_the_demo_prints_it(url: str, curl: str) -> None:
    body = json.dumps({"model": "reliable", "messages": ASKED})
    done = subprocess.run(
        [curl, "-s", f"{url}/v1/chat/completions", "-d", body], capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
