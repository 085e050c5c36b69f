"""Bounds on the error of a classifier, as functions of counts.

Each takes the number of `errors` k among n `examples`, the `bits` that describe the classifier, and the failure
probability `delta`, and returns an upper bound on the error rate. With bits = 0 the classifier must be fixed before the
examples are seen: this is the hold-out bound of a test set.

>>> round(binomial_bound(errors=154, examples=1437, bits=349, delta=0.05), 4)
0.3608
"""

from __future__ import annotations

from pactl_cli.certificate.risk_bounds import binomial_bound, catoni_bound, kl_bound, mcallester_bound

__all__ = ["binomial_bound", "catoni_bound", "kl_bound", "mcallester_bound"]
