"""The base class of the parts of a certificate."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Error = float
"""A fraction in [0, 1]."""


class Record(BaseModel):
    """A part of `bound.json`: frozen, without unknown fields, with finite numbers and strict types."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
