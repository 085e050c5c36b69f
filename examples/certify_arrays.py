"""Train on two arrays, certify the classifier, verify the certificate and use the classifier.

Run `python examples/certify_arrays.py`. It makes a directory `runs` and takes about a minute.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import pactl_cli as pactl


def main() -> None:
    """Train, certify, verify and use a classifier of digits."""
    X, y = _digits()
    run = pactl.train(dataset=(X, y), intrinsic_dim=100, epochs=30)
    print(f"trained into {run.path}; the last epoch: {run.metrics[-1]}")

    certificate = pactl.bound(run, dataset=(X, y), quant_epochs=10)
    print(certificate.statement)
    print(f"It errs on {certificate.errors} of {certificate.bound_examples}, and its message has", end=" ")
    print(f"{certificate.message_bits} bits; without paying for the message the bound would be", end=" ")
    free = pactl.risk.binomial_bound(
        errors=certificate.errors, examples=certificate.bound_examples, bits=0, delta=certificate.delta
    )
    print(f"{100 * free:.2f} %, which would be wrong: the classifier was chosen by these examples.")

    assert pactl.verify(run, dataset=(X, y)) == certificate

    classifier = pactl.load(run)  # decoded from the message: the network that the certificate is about
    images = torch.from_numpy(X[:5, None])
    print(f"the first five: {classifier(images).argmax(1).tolist()}, and they are {y[:5].tolist()}")


def _digits() -> tuple[Any, Any]:
    """Return scikit-learn's digits as images of bytes, shape (1797, 8, 8), and their labels."""
    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target


if __name__ == "__main__":
    main()
