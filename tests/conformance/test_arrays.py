"""Gemini's streams in their two forms: server-sent events, and one JSON array where a client asks without `alt=sse`.

Either form may come from a provider and either may be asked for here. Arrays were recorded too (all of them are replayed in
every run): whatever the door, they must say what was recorded.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from conformance.clients import Doors
from conformance.corpus import chosen
from conformance.extract import FORMATS, Said, format_of, frames, said
from conformance.test_corpus import differences
from conformance.test_own_door import post, set_aside
from headgate.core.dialect import Quirks
from headgate.core.events import ChatAnswer, collect
from headgate.dialects.gemini import DIALECT
from support.corpus import rows

ARRAYS = [row for row in rows() if row["response"]["kind"] == "json_array"]


@pytest.fixture
def replayed(stage):
    """A row → the model name that its recording answers to."""
    keys: list[str] = []

    def register(row: dict[str, Any]) -> str:
        keys.append(row["id"])
        return f"google/{stage.sim.replay.register(row, packets='random').model}"

    yield register
    for key in keys:
        stage.sim.replay.forget(key)


def recorded(row: dict[str, Any]) -> Said:
    found = said("gemini", row["response"]["kind"], row["response"]["body"])
    assert found is not None
    return found


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row["request"]["body"].items() if name != "model"}


def read(body: bytes) -> ChatAnswer:
    splitter, parser = DIALECT.splitter(), DIALECT.event_parser(Quirks())
    events = [event for frame in splitter.feed(body) for event in parser.feed(frame)]
    assert not splitter.close()
    return collect(events + parser.close())


def test_there_are_arrays():
    assert len(ARRAYS) == 15
    assert {format_of(row["api"]) for row in ARRAYS} == {"gemini"}


@pytest.mark.parametrize("row", ARRAYS, ids=lambda row: row["id"])
def test_a_recorded_array_arrives_in_either_form(stage, replayed, row):
    model, chunks = replayed(row), json.loads(row["response"]["body"])
    status, events = post(stage.url, f"/v1beta/models/{model}:streamGenerateContent?alt=sse", asked(row))
    assert (status, frames(events.decode())) == (200, chunks)
    status, array = post(stage.url, f"/v1beta/models/{model}:streamGenerateContent", asked(row))
    assert status == 200
    assert said("gemini", "json_array", array.decode()) == recorded(row)
    assert read(array) == read(row["response"]["body"].encode())  # signatures and all else that the format can say


@pytest.mark.parametrize("door", FORMATS)
def test_a_recorded_array_is_understood_by_the_sdk_of_every_door(stage, replayed, door):
    doors, wrong = Doors(stage.url), list[str]()
    for row in ARRAYS:
        want, got = recorded(row), doors.ask(door, replayed(row), stream=True)
        wrong += [f"{row['id']}: {what}" for what in differences(want, got)]
        if (want.finish, want.thinking, want.cached) != (got.finish, got.thinking, got.cached):
            wrong.append(f"{row['id']}: {got} instead of {want}")
    assert not wrong, "\n".join(wrong)


def test_recorded_events_arrive_as_an_array(stage, replayed):
    streams = [row for row in chosen("gemini") if row["response"]["kind"] == "sse" and not set_aside("gemini", row)]
    assert streams
    for row in streams:
        status, array = post(stage.url, f"/v1beta/models/{replayed(row)}:streamGenerateContent", asked(row))
        assert status == 200
        assert said("gemini", "json_array", array.decode()) == recorded(row), row["id"]
