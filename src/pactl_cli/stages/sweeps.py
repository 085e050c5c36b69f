"""Bounds with a certificate's counts and bits at other numbers of examples, and at other deltas."""

from __future__ import annotations

import numpy as np

from pactl_cli.certificate.certificate import Bounds, Certificate, all_bounds

_SIZES, _DELTAS = 25, 10
_MOST_EXAMPLES, _FEWEST_EXAMPLES = 10**9, 20
_SPAN = 32
_LEAST_DELTA, _LARGEST_DELTA = 1e-9, 0.5


def bounds_by_examples(certificate: Certificate) -> list[tuple[int, Bounds]]:
    """Return the bounds at the same error rate, rounded up to whole errors, by number of examples, ascending."""
    n, k = certificate.bound_examples, certificate.errors
    low, high = max(_FEWEST_EXAMPLES, n // _SPAN), min(_MOST_EXAMPLES, max(_FEWEST_EXAMPLES, n) * _SPAN)
    bits, delta = certificate.paid_bits, certificate.delta
    sizes = sorted({*np.geomspace(low, high, _SIZES).round().astype(int).tolist(), n})
    return [(size, all_bounds(errors=-(-k * size // n), examples=size, bits=bits, delta=delta)) for size in sizes]


def bounds_by_delta(certificate: Certificate) -> list[tuple[float, Bounds]]:
    """Return the bounds with the same counts and bits at other deltas, ascending."""
    counts = {"errors": certificate.errors, "examples": certificate.bound_examples}
    bits = certificate.paid_bits
    deltas = sorted({*np.geomspace(_LEAST_DELTA, _LARGEST_DELTA, _DELTAS).tolist(), certificate.delta})
    return [(delta, all_bounds(**counts, bits=bits, delta=min(delta, _LARGEST_DELTA))) for delta in deltas]
