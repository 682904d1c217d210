"""`headgate train --collect`: the ledger's kept prompts become a file to be labelled, and that file what a classifier is
fitted to. `headgate serve` on SQLite with `store.bodies`, over simulated models."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.gateway import ENV
from support.served import ServedGateway

ROUTE = """
  auto:
    route: {otherwise: reliable, tasks: {math: claude-4.7, code: gpt-5.5}}
"""
KEPT = "store: {bodies: true}\n"
WORDS = "Wrangle the frobnitz of ann@example.com, number"


def train(gateway: ServedGateway, *arguments: str) -> tuple[int, str]:
    import os

    options = ["--config", str(gateway.file), "--data-dir", str(gateway.data)]
    command = [sys.executable, "-m", "headgate.cli", "train", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env={**os.environ, **ENV}, check=False)
    return done.returncode, done.stdout + done.stderr


def send(gateway: ServedGateway, path: str, body: dict[str, Any]) -> None:
    asked = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=30) as answer:
        answer.read()


def said(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": prompt}], "max_tokens": 20, **more}


@pytest.mark.timeout(180)
def test_kept_prompts_are_collected_labelled_by_a_person_and_fitted_to(tmp_path: Path) -> None:
    gateway = ServedGateway(tmp_path, ROUTE + KEPT)
    try:
        for number in range(44):
            send(gateway, "/v1/chat/completions", said(f"{WORDS} {number}"))
        send(gateway, "/v1/messages", said("Prove that 7 is a prime number."))
        send(gateway, "/v1/responses", {"model": "auto", "input": "Translate 'good morning' into French."})
        gemini = {"contents": [{"role": "user", "parts": [{"text": "Write a poem about the sea."}]}]}
        send(gateway, "/v1beta/models/auto:generateContent", gemini)
        send(gateway, "/v1/chat/completions", said(f"{WORDS} 0"))  # once more: not collected twice
        send(gateway, "/v1/chat/completions", said("Not routed.", model="claude-4.7"))
        until = time.monotonic() + 30
        while len(gateway.ask_admin("/requests?limit=100&requested=auto")) < 48:
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(1)  # what the store is behind the memory
        file = tmp_path / "prompts.jsonl"
        code, out = train(gateway, "--collect", str(file))
        assert code == 0, out
        assert "47 prompts of 48 routed requests (48 kept)" in out
        assert file.stat().st_mode & 0o077 == 0
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        prompts = {row["prompt"]: row for row in rows}
        assert {row["label"] for row in rows} == {None}
        assert prompts["Prove that 7 is a prime number."]["guess"] == "math"
        assert {"Translate 'good morning' into French.", "Write a poem about the sea."} <= set(prompts)
        assert "ann@example.com" not in file.read_text(), "as redacted as the store is"
        unsure = [row["guess"] != "unknown" for row in rows]
        assert unsure == sorted(unsure), "what nobody could name comes first"
        assert "is there already" in train(gateway, "--collect", str(file))[1]

        code, out = train(gateway, "--labels", str(file))
        assert (code, "47 more have no label yet" in out) == (2, True), out
        for row in rows:  # the person
            row["label"] = "extraction" if "frobnitz" in row["prompt"] else row["guess"].replace("unknown", "chat")
            row["source"] = f"desk {len(row['prompt']) % 4}"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, out = train(gateway, "--labels", str(file), "--json")
        found = json.loads(out)
        assert found["rows"] == 47
        assert found["after"] > found["before"] + 0.5, "their word for it is learned"
    finally:
        gateway.close()


@pytest.mark.timeout(90)
def test_without_kept_bodies_it_says_how_to_keep_them(tmp_path: Path) -> None:
    gateway = ServedGateway(tmp_path, ROUTE)
    try:
        send(gateway, "/v1/chat/completions", said("Prove that 7 is a prime number."))
        until = time.monotonic() + 30
        while "of 1 routed" not in (found := train(gateway, "--collect", str(tmp_path / "p.jsonl")))[1]:
            assert time.monotonic() < until, found
        assert (found[0], "store: {bodies: true}" in found[1]) == (1, True)
        assert not (tmp_path / "p.jsonl").exists()
    finally:
        gateway.close()
