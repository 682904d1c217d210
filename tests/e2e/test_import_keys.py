"""LiteLLM's virtual keys at work here: the secret that a client has had all along, on a running gateway and without one."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from headgate.config.importers.litellm import import_keys
from support.served import ServedGateway

LISTED = Path(__file__).parents[1] / "data" / "litellm" / "keys.json"
SECRET = "sk-Zq3vD8hgMkdlU18G7U0E4L"


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "headgate.cli", *arguments, "--data-dir", str(folder / "data")],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def listed(folder: Path) -> Path:
    """LiteLLM's answer, its first key that of SECRET."""
    found: dict[str, Any] = json.loads(LISTED.read_text())
    found["keys"][0]["token"] = sha256(SECRET.encode()).hexdigest()
    file = folder / "keys.json"
    file.write_text(json.dumps(found))
    return file


def test_what_a_key_may_comes_over_and_the_rest_is_told() -> None:
    found = import_keys(LISTED.read_bytes(), wider=True)
    first, second = found.keys
    assert first["limits"] == {"requests_per_minute": 120, "tokens_per_minute": 200_000, "concurrent": 4}
    assert (first["budgets"], first["models"], first["tags"]) == (
        {"monthly": "50.0"},
        ["gpt-5.5", "claude-4.7"],
        ["web"],
    )
    assert (second["name"], second["expires"]) == ("sk-...9zzz", "2027-01-31T00:00:00Z")
    assert "models" not in second
    assert "budgets" not in second
    assert found.lost == [
        "checkout: what it has spent there ($1.25): budgets begin anew",
        "sk-...9zzz: aliases",
        "old: it is blocked there",
    ]
    assert found.wider == {
        "sk-...9zzz": "a budget of $3.0 for '12h': they are daily, weekly, monthly or total;"
        " what its team 't-1' may and spends"
    }
    for wrong in (b"{", b"[1]", b'{"keys": [{"name": "x"}]}', b'[{"token": 1}]'):
        with pytest.raises(ValueError, match=r"JSON|key/list"):
            import_keys(wrong)


@pytest.mark.parametrize(
    "broken",
    [{"metadata": "{}x"}, {"metadata": ["tags"]}, {"models": "gpt-4"}, {"models": 1}, {"metadata": {"tags": "abc"}},
     {"rpm_limit": []}, {"tpm_limit": "many"}, {"max_parallel_requests": [4]}],
    ids=str,
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_told_and_in_nobodys_way(broken: dict) -> None:
    rows = [{"token": "a" * 64, "key_alias": "odd", **broken}, {"token": "b" * 64, "key_alias": "fine"}]
    found = import_keys(json.dumps({"keys": rows}).encode())
    assert [key["name"] for key in found.keys] == ["fine"]
    assert [line.partition(":")[0] for line in found.lost] == ["odd"]


def test_a_key_that_would_be_wider_here_is_not_made_unasked(tmp_path: Path) -> None:
    strict = import_keys(LISTED.read_bytes())
    assert [key["name"] for key in strict.keys] == ["checkout"]
    for bound in ("permissions", "model_max_budget", "allowed_routes", "guardrails", "object_permission"):
        row = {"token": "0" * 64, "key_alias": "k", bound: {"some": "thing"}}
        assert import_keys(json.dumps([row]).encode()).keys == []
    for bound in ("guardrails", "model_rpm_limit", "model_tpm_limit", "enforced_params", "policies"):
        row = {"token": "0" * 64, "key_alias": "k", "metadata": {bound: {"some": "thing"}, "tags": ["web"]}}
        found = import_keys(json.dumps([row]).encode())
        assert (found.keys, found.wider) == ([], {"k": f"{bound} cannot be said here"})
    for elsewhere in ({"budget_id": "b-1"}, {"litellm_budget_table": {"max_budget": 1.0}}, {"organization_id": "o-1"}):
        assert import_keys(json.dumps([{"token": "0" * 64, **elsewhere}]).encode()).keys == []
    code, out, err = run(tmp_path, "import", "litellm-keys", str(listed(tmp_path)))
    assert (code, out.strip()) == (1, "1 keys made of 2"), err
    assert "sk-...9zzz: it would be wider here: a budget of $3.0 for '12h'" in err


@pytest.mark.timeout(120)
def test_a_client_goes_on_with_the_secret_that_it_has(tmp_path: Path) -> None:
    gateway = ServedGateway(tmp_path)
    try:
        code, out, err = run(tmp_path, "import", "litellm-keys", str(listed(tmp_path)), "--wider")
        assert (code, out.strip()) == (0, "2 keys made of 2"), err
        assert "wider than there: sk-...9zzz: a budget" in err
        assert "old: it is blocked there" in err
        status, headers, _ = gateway.chat(SECRET)
        assert (status, headers["x-ratelimit-limit-requests"]) == (200, "120")
        assert gateway.chat("sk-somebody-else")[0] == 401
        assert gateway.chat(SECRET, "reliable")[0] == 403
        (budget,) = gateway.ask_admin("/budgets")
        assert (budget["name"], budget["period"], float(budget["limit_usd"])) == ("checkout", "monthly", 50.0)
        code, out, err = run(tmp_path, "import", "litellm-keys", str(tmp_path / "keys.json"), "--wider")
        assert (code, out.strip()) == (1, "0 keys made of 2")
        assert "there is a key with this hash already" in err
        assert {row["action"] for row in gateway.ask_admin("/audit")} == {"key.adopt"}
        assert gateway.ask_admin("/keys", {"name": "x", "hash": SECRET})["error"]["code"] == "invalid_request"
        (made,) = [key for key in gateway.ask_admin("/keys") if key["name"] == "checkout"]
        assert made["hint"] == "sk-…Ab1C"
        fresh = gateway.ask_admin(f"/keys/{made['id']}/rotate", {})
        assert fresh["secret"].startswith("hg-")
        assert [gateway.chat(secret)[0] for secret in (SECRET, fresh["secret"])] == [200, 200]
    finally:
        gateway.close()


def test_keys_are_made_in_the_store_where_no_gateway_runs(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "import", "litellm-keys", str(listed(tmp_path)), "--wider", "--json")
    assert code == 0
    assert [key["name"] for key in json.loads(out)["made"]] == ["checkout", "sk-...9zzz"]
    assert "secret" not in json.loads(out)["made"][0]
    assert "checkout" in run(tmp_path, "keys", "list")[1]
