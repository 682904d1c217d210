"""What one's own ledger says that models are worth: what `headgate train --ledger --install` writes and
`learn: {strengths: FILE}` names. It stands in the place of the catalogue's published figures and is moved on from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from headgate.core.strategy import ModelInfo
from headgate.strategies.route.beliefs import MEASURED, Prior
from headgate.strategies.route.learning import prior_of

Strengths = Mapping[str, Mapping[str, float]]
"""Entry → task → quality, 0 to 1."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`answers`: how many whose worth was known it rests on, per entry; times in UTC."""

    version: str
    since: str
    until: str
    answers: dict[str, int]
    strengths: dict[str, dict[str, float]]


def load_strengths(path: str | Path) -> Table:
    """Raises ValueError with a message for the operator."""
    try:
        table = msgspec.json.decode(Path(path).read_bytes(), type=Table)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{path} is no file of `headgate train --ledger`: {error}") from error
    for entry, row in table.strengths.items():
        for task, quality in row.items():
            if not 0 <= quality <= 1:
                raise ValueError(f"{path}: {entry}.{task}: {quality} is not between 0 and 1")
    return table


def prior_by(strengths: Strengths, task: str, info: ModelInfo) -> Prior:
    """As much trusted as a published figure, however many answers it rests on: they are told of as live learning too."""
    own = strengths.get(info.name, {}).get(task)
    return prior_of(task, info) if own is None else Prior(own, MEASURED)
