"""Rates in percent and lengths in bits, for people."""

from __future__ import annotations

from decimal import Decimal
from math import ceil, floor


def percent(error: float | None) -> str:
    """Return an error rate in percent, rounded up; a dash where there is none."""
    return "-" if error is None else f"{ceil(Decimal(repr(float(error))) * 10**4) / 100:.2f} %"


def in_bits(length: float) -> str:
    """Return a length with its unit, rounded up to hundredths: "1 bit", "3,952 bits"."""
    return f"{ceil(length * 100) / 100:,.15g} bit{'' if length == 1 else 's'}"


def percent_at_least(share: float | None) -> str:
    """Return a share in percent, rounded down; a dash where there is none."""
    return "-" if share is None else f"{floor(Decimal(repr(float(share))) * 10**4) / 100:.2f} %"
