"""Every recorded answer through every other format's door, read by that door's official SDK.

Text, tool calls with equal arguments, how it ended and the token counts must be the recording's; where the door's format
has no word for an ending, that is counted (grid.CANNOT). Thinking and what was read from a cache must arrive too. What else
an answer holds arrives or is named as lost.
"""

from __future__ import annotations

import pytest

from conformance import features, grid
from conformance.clients import Doors
from conformance.corpus import STEP, chosen, provider_of
from conformance.extract import FORMATS, STREAMS, Said, said

LOSSES = {
    # feature → how its loss may be named
    "citations": ("citations",),
    "server-side tools": ("opaque",),
    "images made": ("image", "opaque"),
    "logprobs": ("logprobs",),
}
ENDINGS = {"stopped by length", "content filter", "refusal", "pause"}


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("door", FORMATS)
def test_every_other_door_is_understood_by_its_sdk(stage, fmt, door):
    if door == fmt:
        return
    doors = Doors(stage.url)
    found, wrong = grid.Pairs(fmt, door), list[str]()
    for row in chosen(fmt):
        kind, body = row["response"]["kind"], row["response"]["body"] or ""
        want = said(fmt, kind, body) if row["response"]["status"] == 200 else None
        if want is None:
            continue
        model = f"{provider_of(fmt, row, door)}/{stage.sim.replay.register(row).model}"
        found.pairs += 1
        try:
            got = doors.ask(door, model, kind in STREAMS)
        except Exception as error:  # noqa: BLE001  whatever the SDK raises is the finding
            wrong.append(f"{row['id']}: {type(error).__name__}: {str(error)[:250]}")
            continue
        finally:
            stage.sim.replay.forget(row["id"])
        wrong += [
            f"{row['id']}: {what}" for what in compare(found, doors, want, got, features.of_answer(want, kind, body))
        ]
    assert found.pairs > 0
    assert not wrong, f"{len(wrong)} in {found.pairs} pairs:\n" + "\n".join(wrong[:12])
    assert sum(found.cannot.values()) <= 0.05 * found.pairs
    if STEP == 1:
        grid.save(found)
    else:
        contradict(found)


def contradict(sample: grid.Pairs) -> None:
    """What the page says of all must hold for the sample: where everything arrives there, it does here; what a door cannot
    say here is in its table."""
    page = grid.committed(grid.title(sample))
    for name in sample.of:
        if page[name][sample.door].isdecimal():
            assert grid.cell(sample, name).isdecimal(), (name, grid.cell(sample, name), page[name])
    text = grid.PAGE.read_text(encoding="utf-8")
    for finish in sample.cannot:
        lacks, says = grid.CANNOT[sample.door, finish]
        assert f"| {lacks} | {says} |" in text


def compare(found: grid.Pairs, doors: Doors, want: Said, got: Said, has: set[str]) -> list[str]:
    """Counts one pair; what is wrong with it."""
    kept = carried(want, got, has)
    named = named_losses(doors, has - kept)
    grid.count(found.of, has)
    grid.count(found.kept, kept)
    grid.count(found.named, named)
    wrong = differences(want, got)
    if want.finish != got.finish:
        if (found.door, want.finish) in grid.CANNOT:
            grid.count(found.cannot, [want.finish])
        else:
            wrong.append(f"finish {got.finish} instead of {want.finish}")
    if silent := has - kept - named - ENDINGS:
        wrong.append(f"{', '.join(sorted(silent))} lost in silence")
    return wrong


def differences(want: Said, got: Said) -> list[str]:
    wrong = []
    if want.text != got.text:
        wrong.append(f"text {got.text[:60]!r} instead of {want.text[:60]!r}")
    if want.calls != got.calls:
        wrong.append(f"calls {got.calls} instead of {want.calls}")
    if want.tokens is not None and got.tokens != want.tokens:
        wrong.append(f"tokens {got.tokens} instead of {want.tokens}")
    return wrong


def carried(want: Said, got: Said, has: set[str]) -> set[str]:
    """Those of a recorded answer's features that the client found."""
    lost = LOSSES.keys() - got.extras
    for name, equal in (
        ("text", want.text == got.text),
        ("thinking", want.thinking == got.thinking),
        ("cached tokens", want.cached == got.cached),
        ("token counts", want.tokens == got.tokens),
        ("tool calls", want.calls == got.calls),
        ("parallel tool calls", want.calls == got.calls),
    ):
        lost |= set() if equal else {name}
    return has - lost - (set() if want.finish == got.finish else ENDINGS)


def named_losses(doors: Doors, lost: set[str]) -> set[str]:
    if not lost & LOSSES.keys():
        return set()
    names = tuple(doors.lost())
    return {feature for feature in lost & LOSSES.keys() if any(name.startswith(LOSSES[feature]) for name in names)}
