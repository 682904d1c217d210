"""Every recorded error of a provider, at every door: its own door's and the others' official SDKs raise what they raise for
such an error of their own provider, with the provider's own words in it.

A provider's refusal of the request is the client's; what its operator has to mend (a key that is refused) never looks like
the client's own, and a model's broken answer is the provider's fault. No error that is about the request is tried again."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as google_errors

from conformance.clients import Doors
from conformance.corpus import provider_of
from conformance.extract import FORMATS, format_of
from support.corpus import rows

ERRORS = [row for row in rows() if row["response"]["status"] != 200 and format_of(row["api"]) is not None]


def expected(row: dict[str, Any]) -> int:
    """The status that a client sees."""
    status, body = row["response"]["status"], row["response"]["body"]
    if status == 401 or "API key not valid" in body:
        return 502
    if "tool_use_failed" in body:
        return 502
    return 404 if '"model_not_found"' in body else status


def said(row: dict[str, Any]) -> str:
    error = json.loads(row["response"]["body"])["error"]
    return error["metadata"]["raw"] if "raw" in error.get("metadata", {}) else error["message"]


def test_the_recordings_are_these():
    assert len(ERRORS) == 54


@pytest.mark.parametrize("door", FORMATS)
def test_a_recorded_error_is_one_of_the_doors_own(stage, door):
    doors, wrong = Doors(stage.url), list[str]()
    for row in ERRORS:
        recording = stage.sim.replay.register(row, key=f"{row['id']}-{door}")  # a model that no other door has asked
        model = f"{provider_of(format_of(row['api']) or '', row, door)}/{recording.model}"
        status, message = raised(doors, door, model)
        calls = len(recording.received)
        stage.sim.replay.forget(recording.key)
        if status != expected(row) or said(row)[:150] not in message:
            wrong.append(f"{row['id']}: {status} instead of {expected(row)}, {message[:200]!r}")
        if calls != 1 and (calls == 0 or status in (400, 404)):
            wrong.append(f"{row['id']}: {calls} calls")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:12])


KINDS = {
    # what each SDK calls an error of this status: OpenAI's and Anthropic's alike, Google's
    400: ("BadRequestError", "ClientError"),
    404: ("NotFoundError", "ClientError"),
    429: ("RateLimitError", "ClientError"),
    502: ("InternalServerError", "ServerError"),
}


def raised(doors: Doors, door: str, model: str) -> tuple[int, str]:
    """(status, message) of what the door's SDK raises, by the name that it has for such errors."""
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError, google_errors.APIError)) as found:
        doors.ask(door, model, stream=False)
    error: Any = found.value
    if door == "gemini":
        status, message = error.code, error.message
    else:
        status, message = error.status_code, (error.body.get("error") or error.body)["message"]
    assert type(error).__name__ == KINDS[status][door == "gemini"]
    return status, message
