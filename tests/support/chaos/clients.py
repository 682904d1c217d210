"""Clients that ask whatever a gateway offers, at every door, and remember what they were told."""

from __future__ import annotations

import http.client
import json
import random
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

MODELS = ("claude-4.7", "gpt-5.5", "gemini-3.0", "llama-4", "deepseek-v4")
STRATEGIES = ("reliable", "auto", "careful", "voted", "fused", "steps", "agent")
PROMPTS = (
    "What is 12 * 12?",
    "Write a Python function that reverses a string.",
    "Name three uses of a headgate in irrigation.",
    "Summarise: water is let in by a gate, and kept out by it.",
)
ENDS = {"chat": b"[DONE]", "messages": b"message_stop", "responses": b"response.completed", "gemini": b"finishReason"}


@dataclass(frozen=True)
class Told:
    """What one client saw of one request. `whole`: the answer to its very end."""

    trace: str
    status: int
    whole: bool
    cost: str | None


class Crowd:
    """`size` clients, each a thread: they ask one of `urls` until told to stop. `told` is shared; appending is atomic."""

    def __init__(self, urls: list[str], keys: list[str], seed: int, size: int) -> None:
        self.told: list[Told] = []
        self._places = [urlsplit(url).netloc for url in urls]
        self._keys = keys
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/{n}"),), daemon=True) for n in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> list[Told]:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"
        return self.told

    def _run(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            try:
                found = self._ask(rng)
            except (OSError, http.client.HTTPException):
                self._stop.wait(0.02)
            else:
                if found is not None:
                    self.told.append(found)

    def _ask(self, rng: random.Random) -> Told | None:
        model = rng.choice(MODELS) if rng.random() < 0.5 else rng.choice(STRATEGIES)
        door, path, body = request(rng, model)
        connection = http.client.HTTPConnection(rng.choice(self._places), timeout=12)
        try:
            headers = {
                "content-type": "application/json",
                "authorization": f"Bearer {rng.choice(self._keys)}",
                "x-headgate-tags": rng.choice(("", "a", "a,b", "poor")),
            }
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            leaves = rng.randint(1, 400) if rng.random() < 0.1 else None
            return self._read(answer, door, leaves)
        finally:
            connection.close()

    @staticmethod
    def _read(answer: http.client.HTTPResponse, door: str, leaves: int | None) -> Told | None:
        trace = answer.headers.get("x-headgate-trace")
        streams = "event-stream" in answer.headers.get("content-type", "")
        data, complete = b"", False
        try:
            while piece := answer.read1(65_536):
                data += piece
                if leaves is not None and len(data) > leaves:
                    return None
            complete = True
        except (OSError, http.client.HTTPException):
            complete = False
        if trace is None:
            return None
        whole = (ENDS[door] in data and b'"error"' not in data) if streams else (complete and is_whole(data))
        return Told(trace, answer.status, whole, answer.headers.get("x-headgate-cost-usd"))


def is_whole(data: bytes) -> bool:
    """JSON, or a WAV as long as it says."""
    if data[:4] == b"RIFF":
        return len(data) == int.from_bytes(data[4:8], "little") + 8
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def request(rng: random.Random, model: str) -> tuple[str, str, dict[str, object]]:
    """(door, path, body)"""
    prompt = rng.choice(PROMPTS)
    stream = rng.random() < 0.5
    most = rng.choice((16, 60, 200))
    messages = [{"role": "user", "content": prompt}]
    match rng.choice(("chat", "chat", "messages", "responses", "gemini", "embeddings", "images", "audio")):
        case "images":
            return "images", "/v1/images/generations", {"model": "picture", "prompt": prompt, "n": rng.randint(1, 2)}
        case "audio":
            return "audio", "/v1/audio/speech", {"model": "voice", "input": prompt, "voice": "alloy"}
        case "embeddings":
            return "embeddings", "/v1/embeddings", {"model": "embed", "input": [prompt, "water"]}
        case "messages":
            return "messages", "/v1/messages", {"model": model, "messages": messages, "max_tokens": most,
                                                "stream": stream}  # fmt: skip
        case "responses":
            body: dict[str, object] = {"model": model, "input": prompt, "stream": stream}
            if rng.random() < 0.3:  # it goes on at its provider, whoever dies here
                body |= {"model": "gpt-5.5", "background": True}
            return "responses", "/v1/responses", {**body, "max_output_tokens": most}
        case "gemini":
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
            return "gemini", f"/v1beta/models/{model}:{method}", {
                **body, "generationConfig": {"maxOutputTokens": most}}  # fmt: skip
        case _:
            body = {"model": model, "messages": messages, "stream": stream}
            return "chat", "/v1/chat/completions", body if rng.random() < 0.3 else {**body, "max_tokens": most}
