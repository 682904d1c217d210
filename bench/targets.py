"""Who is measured: ours, and peers where their programs are installed (`bench/peers.sh` installs what registries have)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from harness import HERE, MOCK_PORT, TOOLS, Server

UPSTREAM = f"http://127.0.0.1:{MOCK_PORT}"
MODELS = {
    "fast": "mock-d0-n200-g0",
    "burst": "mock-d0-n200-g0",
    "paced": "mock-d0-n200-g5000",
    "slow": "mock-d0-n40-g50000",
}
"""For proxies that cannot rewrite a model's name."""
CONFIG = f"""
providers:
  mock: {{kind: openai-compatible, base_url: "{UPSTREAM}/v1"}}
  other: {{kind: anthropic, base_url: "{UPSTREAM}", api_key: sk-mock}}
  down: {{kind: openai-compatible, base_url: "http://127.0.0.1:9/v1"}}
models:
  fast: {{provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.001}}
  burst: {{provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.001}}
  paced: {{provider: mock, upstream: mock-d0-n200-g5000, cost_per_1k: 0.001}}
  slow: {{provider: mock, upstream: mock-d0-n40-g50000, cost_per_1k: 0.001}}
  second: {{provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.002}}
  third: {{provider: mock, upstream: mock-d0-n200-g0, cost_per_1k: 0.003}}
  cross: {{provider: other, upstream: mock-d0-n200-g0, cost_per_1k: 0.001, features: [tools]}}
  cross-paced: {{provider: other, upstream: mock-d0-n200-g5000, cost_per_1k: 0.001, features: [tools]}}
  dead: {{provider: down, upstream: nothing, cost_per_1k: 0.001}}
  chain: {{fallback: [dead, fast]}}
  auto: {{route: {{tasks: {{code: {{model: second}}}}, otherwise: fast}}}}
  panel: {{ensemble: {{mode: vote, members: {{fast: 0.4, second: 0.3, third: 0.3}}}}}}
"""
FEATURES = (
    "a virtual key with a rate limit and a hard budget, the ledger (durability: crash, SQLite), metrics, traces and the"
    " request log"
)
"""What is switched on in ours while it is measured; printed with the figures."""


def ours(folder: Path, port: int, frontend: str) -> list[str]:
    file = folder / f"bench-{frontend}.yaml"
    file.write_text(f"{CONFIG}server: {{frontend: {frontend}}}\n")
    return [
        sys.executable, "-m", "headgate.cli", "serve", "--config", str(file), "--port", str(port), "--admin-port", "0",
        "--data-dir", str(folder / frontend),
    ]  # fmt: skip


def key_for(command: list[str]) -> str:
    """A key of the gateway that `command` will start, with limits and a budget that are checked and never reached."""
    place = [*command[command.index("--config") :][:2], "--data-dir", command[-1]]
    make = [
        *command[:3], "keys", "create", "bench", "--rpm", "100000000", "--tpm", "100000000000", "--monthly", "1000000",
        *place, "--json",
    ]  # fmt: skip
    return str(json.loads(subprocess.run(make, capture_output=True, text=True, check=True).stdout)["secret"])


def _ours(name: str, folder: Path, port: int, frontend: str) -> Server:
    command = ours(folder, port, frontend)
    return Server(name, port, command, key=key_for(command))


def _headgate(folder: Path) -> Server:
    return _ours("headgate", folder, 8100, "own")


def _uvicorn(folder: Path) -> Server:
    return _ours("headgate on uvicorn", folder, 8102, "uvicorn")


def _nginx(folder: Path) -> Server | None:
    if not shutil.which("nginx"):
        return None
    command = ["nginx", "-p", str(folder), "-c", str(HERE / "nginx.conf"), "-g", f"pid {folder}/nginx.pid;"]
    return Server("nginx", 8101, command, models=MODELS)


def _haproxy(folder: Path) -> Server | None:
    if not shutil.which("haproxy"):
        return None
    return Server("haproxy", 8103, ["haproxy", "-q", "-f", str(HERE / "haproxy.cfg")], models=MODELS)


def _caddy(folder: Path) -> Server | None:
    if not shutil.which("caddy"):
        return None
    command = ["caddy", "run", "--config", str(HERE / "Caddyfile"), "--adapter", "caddyfile"]
    return Server("caddy", 8104, command, models=MODELS, env={"GOMAXPROCS": "1", "HOME": str(folder)})


_SLOW = frozenset({"small", "latency", "paced", "first byte", "abandoned"})


def _litellm(folder: Path) -> Server | None:
    program = TOOLS / "litellm" / "bin" / "litellm"
    if not program.exists():
        return None
    command = [str(program), "--config", str(HERE / "litellm.yaml"), "--host", "127.0.0.1", "--port", "8105"]
    env = {
        "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "DISABLE_ADMIN_UI": "True", "PATH": f"{program.parent}:{os.environ['PATH']}",
    }  # fmt: skip
    return Server("litellm", 8105, [*command, "--num_workers", "1", "--telemetry", "False"], env=env, only=_SLOW)


def _portkey(folder: Path) -> Server | None:
    start = TOOLS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    node = shutil.which("node") or next(iter(map(str, TOOLS.glob("node*/bin/node"))), None)
    if not start.exists() or node is None:
        return None
    command = [node, "--import", str(HERE / "portkey-shim.mjs"), str(start), "--port=8106", "--headless"]
    headers = ["x-portkey-provider: openai", f"x-portkey-custom-host: {UPSTREAM}/v1"]
    return Server("portkey", 8106, command, models=MODELS, headers=headers, only=_SLOW)


def _sglang(folder: Path) -> Server | None:
    python = TOOLS / "sglang" / "bin" / "python"
    if not python.exists():
        return None
    command = [
        str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", "8107", "--worker-urls",
        UPSTREAM, "--policy", "round_robin", "--log-level", "error", "--prometheus-port", "29011",
    ]  # fmt: skip
    return Server("sglang-router", 8107, command, models=MODELS)


TARGETS: dict[str, Callable[[Path], Server | None]] = {
    "headgate": _headgate,
    "uvicorn": _uvicorn,
    "nginx": _nginx,
    "haproxy": _haproxy,
    "caddy": _caddy,
    "sglang-router": _sglang,
    "portkey": _portkey,
    "litellm": _litellm,
}
