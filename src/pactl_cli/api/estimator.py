"""A scikit-learn classifier with a certificate."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pactl_cli.api.certifying import bound, load
from pactl_cli.api.training import train
from pactl_cli.data.channels import has_channels_last
from pactl_cli.training.counting import batch_size

_TABLE = {"model_name": "mlp", "normalise": "calibration", "epochs": 100, "lr": 3e-2, "batch_size": 128}
"""Defaults for rows of numbers, the same as the command line has for tables."""
_TRAINED = ("intrinsic_dim", "model_name", "epochs", "lr", "batch_size", "normalise")
_CERTIFIED = ("quant_epochs", "delta", "certify", "abstain_error")
_CHECKS: dict[str, Any] = {"allow_nd": True}


class CertifiedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network trained in a random subspace on X and y, with a certified bound on its error on new examples.

    The certificate assumes that X and y are independent draws, in the form in which `fit` gets them. An earlier step
    that learns from the same X, such as StandardScaler or PCA in a Pipeline, breaks this assumption; use
    `normalise="calibration"`, which scales by examples that are left out of the count.

    Args:
        intrinsic_dim: d, the number of trained coordinates; by default one for ten examples.
        model_name: a network's name, or a class or function of the numbers of classes and channels.
        epochs, lr, batch_size: settings of training; the defaults depend on the kind of data.
        quant_epochs: epochs of fine-tuning through the quantiser.
        delta: probability that the certificate fails.
        certify: guarantees beside the error, such as `["class", "abstain"]`.
        abstain_error: target error among accepted examples, for abstention.
        normalise: `calibration` (default for rows of numbers) or `fixed` (default for images).
        random_state: seed of all random draws; None for the default seed, which costs no bits.
        out: a directory that keeps the run, for `verify`, until the next `fit`; None keeps nothing on the disk.
        device: auto, cpu, cuda, cuda:1 or mps.
        progress: whether to show bars; None shows them on a terminal or in a notebook.

    Attributes:
        classes_: the labels, in order.
        n_features_in_: the length of a row, or of the second axis of images.
        certificate_: the certificate of this classifier, as `pactl bound` makes it.
        classifier_: the network, decoded from the certificate's message: raw inputs in, logits out.
    """

    def __init__(
        self,
        intrinsic_dim: int | None = None,
        *,
        model_name: Any = None,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        quant_epochs: int = 30,
        delta: float = 0.05,
        certify: Any = None,
        abstain_error: float | None = None,
        normalise: str | None = None,
        random_state: Any = None,
        out: Any = None,
        device: str = "auto",
        progress: bool | None = False,
    ) -> None:
        self.intrinsic_dim = intrinsic_dim
        self.model_name = model_name
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.quant_epochs = quant_epochs
        self.delta = delta
        self.certify = certify
        self.abstain_error = abstain_error
        self.normalise = normalise
        self.random_state = random_state
        self.out = out
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any) -> Self:
        """Train and certify a classifier.

        Args:
            X: rows of numbers, shape (n, F), or images, (n, H, W), (n, H, W, C) or (n, C, H, W).
            y: n labels of any type.

        Raises:
            ValueError: if X or y is malformed, or there are fewer than two classes.
            PactlError: if a setting is wrong, or training on these data fails.
        """
        _require_unmasked(X, y)
        X, y = validate_data(self, X, y, **_CHECKS)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"there is one class, {self.classes_[0]!r}: a classifier needs at least two classes")
        is_bytes = X.ndim > 2 and X.dtype == np.uint8
        data = X if is_bytes else _in_single_precision(X), numbers
        with TemporaryDirectory(prefix="pactl-") as place:
            out = Path(place) / "run" if self.out is None else self.out
            force = self.out is not None and os.path.lexists(self.out)
            shared = {"dataset": data, "device": self.device, "progress": self.progress}
            run = train(**shared, **self._settings(X), out=out, force=force)
            network = {"model_name": self.model_name} if self.model_name is not None else {}
            asked = {name: getattr(self, name) for name in _CERTIFIED}
            self.certificate_ = bound(run, **shared, **network, **asked)
            self.classifier_ = load(run, **network, device=self.device)
        return self

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the logits, shape (n, classes); for two classes, second minus first, shape (n,)."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the label of each row, shape (n,), also where the classifier abstains (see `accepts`)."""
        places = self._logits(X).argmax(axis=1)
        return self.classes_[places]  # type: ignore[no-any-return]

    def accepts(self, X: Any) -> NDArray[Any]:
        """Return whether the classifier answers each row, shape (n,); without `certify="abstain"` it always does."""
        logits = torch.from_numpy(self._logits(X))
        return self.classifier_.accepted(logits).numpy()

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the softmax of the logits, shape (n, classes): no certificate covers these numbers."""
        logits = self._logits(X).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def _settings(self, X: NDArray[Any]) -> dict[str, Any]:
        """Return the settings of training; None stands for the default of the kind of data."""
        said = {name: getattr(self, name) for name in _TRAINED if getattr(self, name) is not None}
        if (state := self.random_state) is not None:
            said["seed"] = int(state) if isinstance(state, Integral) else int(check_random_state(state).randint(2**31))
        return (_TABLE if X.ndim == 2 else {}) | said

    def _logits(self, X: Any) -> NDArray[Any]:
        """Return the logits of each row."""
        check_is_fitted(self)
        _require_unmasked(X)
        X = validate_data(self, X, **_CHECKS, reset=False)
        rows = torch.from_numpy(self._as_fitted(X))
        with torch.no_grad():
            device = self.classifier_.device
            size = batch_size(self.classifier_.spec, device)
            parts = [self.classifier_(part.to(device)).cpu() for part in rows.split(size)]
        return torch.cat(parts).numpy()

    def _as_fitted(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return rows, or images with channels first, in the shape and type of the training examples.

        Raises:
            ValueError: if their shape differs, a number is too large, or training had bytes and these are not.
        """
        [(_, spec)] = self.classifier_.spec.tensors
        shape = tuple(spec.shape)
        if X.ndim == 3:
            X = X[:, np.newaxis]
        elif X.ndim == 4 and has_channels_last("X", "X", X.shape, None, []):
            X = np.moveaxis(X, -1, 1)
        if X.shape[1:] != shape:
            raise ValueError(f"an example of X has the shape {X.shape[1:]}, but fit had examples of shape {shape}")
        is_bytes = str(spec.dtype).endswith("uint8")
        found = np.require(X.astype(np.uint8, copy=False) if is_bytes else _in_single_precision(X), None, ("C", "W"))
        if is_bytes and not np.array_equal(found, X):
            raise ValueError("X has numbers that are not bytes, but fit had bytes")
        return found


def _require_unmasked(*arrays: Any) -> None:
    """Raise ValueError if values are masked, because scikit-learn reads what the mask hides."""
    if any(map(np.ma.is_masked, arrays)):
        raise ValueError("Input contains masked values: fill them, or remove these examples.")


def _in_single_precision(X: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in single precision; raise ValueError if one is too large for it."""
    with np.errstate(over="ignore"):
        found = X.astype(np.float32, copy=False)
    if not np.isfinite(found).all():
        raise ValueError("Input X contains infinity or a value too large for dtype('float32').")
    return found
