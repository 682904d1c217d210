import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest, UpstreamBroken
from headgate.dialects import jsonio

BAD = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "list": b"[]",
    "string": b'"x"',
    "number": b"1",
    "truncated": b'{"model":"m","messages":[{"role":"user"',
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nan": b'{"temperature":NaN}',
    "infinity": b'{"temperature":-Infinity}',
    "too large a float": b'{"temperature":1e999}',
    "too long an integer": b'{"n":' + b"9" * 5_000 + b"}",
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "invalid utf-8": b'{"a":"\xff"}',
    "overlong utf-8": b'{"a":"\xc0\xaf"}',
    "lone high surrogate": rb'{"a":"\ud800"}',
    "lone low surrogate": rb'{"a":"x\uDC00y"}',
    "swapped surrogates": rb'{"a":"\udc00\ud800"}',
    "surrogate after a backslash": rb'{"a":"\\\ud800"}',
    "trailing words": b'{"a":1} x',
    "control character": b'{"a":"\x01"}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_invalid_requests(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        jsonio.decode(body)
    assert caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("name", sorted(jsonio.FORBIDDEN))
def test_fields_that_would_set_urls_keys_or_headers_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        jsonio.decode(json.dumps({"model": "m", name: "x"}).encode())
    assert caught.value.param == name


def test_what_looks_bad_but_is_not() -> None:
    assert jsonio.decode(rb'{"a":"\\ud800","b":"\ud83d\ude00","c":"\u0000"}') == {"a": r"\ud800", "b": "😀", "c": "\0"}
    assert jsonio.decode(b'{"a":1,"a":2}') == {"a": 2}
    assert jsonio.decode(b'\n{"a":"caf\xc3\xa9"}\n') == {"a": "café"}


def test_providers_are_read_with_care() -> None:
    assert jsonio.decode_upstream(b'\n  \n\n{"a":1}') == {"a": 1}
    assert jsonio.decode_upstream(b'{"a":NaN,"b":-Infinity,"c":1e999,"d":1.5}') == {
        "a": None,
        "b": None,
        "c": None,
        "d": 1.5,
    }
    assert jsonio.decode_upstream(rb'{"a":"x\ud83d","b":"\ud83d\ude00","c":"\\ud83d"}') == {
        "a": "x\ufffd",
        "b": "😀",
        "c": r"\ud83d",
    }
    for body in (b"<html>502</html>", b"", b'{"a":', b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(UpstreamBroken) as caught:
            jsonio.decode_upstream(body)
        assert caught.value.kind == "invalid_answer"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5), JSON, st.sampled_from([None, 2]))
def test_a_field_is_attached_and_nothing_else_changes(fields: dict[str, Any], value: Any, indent: int | None) -> None:
    body = json.dumps(fields, indent=indent).encode()
    out = jsonio.attach_field(body, "headgate", jsonio.encode(value))
    assert json.loads(out) == {**fields, "headgate": value}
    assert out.startswith(body.rstrip()[:-1].rstrip())


def test_nothing_is_attached_to_what_is_no_object() -> None:
    assert jsonio.attach_field(b"[1]", "headgate", b"{}") == b"[1]"


@given(st.text(min_size=1), st.text(), st.dictionaries(st.sampled_from(["a", "text", "z"]), JSON, max_size=3))
def test_a_splice_changes_the_model_only(old: str, new: str, rest: dict[str, Any]) -> None:
    body = json.dumps({"a0": 1, "model": old, **rest}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    out = jsonio.splice_string(body, "model", old, new)
    if out is not None:
        assert json.loads(out) == {"a0": 1, **rest, "model": new}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"model":"a","tools":[{"model":"x"}]}', "twice"),
        (b'{"model":"a","model":"b"}', "duplicate key"),
        (rb'{"\u006dodel":"b","x":{"model":"a"}}', "an escape may spell the key"),
        (rb'{"m\u006fdel":"b","x":["model","a"]}', "an escape may spell the key"),
        (rb'{"model":"\u0061"}', "the value is escaped"),
        (b'{"x":"model","y":1}', "not a key"),
        (b"{}", "absent"),
    ],
)
def test_no_splice_where_bytes_cannot_tell(body: bytes, why: str) -> None:
    assert jsonio.splice_string(body, "model", "a", "new") is None, why


def test_a_splice_keeps_every_other_byte() -> None:
    body = b'{ "messages" : [ ] ,\n "model"\t: "gpt-5" , "x":"\\u00e9" }'
    assert jsonio.splice_string(body, "model", "gpt-5", 'a"b') == body.replace(b'"gpt-5"', rb'"a\"b"')


@given(
    fill=st.sampled_from([b"x", b"a word ", rb"\"x\"", b'":"']),
    around=st.sampled_from([0, jsonio.LONG, 3 * jsonio.LONG]),
    key=st.sampled_from([b'"model"', rb"\"model\"", b'"mode"', b"model"]),
    at=st.integers(0, 40_000),
)
def test_a_key_is_found_in_a_long_body_as_in_a_short_one(fill: bytes, around: int, key: bytes, at: int):
    text = fill * (around // len(fill))
    body = text[:at] + key + text[at:]
    assert jsonio.holds(body, "model") is (b'"model"' in body)
    assert jsonio.holds(body, "model", len(body) // 2) is (b'"model"' in body[len(body) // 2 :])


def test_a_second_model_behind_a_long_text_is_not_overlooked():
    for text in (b"x" * 50_000, b'","' * 20_000):
        body = b'{"model":"a","messages":["%b"],"model":"b"}' % text
        assert jsonio.splice_string(body, "model", "a", "new") is None
        assert jsonio.splice_string(body.replace(b',"model":"b"', b""), "model", "a", "new") is not None
