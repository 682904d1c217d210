"""Bad inputs 43 and 44: a schema is a stranger's, and so is the value."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from headgate.core.fits import misfit

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"name": "A", "age": 3}, None),
        ({"name": "A", "age": -1}, "$.age"),
        ({"name": "A", "more": 1}, "more"),
        ({}, "name"),
        ("A", "object"),
    ],
)
def test_where_a_value_breaks_its_schema(value: Any, problem: str | None) -> None:
    found = misfit(PERSON, value)
    assert (found is None) if problem is None else (found is not None and problem in found)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^(a+)+$"},
        {"patternProperties": {"^(a+)+$": {"type": "string"}}, "additionalProperties": False},
        {"patternProperties": {"^(a+)+$": {"type": "string"}}, "unevaluatedProperties": False},
    ],
)
def test_patterns_are_not_run(schema: dict[str, Any]) -> None:
    """This one takes some 2^40 steps."""
    slow = "a" * 40 + "!"
    assert misfit(schema, slow) is None
    assert misfit(schema, {slow: 1}) is None


@pytest.mark.timeout(60)
def test_a_schema_without_end_or_of_exponential_size_is_given_up() -> None:
    assert misfit({"$ref": "#"}, 1) is None
    doubled = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
    assert misfit({"$ref": "#/$defs/d0", "$defs": {**doubled, "d60": {}}}, 1) is None
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(5000):
        deep = {"allOf": [deep]}
    assert misfit(deep, 1) is None


@pytest.mark.parametrize("schema", [{"type": "nothing"}, {"properties": 7}, {"required": "name"}, {"minimum": "x"}])
def test_a_schema_that_is_none_rejects_nothing(schema: dict[str, Any]) -> None:
    assert misfit(schema, {"name": 1}) is None


def test_references_to_other_documents_are_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        where = f"http://127.0.0.1:{listener.getsockname()[1]}/schema"
        assert misfit({"$ref": where}, 1) is None
        assert misfit({"$schema": where, "type": "string"}, 1) is not None
        with pytest.raises(TimeoutError):
            listener.accept()
    assert misfit({"$ref": "file:///etc/passwd"}, 1) is None


def test_the_drafts_themselves_are_known() -> None:
    draft = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert misfit(draft, {"type": "string"}) is None
    assert misfit(draft, {"type": 7}) is not None


@pytest.mark.parametrize(
    ("schema", "few", "many"),
    [
        ({"uniqueItems": True}, [{"a": 1}] * 2, [*({"a": n} for n in range(1200)), {"a": 0}]),
        ({"items": {"enum": [{"a": n} for n in range(4000)]}}, [{"b": 0}], [*({"a": n} for n in range(120)), {"b": 0}]),
        ({"items": {"required": [f"k{n}" for n in range(4000)]}}, [{}], [*([1] * 120), {}]),
    ],
    ids=["unique", "enum", "required"],
)
def test_what_is_compared_counts_as_work(schema: dict[str, Any], few: Any, many: Any) -> None:
    """Every object with every other one: 3000 of them took 17 s before, in which nobody else was served."""
    assert misfit(schema, few) is not None
    assert misfit(schema, many) is None
    assert misfit({"uniqueItems": True}, [*range(5000), 0]) is not None, "numbers are sorted"
