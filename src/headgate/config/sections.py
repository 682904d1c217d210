"""What the sections of strategies have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from headgate.config.values import Count

Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
MaxTokens = Annotated[Count, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def named_by(key: str) -> BeforeValidator:
    """A bare string where a section is meant: `gpt-5.5` for `{model: gpt-5.5}`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class SystemText(Section):
    text: str
    when: Literal["missing", "always"] = "missing"
    """missing: used where the client sent no system text. always: put first."""
