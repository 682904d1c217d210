"""The tree of errors is closed, and each of its kinds has words in every door's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

import headgate
from conformance.extract import FORMATS
from headgate.core import errors
from headgate.core.errors import AllModelsUnavailable, FaultKind, HeadgateError, UpstreamFault, fault, http_status
from headgate.providers.registry import dialect_of

MESSAGE = "what a client may read"


def below(kind: type[HeadgateError]) -> Iterator[type[HeadgateError]]:
    for one in kind.__subclasses__():
        yield one
        yield from below(one)


OURS = [kind for kind in below(HeadgateError) if kind.__module__ == errors.__name__]
PLAIN = [kind for kind in OURS if not issubclass(kind, UpstreamFault)]
EVERY = {
    **{kind.__name__: kind(MESSAGE) for kind in PLAIN},
    "all were rate limits": AllModelsUnavailable(MESSAGE, code="rate_limit_exceeded"),
    **{kind: fault(kind, MESSAGE) for kind in get_args(FaultKind)},
}


def test_the_tree_is_the_one_that_its_module_shows():
    shown = errors.__doc__ or ""
    assert headgate.HeadgateError is HeadgateError
    assert {kind.__name__ for kind in OURS if kind.__name__ not in shown} == set()
    assert {kind for kind in get_args(FaultKind) if kind not in shown} == set()


@pytest.mark.parametrize("name", EVERY)
def test_whose_fault_it_is_and_its_status_agree(name):
    error = EVERY[name]
    status = http_status(error)
    if isinstance(error, UpstreamFault):
        # what a provider says of our key is no word about the client's own
        assert status in (400, 402, 404, 429, 502, 503, 504)
        clients = ("budget", "bad_request", "context_length", "content_policy", "not_found")
        assert (status in (400, 402, 404)) == (error.kind in clients)
    else:
        assert (status < 500) == (error.blame == "client" or name == "all were rate limits")
    assert 400 <= status < 600


@pytest.mark.parametrize("fmt", [*FORMATS, "openai_embeddings"])
@pytest.mark.parametrize("name", EVERY)
def test_every_error_has_words_at_every_door(fmt, name):
    error, status = EVERY[name], http_status(EVERY[name])
    body: dict[str, Any] = json.loads(dialect_of(fmt).render_error(error, "req_7"))
    told = body["error"]
    assert told["message"] == MESSAGE
    if fmt == "anthropic_messages":
        assert (body["type"], body["request_id"]) == ("error", "req_7")
        assert told.keys() == {"type", "message"}
        assert told["type"].endswith("_error") or told["type"] == "request_too_large"
    elif fmt == "gemini":
        assert told["code"] == status
        assert told["status"].isupper()
        assert (told["status"] == "INTERNAL") <= (status >= 500)
    else:
        assert told.keys() == {"message", "type", "param", "code"}
        assert told["type"]
        assert told["code"]
    assert "Traceback" not in json.dumps(body)
