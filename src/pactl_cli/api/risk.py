"""Bounds on the error of a classifier, as functions of what was counted.

Each takes `errors` k of `examples` n, the `bits` of its message and of all that this does not say, and `delta`, the
probability to fail, and returns a bound on the error of new examples. With bits = 0 they are about one classifier that
was fixed before the examples were seen: a test set gives such a hold-out bound.

>>> round(binomial_bound(errors=154, examples=1437, bits=349, delta=0.05), 4)
0.3608
"""

from __future__ import annotations

from pactl_cli.certificate.risk_bounds import binomial_bound, catoni_bound, kl_bound, mcallester_bound

__all__ = ["binomial_bound", "catoni_bound", "kl_bound", "mcallester_bound"]
