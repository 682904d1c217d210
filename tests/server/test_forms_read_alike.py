"""What we read of a form is what its provider reads: nobody is served another model, or more, than we checked and reserve
for. The provider's reading is the standard library's MIME parser's, by the content type that it was sent."""

from __future__ import annotations

import email
from collections.abc import Iterator

import pytest

from support.passthrough import Stage

CONFIG = """
providers:
  near: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: sk-near}
models:
  cheap: {provider: near, upstream: near-one, cost_per_1k: 1.0}
"""
EDITS = "/v1/images/edits"
PICTURE = b'--A\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
CHEAP = b'Content-Disposition: form-data; name="model"\r\n\r\ncheap\r\n'
DEAR = b'Content-Disposition: form-data; name="model"\r\n\r\ndear\r\n'


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    found = Stage(CONFIG)
    found.answer("/images/edits", {"created": 1, "data": [{"url": "http://x"}]})
    yield found
    found.close()


def read_by_provider(stage: Stage) -> dict[str, list[bytes]]:
    _, _, headers, body = stage.last()
    message = email.message_from_bytes(b"content-type: " + headers["content-type"].encode() + b"\r\n\r\n" + body)
    found: dict[str, list[bytes]] = {}
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        found.setdefault(str(name), []).append(part.get_payload(decode=True))
    return found


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=Z", 'multipart/form-data; boundary="Z"', "text/plain"])
def test_the_provider_is_told_the_boundary_that_we_read_by(stage, kind):
    inner = b"--Z\r\n" + DEAR + b"--Z--\r\n"
    body = b"--A\r\n" + CHEAP + PICTURE + b"\r\n" + inner + b"\r\n--A--\r\n"
    status, answer = stage.ask("POST", EDITS, body, kind)
    assert status == 200, answer
    assert read_by_provider(stage)["model"] == [b"near-one"]


def test_a_form_within_json_is_none(stage):
    stage.raw(EDITS, b'{"model": "cheap",\r\n"prompt": "x"}', "multipart/form-data; boundary=Z")
    assert stage.last()[2]["content-type"] == "application/json"


NAMED = b"--A\r\nContent-Disposition: form-data; "
WAYS = {
    "a parameter that looks like a name": NAMED + b'name="model"; x="; name="y"\r\n\r\ndear\r\n',
    "a name after the name": NAMED + b'name="model"; name="y"\r\n\r\ndear\r\n',
    "a name that is encoded": NAMED + b"name=\"y\"; name*=UTF-8''model\r\n\r\ndear\r\n",
    "a name with a backslash": NAMED + b'name="mo\\del"\r\n\r\ndear\r\n',
    "two dispositions": NAMED + b'name="y"\r\nContent-Disposition: form-data; name="model"\r\n\r\ndear\r\n',
    "a folded line": NAMED + b'name="y";\r\n name="model"\r\n\r\ndear\r\n',
    "half a line's end": NAMED + b'name="y"\r\nX: y\nContent-Disposition: form-data; name="model"\r\n\r\ndear\r\n',
    "a stream said twice": NAMED + b'name="stream"\r\n\r\ntrue\r\n' + NAMED + b'name="stream"\r\n\r\nfalse\r\n',
    "a stream said otherwise": NAMED + b'name="stream"\r\n\r\n1\r\n',
    "a number of many blanks": NAMED + b'name="n"\r\n\r\n' + b" " * 65_536 + b"9\r\n",
    "a forbidden file": NAMED + b'name="api_base"; filename="x"\r\n\r\nhttp://10.0.0.1\r\n',
    "a forbidden field of many blanks": NAMED + b'name="api_base"\r\n\r\n' + b" " * 65_536 + b"http://10.0.0.1\r\n",
}


@pytest.mark.parametrize("part", WAYS.values(), ids=WAYS)
def test_what_others_may_read_otherwise_is_refused(stage, part):
    before = len(stage.provider.seen)
    body = b"--A\r\n" + CHEAP + part + PICTURE + b"x\r\n--A--\r\n"
    status, answer = stage.ask("POST", EDITS, body, "multipart/form-data; boundary=A")
    assert (status, len(stage.provider.seen)) == (400, before), answer


def test_a_boundary_that_no_content_type_can_name_is_refused(stage):
    body = b'--A"; boundary=B\r\n' + CHEAP + b'--A"; boundary=B--\r\n'
    assert stage.ask("POST", EDITS, body, "multipart/form-data; boundary=A")[0] == 400


@pytest.mark.parametrize(
    "file",
    [
        b'form-data; name="image"; filename="say \\"so\\".png"',
        b'form-data; name="image"; filename="a.png"; filename*=UTF-8\'\'%e2%82%ac.png',
        b"form-data; filename=a.png; name=image",
        b'form-data;name="image";filename="a;b.png"',
    ],
)
def test_names_of_files_are_written_in_many_ways(stage, file):
    body = (
        b"--A\r\n"
        + CHEAP
        + b"--A\r\ncontent-disposition: "
        + file
        + b"\r\nContent-Type: image/png\r\n\r\nx\r\n--A--\r\n"
    )
    status, answer = stage.ask("POST", EDITS, body, "multipart/form-data; boundary=A")
    assert status == 200, answer
    assert read_by_provider(stage) == {"model": [b"near-one"], "image": [b"x"]}
