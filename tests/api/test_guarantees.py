"""Guarantees beside the error, asked for and used from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pactl_cli as pactl
from pactl_cli.errors import PactlError


def test_a_list_and_arrays_are_what_a_command_line_says_with_files(arrays: Any, quick: dict[str, Any]) -> None:
    run, groups = pactl.train(dataset=arrays, **quick), np.arange(200) % 3
    asked = {"certify": ["class", "abstain"], "abstain_error": 0.45, "headline": "abstain", "quant_epochs": 1}
    found = pactl.bound(run, dataset=arrays, groups=groups.tolist(), cost=1 - np.eye(2), **asked)
    assert {each.what for each in found.guarantees} == {"class", "abstain", "groups", "cost"}
    by_group = found.guarantee("groups")
    assert by_group is not None
    assert [event.examples for event in by_group.events] == [67, 67, 66]
    assert found.guarantee("top-2") is None
    assert pactl.verify(run, dataset=arrays, groups=torch.from_numpy(groups)) == found
    np.savetxt("groups.txt", groups, fmt="%d")
    assert pactl.verify(run, dataset=arrays, groups=Path("groups.txt")) == found
    np.save("costs.npy", 1 - np.eye(2))
    again = pactl.bound(run, dataset=arrays, groups="groups.txt", cost="costs.npy", force=True, **asked)
    assert again == found
    classifier, abstention = pactl.load(run), found.guarantee("abstain")
    assert abstention is not None
    assert classifier.margin == abstention.margin
    pixels = torch.from_numpy(arrays[0][:, None])
    acceptance = classifier.accepts(pixels)
    assert acceptance.equal(classifier.accepted(classifier(pixels)))
    first, second = classifier(pixels).topk(2).values.T
    assert acceptance.equal(first - second >= abstention.margin)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "the certificate is about groups of examples (name their file: groups=FILE)"),
        ({"groups": np.arange(200) % 2}, "has other groups than those"),
        ({"groups": np.arange(100)}, "has 100 groups, and there are 200 training examples"),
        ({"groups": np.full(200, 0.5)}, "has values that are not integers"),
    ],
)
def test_verify_is_handed_the_groups_again(arrays: Any, quick: dict[str, Any], given: Any, said: str) -> None:
    run = pactl.train(dataset=arrays, **quick)
    pactl.bound(run, dataset=arrays, quant_epochs=0, groups=np.arange(200) % 3)
    with pytest.raises(PactlError) as caught:
        pactl.verify(run, dataset=arrays, **given)
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"certify": "nix"}, "certify='nix': there is no guarantee 'nix'"),
        ({"certify": ["class", "cost"]}, 'certify="cost" needs a file: cost=FILE'),
        ({"certify": "top-3"}, 'certify="top-3": there are only 2 classes'),
        ({"abstain_error": 3}, "abstain_error=3: must be below 1"),
        ({"cost": np.full((2, 2), 2.0)}, "has costs that are not in [0, 1]"),
        ({"cost": np.eye(3)}, "is 3 x 3, and there are 2 classes"),
        ({"groups": np.ma.array(np.arange(200) % 2, mask=np.arange(200) < 3)}, "an array has masked values"),
        ({"groups": ["a"] * 200}, "is an array (200,) <U1, not numbers in 1 dimension"),
    ],
)
def test_what_makes_no_sense_is_said_in_words_of_python(
    arrays: Any, quick: dict[str, Any], asked: Any, said: str
) -> None:
    run = pactl.train(dataset=arrays, **quick)
    with pytest.raises(PactlError) as caught:
        pactl.bound(run, dataset=arrays, quant_epochs=0, **asked)
    assert said in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("certify", [None, ["abstain"]])
def test_an_estimator_predicts_all_and_says_what_it_accepts(drawn: Any, certify: Any) -> None:
    X, y = drawn(400)
    settings: dict[str, Any] = {"epochs": 8, "lr": 0.3, "quant_epochs": 1}
    it = pactl.CertifiedClassifier(5, model_name="fc", **settings, certify=certify, abstain_error=certify and 0.2).fit(
        X, y
    )
    assert set(it.predict(X)) == {0, 1}
    acceptance = it.accepts(X)
    assert acceptance.dtype == np.bool_
    assert acceptance.shape == (400,)
    abstention = it.certificate_.guarantee("abstain")
    margin = abstention.margin if abstention else 0.0
    assert (abstention is None) == (certify is None)
    assert (acceptance == (np.abs(it.decision_function(X)) >= margin)).all()
