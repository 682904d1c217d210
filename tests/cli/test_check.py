"""Bad input 54: `headgate check` on files that bite: exit code 1, the place, no traceback, nothing executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_cli import run

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcdefg", "bcdefgh", strict=True)
)
FILES = {
    "an anchor bomb": (BOMB, "too large"),
    "tabs": ("models:\n\ta: {}\n", ":2:1"),
    "duplicate keys": ("models: {}\nproviders: {}\nmodels: {}\n", "is there twice"),
    "an unknown key": ("providers: {openai: {}}\nmodles: {}\n", ":2:1: unknown key 'modles' (did you mean 'models'?)"),
    "a Python object": ("models: !!python/object/apply:os.system ['touch here']\n", "is not allowed"),
    "a list": ("- a\n- b\n", ":1:1"),
    "no YAML": ("models: {a: [\n", ":"),
    "binary": ("\x00\x01\x02", ":"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_bites_is_told_line_by_line(tmp_path: Path, name: str) -> None:
    text, said = FILES[name]
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    code, out, err = run("check", str(file), cwd=tmp_path)
    assert (code, out) == (1, "")
    assert said in err
    assert "Traceback" not in err
    assert str(file) in err
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("where", ["nothing.yaml", "."])
def test_a_file_that_is_none_is_told_in_one_line(tmp_path: Path, where: str) -> None:
    code, out, err = run("check", where, cwd=tmp_path)
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert where in err
