"""What the parts of a certificate are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Error = float
"""A fraction in [0, 1]."""


class Record(BaseModel):
    """A part of `bound.json`: frozen, with no field that is unknown, of finite numbers of the right types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
