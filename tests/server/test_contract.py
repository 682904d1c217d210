"""The contract, frozen: schema, doors, verbs, headers and the `headgate` object. A change here is a change for users."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from headgate.cli.main import GROUPS
from headgate.config.schema import json_schema
from headgate.server.openapi import DATA_PLANE

DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_schema_and_openapi_are_the_codes_own():
    assert json.loads((DOCS / "headgate.schema.json").read_text()) == json.loads(json.dumps(json_schema()))
    assert json.loads((DOCS / "openapi.json").read_text()) == json.loads(json.dumps(DATA_PLANE))


def test_the_verbs():
    built = (
        "chat check config connect demo drill experiments explain import init insight keys logs models replay serve"
        " traces train usage"
    )
    assert sorted(GROUPS) == built.split()


def test_every_answer_says_what_was_chosen(stage):
    body = json.dumps(
        {"model": "reliable", "messages": [{"role": "user", "content": "hi"}], "headgate": {"details": True}}
    )
    request = urllib.request.Request(f"{stage.url}/v1/chat/completions", data=body.encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        headers, found = {k.lower() for k in answer.headers}, json.loads(answer.read())
    assert {
        "x-request-id",
        "x-headgate-model",
        "x-headgate-provider",
        "x-headgate-strategy",
        "x-headgate-attempts",
        "x-headgate-cost-usd",
        "x-headgate-overhead-ms",
        "x-headgate-trace",
    } <= headers
    details = found["headgate"]
    assert {"requested", "strategy", "trace", "cost_usd", "overhead_ms", "chosen", "attempts"} == set(details)
    assert {"model", "provider", "deployment", "because"} == set(details["chosen"])
    attempt = details["attempts"][0]
    assert {"model", "deployment", "outcome", "error", "ttft_ms", "latency_ms", "cost_usd"} <= set(attempt)


PARTS = {
    # model → what the object has beside what all have, and what each part says of itself
    "gpt-5.5": {},
    "auto": {"task": {"label", "confidence", "labels", "signals"}},
    "careful": {"ensemble": {"mode", "winner", "scores", "members"}},  # `agreement`: of short answers
    "agent": {"agent": {"run", "plan", "steps", "final_answer"}},
}


@pytest.mark.parametrize("model", PARTS)
def test_the_object_has_the_parts_that_apply_and_no_others(stage, model):
    asked = [{"role": "user", "content": "Write a Python function that reverses a list."}]
    body = json.dumps({"model": model, "messages": asked, "headgate": {"details": True}})
    request = urllib.request.Request(f"{stage.url}/v1/chat/completions", data=body.encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        details = json.loads(answer.read())["headgate"]
    assert details["requested"] == model
    assert {"task", "ensemble", "agent"} & details.keys() == PARTS[model].keys()
    for part, says in PARTS[model].items():
        assert says <= details[part].keys(), part
    for other in details.get("alternatives", []):
        assert other["model"]
        assert other["because"]
    if model == "agent":
        assert all({"id", "status", "checks"} <= step.keys() for step in details["agent"]["steps"])
    if model == "careful":
        assert details["ensemble"]["winner"] in details["ensemble"]["scores"]
    spent = sum(Decimal(attempt["cost_usd"]) for attempt in details["attempts"])
    assert abs(spent - Decimal(details["cost_usd"])) <= Decimal("0.000001") * len(details["attempts"])


@pytest.mark.parametrize("mode", GenerationMode)
def test_any_request_gets_an_answer_and_never_a_500_whether_the_openapi_allows_it_or_not(stage, mode):
    schema = schemathesis.openapi.from_dict(DATA_PLANE)
    seen = dict[int, int]()
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            answer = case.call(base_url=stage.url)
            seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
            assert answer.status_code < 500 or answer.status_code in (501, 503), (case, answer.text)
            assert "Traceback" not in answer.text
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"], (case, answer.text)

        with contextlib.suppress(Unsatisfiable):  # what takes anything has no request that it does not allow
            check()
    assert sum(seen.values()) > 50
    assert {200, 404} <= seen.keys() if mode is GenerationMode.POSITIVE else seen[400] > 20
