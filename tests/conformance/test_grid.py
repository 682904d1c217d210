"""docs/translation.md was written by a run over the whole of this corpus: every number of pairs is the corpus's."""

from __future__ import annotations

from collections import Counter

import pytest

from conformance import features, grid
from conformance.extract import FORMATS, STREAMS, format_of, said
from support.corpus import rows


@pytest.mark.parametrize("fmt", FORMATS)
def test_the_page_counts_every_recorded_answer(fmt):
    have = Counter[str]()
    for row in rows():
        answer = row["response"]
        kind = answer["kind"]
        if format_of(row["api"]) != fmt or answer["status"] != 200 or kind not in ("json", *STREAMS):
            continue
        body = answer["body"] or ""
        if (want := said(fmt, kind, body)) is not None:
            have.update(features.of_answer(want, kind, body))
    page = grid.committed(f"Answers of {fmt}, by door")
    assert page.keys() == have.keys()
    for name, cells in page.items():
        assert cells.keys() == FORMATS.keys() - {fmt}
        for cell in cells.values():
            assert sum(int(word) for word in cell.replace(",", "").split() if word.isdecimal()) == have[name], name


def test_what_a_door_cannot_say_is_little_and_explained():
    text = grid.PAGE.read_text(encoding="utf-8")
    section = text.partition("### What a door cannot say\n")[2].partition("###")[0]
    rows_ = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows_
    for fmt, door, share, lacks, says in rows_:
        affected, _, pairs = share.partition(" of ")
        assert int(affected) <= 0.05 * int(pairs), (fmt, door)
        assert (lacks, says) in grid.CANNOT.values()
