"""What kept bodies may not hold, and what must stay."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.telemetry.redaction import redacted

MOST = 64_000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("use sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12 now", "use [key] now"),
        ("hg-fkaans6b9xj8pd3w1bycz1294ec7yyys", "[key]"),
        ("AWS AKIAIOSFODNN7EXAMPLE!", "AWS [key]!"),
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[key]"),
        ("google AIzaSyA-1234567890abcdefghijklmnopqrstu", "google [key]"),
        ("xoxb-123456789012-abcdefGHIJKL", "[key]"),
        ("authorization: Bearer abc.DEF-123456789", "authorization: Bearer [credential]"),
        ("postgresql://ann:hunter22@db.example.com:5432/app", "postgresql://ann:[credential]@db.example.com:5432/app"),
        ('{"password": "correct horse"}', None),
        ('"{\\"api_key\\": \\"abcd1234\\"}"', None),
        ("password=hunter22, next", "[password], next"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0x.SflKxwRJSMeKKF2QT4", "[token]"),
        ("mail ann.lee+x@mail.example.co.uk.", "mail [e-mail]."),
        ("card 4111 1111 1111 1111 ok", "card [card] ok"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN [account]"),
        ("ssn 078-05-1120", "ssn [social security number]"),
        ("call +49 30 901820 22", "call [telephone]"),
        ("call (030) 9018-2022", "call [telephone]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest", "[private key]\nrest"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut", "[private key]"),
        ("data:image/png;base64," + "iVBORw0KGgo" * 60, "data:image/png;base64,[660 characters of data]"),
    ],
)
def test_what_must_go(text: str, found: str | None) -> None:
    shown = redacted(text, MOST)
    if found is None:
        assert "[password]" in shown
        assert "correct" not in shown
        assert "abcd1234" not in shown
    else:
        assert shown == found


SECRETS = {
    "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12": "[key]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0x.SflKxwRJSMeKKF2QT4": "[token]",
    "Bearer abc.DEF-123456789": "Bearer [credential]",
    "ann@mail.example.com": "[e-mail]",
    "+49 30 901820 22": "[telephone]",
    "DE89 3704 0044 0532 0130 00": "[account]",
    "078-05-1120": "[social security number]",
    "4111 1111 1111 1111": "[card]",
    "password: hunter22": "[password]",
    "postgresql://ann:hunter22@db.example.com/app": "postgresql://ann:[credential]@db.example.com/app",
}


@pytest.mark.parametrize("lead", ["\n", "\r\n", "\t", "<", ">", "&", "'", " "])
@pytest.mark.parametrize("text", SECRETS)
def test_what_must_go_goes_wherever_it_begins_in_a_body(text: str, lead: str) -> None:
    """Bodies are JSON: a line begins behind an escape there, and some write `<` and `/` as escapes too. What is left is
    JSON still."""
    said = f"here:{lead}{text}\nthere"
    plain = json.dumps({"content": said})
    for body in (plain, plain.replace("/", "\\/"), _as_go_writes_it(plain), json.dumps({"arguments": plain})):
        found = json.loads(redacted(body, MOST))
        if "arguments" in found:
            found = json.loads(found["arguments"])
        assert found == {"content": f"here:{lead}{SECRETS[text]}\nthere"}, body


def _as_go_writes_it(body: str) -> str:
    for sign in "<>&":
        body = body.replace(sign, f"\\u{ord(sign):04x}")
    return body


@pytest.mark.parametrize(
    "text",
    [
        r'{"content":"a\nb\tc\\new\/d \u003ce\u003e \u0026 \u00e9 \u0027"}',
        '{"model":"gpt-4o","max_tokens":4096,"temperature":0.7,"created":1795999331}',
        "chatcmpl-9xYz, id req_01M8MYDX42BF5S6RD5T2D0883S and tr_01M8MY7NR1A1T0MP9YA81YR4ZZ",
        "In 2024-11-30T12:00:00Z it was 3.14159265358979 of 1234567890123456 things",
        "Write a Python function that reverses a string, please. 12 * 12 = 144.",
        "pi = 3.1415926535897932384626433832795028841971",
        "sha256 is 64 hex digits; version 1.2.3-4",
    ],
)
def test_what_must_stay(text: str) -> None:
    assert redacted(text, MOST) == text


def test_what_is_long_is_cut_and_says_so() -> None:
    shown = redacted("word " * 1000, 100)
    assert shown.startswith("word word")
    assert shown.endswith("[4900 more characters]")
    assert len(shown) < 150


@given(st.text(alphabet="0123456789abcAB .-_@:/=+\\\"'(){}\n", max_size=3000))
def test_any_text_is_redacted_and_again_changes_nothing_more(text: str) -> None:
    once = redacted(text, MOST)
    assert redacted(once, MOST * 2) == once or "[" in once


@pytest.mark.parametrize(
    "piece", ["a@", "0", "1-", "a.b@c.", "sk-", ":a@b", "eyJa.", "eyJ-" * 90 + "é-", "password:", "+1 ", "A", "(0"]
)
def test_no_text_takes_long(piece: str) -> None:
    """No pattern backtracks: 192,000 characters made to annoy it take about as long as any others."""
    began = time.process_time()
    redacted(piece * (3 * MOST // len(piece)), 3 * MOST)
    assert time.process_time() - began < 5.0, "quadratic: two seconds at most on any machine where it is linear"
