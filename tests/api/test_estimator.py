"""The face for scikit-learn: its own checks, and certificates at the end of a cross-validation."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import pactl_cli as pactl
from pactl_cli.api.estimator import CertifiedClassifier
from pactl_cli.errors import PactlError

IN_BATCHES = "a batch's logits differ in the last digit of single precision from those of its examples one by one"
EXPECTED = {
    "check_methods_sample_order_invariance": IN_BATCHES,
    "check_methods_subset_invariance": IN_BATCHES,
    "check_positive_only_tag_during_fit": "iris has a row twice, of which fit warns",
}


def quick(**settings: Any) -> CertifiedClassifier:
    return CertifiedClassifier(10, **{"epochs": 10, "quant_epochs": 1, "lr": 0.1, "batch_size": 16} | settings)


@parametrize_with_checks([quick(normalise="fixed")])  # type: ignore[untyped-decorator]
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    try:
        check(estimator)
    except AssertionError as error:
        if why := EXPECTED.get(check.func.__name__):
            pytest.xfail(f"{why}: {error}")
        raise


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def test_a_cross_validation_of_a_pipeline_ends_with_certificates(digits: tuple[Any, Any]) -> None:
    pipeline = make_pipeline(FunctionTransformer(np.sqrt), CertifiedClassifier(100, epochs=20, quant_epochs=5))
    found = cross_validate(pipeline, *digits, cv=2, return_estimator=True)
    for fitted, score in zip(found["estimator"], found["test_score"], strict=True):
        certificate = fitted[-1].certificate_
        assert 1 - score < certificate.error_bound < 0.7  # guessing errs on .9
        assert certificate.bound_examples <= len(digits[1]) / 2


@pytest.fixture(scope="module")
def fitted(digits: tuple[Any, Any]) -> CertifiedClassifier:
    """On labels that are words."""
    X, y = digits[0][:300], digits[1][:300]
    return quick(epochs=30).fit(X, np.where(y < 5, "small", "large"))


def test_labels_may_be_words(fitted: CertifiedClassifier, digits: tuple[Any, Any]) -> None:
    assert fitted.classes_.tolist() == ["large", "small"]
    words = np.where(digits[1] < 5, "small", "large")
    assert fitted.score(digits[0], words) > 0.6
    odds = fitted.predict_proba(digits[0])
    assert odds.shape == (len(words), 2)
    assert np.allclose(odds.sum(axis=1), 1)
    assert (fitted.classes_[odds.argmax(axis=1)] == fitted.predict(digits[0])).all()
    assert ((fitted.decision_function(digits[0]) > 0) == (odds[:, 1] > 0.5)).all()


@pytest.mark.parametrize("copied", [deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"])
def test_a_copy_predicts_the_same_and_has_the_certificate(
    fitted: CertifiedClassifier, copied: Any, digits: tuple[Any, Any]
) -> None:
    other = copied(fitted)
    assert other.certificate_ == fitted.certificate_
    assert (other.predict_proba(digits[0]) == fitted.predict_proba(digits[0])).all()
    assert not hasattr(clone(fitted), "certificate_")


def test_the_errors_of_predict_are_those_of_the_certificate(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    images = X.reshape(-1, 8, 8).astype(np.uint8)
    it = quick(out=tmp_path / "run", model_name="fc", random_state=3).fit(images, y)
    certificate = it.certificate_
    assert certificate.bound_examples == len(y)
    assert abs(int((it.predict(images) != y).sum()) - certificate.errors) <= 1  # the numerical margin
    assert certificate.configuration["seed"] == 3
    checked = pactl.verify(tmp_path / "run", dataset=(images, y))
    assert checked == certificate
    assert (it.predict(images.astype(float)) == it.predict(images)).all()
    with pytest.raises(ValueError, match="not bytes"):
        it.predict(images + 0.5)
    with pytest.raises(ValueError, match=r"shape \(1, 8, 7\)"):
        it.predict(images[:, :, 1:])
    it.set_params(random_state=4).fit(images, y)  # in the same place
    assert pactl.verify(tmp_path / "run", dataset=(images, y)).configuration["seed"] == 4


def test_channels_may_be_last() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    last = quick(model_name="fc").fit(drawn, labels)
    first = quick(model_name="fc").fit(np.moveaxis(drawn, -1, 1), labels)
    assert (last.decision_function(drawn) == first.decision_function(np.moveaxis(drawn, -1, 1))).all()


def test_numbers_too_large_for_single_precision_are_refused(
    fitted: CertifiedClassifier, digits: tuple[Any, Any]
) -> None:
    with pytest.raises(ValueError, match="too large for dtype"):
        fitted.predict(digits[0] * 1e39)
    with pytest.raises(ValueError, match="too large for dtype"):
        quick().fit(digits[0][:40] * 1e39, digits[1][:40])


def test_what_is_wrong_is_said(digits: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="one class"):
        quick().fit(digits[0][:20], np.ones(20))
    with pytest.raises(ValueError, match="Input contains masked values"):
        quick().fit(np.ma.array(digits[0], mask=digits[0] == digits[0].max()), digits[1])
    with pytest.raises(PactlError, match="intrinsic_dim=-1: must be 0 or more"):
        CertifiedClassifier(-1).fit(digits[0][:40], digits[1][:40])
