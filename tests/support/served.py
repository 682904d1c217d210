"""`headgate serve` as a process of its own, over simulated models; `again` starts it anew on the same data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headgate.simulator.app import Simulator
from support.gateway import ENV, Loop
from support.sim import INSTANT

FILE = """
providers:
  anthropic: {{base_url: "{anthropic}"}}
  openai: {{base_url: "{openai}"}}
models:
  claude-4.7: {{provider: anthropic, upstream: claude-opus-4-7, cost_per_1k: 0.015}}
  gpt-5.5: {{provider: openai, upstream: gpt-5.5, cost_per_1k: 0.020}}
  reliable: {{fallback: [claude-4.7, gpt-5.5]}}
"""


class Served:
    """One `headgate serve` on a configuration and a data directory; `arguments` are further ones of the command. `program`
    stands in the place of `python -m headgate.cli`."""

    def __init__(
        self,
        file: Path,
        data: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "headgate.cli"),
    ) -> None:
        self._program = program
        self.file = file
        self.data = data
        self._arguments = arguments
        self._env = {**os.environ, **ENV, **(env or {})}
        self.printed = ""
        self._start()

    def _start(self) -> None:
        command = [*self._program, "serve", "--config", str(self.file), "--port", "0"]
        log = self.data.with_suffix(".log")
        with open(log, "ab") as stderr:
            self.process = subprocess.Popen(
                [*command, "--admin-port", "0", "--data-dir", str(self.data), *self._arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=self._env,
            )
        self.said: list[str] = []
        while not self.said or not self.said[-1].startswith("ready "):
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, log.read_text()[-3000:]
            self.said.append(line.strip())
        self.url = self.said[-1].removeprefix("ready ").replace("0.0.0.0", "127.0.0.1")
        self.admin = next(line.split()[1] for line in self.said if line.startswith("console "))
        self.token = (self.data / "admin.token").read_text().strip()

    def log(self) -> str:
        """What it has written to stderr, over all its lives."""
        return self.data.with_suffix(".log").read_text()

    def stop(self) -> None:
        """SIGTERM, and its end."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=40)
        self.printed += "\n".join(self.said) + out + self.log()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)

    def again(self) -> None:
        self._start()

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop()

    def chat(self, key: str | None, model: str = "claude-4.7", **more: Any) -> tuple[int, dict[str, str], Any]:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, **more}
        return self._send(f"{self.url}/v1/chat/completions", body, {} if key is None else {"x-api-key": key})

    def ask_admin(self, path: str, body: Any = None) -> Any:
        return self._send(f"{self.admin}/admin/v1{path}", body, {"authorization": f"Bearer {self.token}"})[2]

    @staticmethod
    def _send(url: str, body: Any, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=20) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, json.loads(error.read())


class ServedGateway(Served):
    """With a simulator of its own."""

    def __init__(self, folder: Path, more: str = "", *, host: str = "127.0.0.1", **options: Any) -> None:
        self.loop = Loop()
        self.sim = Simulator(INSTANT)
        urls = self.loop.run(self.sim.start(0))
        file = folder / "headgate.yaml"
        file.write_text(FILE.format(**urls) + more)
        super().__init__(file, folder / "data", "--host", host, **options)

    def close(self) -> None:
        super().close()
        self.loop.run(self.sim.aclose())
        self.loop.close()
