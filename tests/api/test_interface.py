"""Runs and certificates from Python: the stages of the commands, with objects in the place of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import TensorDataset

import pactl_cli as pactl
from pactl_cli.api.run import Run
from pactl_cli.errors import PactlError


@pytest.fixture
def run(arrays: Any, quick: Any) -> Run:
    return pactl.train(dataset=arrays, **quick)


def test_from_arrays_to_a_certificate_that_is_verified_and_used(run: Run, arrays: Any) -> None:
    assert run.path.is_absolute()
    assert run.certificate is None
    assert [line["epoch"] for line in run.metrics] == list(range(1, 9))
    assert (run.settings.dataset, run.settings.intrinsic_dim) == ("python:arrays", 5)
    certificate = pactl.bound(run, dataset=arrays, quant_epochs=2)
    assert run.certificate == certificate == pactl.verify(run, dataset=arrays)
    assert certificate.error_bound < 0.4
    assert certificate.bound_examples == len(arrays[1])
    classifier = pactl.load(run)
    assert not classifier.training
    labels = classifier(torch.from_numpy(arrays[0])[:, None]).argmax(1).numpy()
    assert abs(int((labels != arrays[1]).sum()) - certificate.errors) <= 1  # the numerical margin


def test_the_run_says_that_its_data_came_from_python_and_nothing_else_of_them(run: Run) -> None:
    config = yaml.safe_load((run.path / "config.yml").read_text())
    assert config["dataset"] == "python:arrays"
    assert not [path for path in run.path.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]
    for call in (pactl.bound, pactl.verify):
        with pytest.raises(PactlError, match=r"were handed over from Python, as python:arrays|no complete certificate"):
            call(run)


def test_other_data_are_noticed(run: Run, arrays: Any) -> None:
    X, y = arrays
    for other in ((X, 1 - y), (255 - X, y), (X[:-1], y[:-1]), (X[::-1], y[::-1])):
        with pytest.raises(PactlError, match=r"is not the one that the run in .* was trained on"):
            pactl.bound(run, dataset=other)
    assert run.certificate is None


def test_a_test_set_is_handed_over_beside_the_data_or_with_them(arrays: Any, quick: Any, drawn: Any) -> None:
    test = drawn(50, seed=1)
    run = pactl.train(dataset=arrays, test=TensorDataset(*map(torch.from_numpy, test)), **quick)
    certificate = pactl.bound(run, dataset={"train": arrays, "test": test}, quant_epochs=1)
    assert certificate.test_examples == 50
    with pytest.raises(PactlError, match="test needs a dataset that is an object too"):
        pactl.train(dataset="digits", test=test)


def test_a_network_is_a_class_or_a_function_and_is_handed_over_again(arrays: Any, net: Any) -> None:
    settings = {"intrinsic_dim": 5, "epochs": 5, "lr": 0.3, "dataset": arrays}
    run = pactl.train(**settings, model_name=net)
    assert run.settings.model_name == "python:Net"
    with pytest.raises(PactlError, match=r"the network of .* was handed over from Python, as python:Net"):
        pactl.bound(run, dataset=arrays)
    certificate = pactl.bound(run, dataset=arrays, model_name=net, quant_epochs=1)
    same = lambda classes, channels: net(classes, channels)  # noqa: E731
    assert pactl.verify(run, dataset=arrays, model_name=same) == certificate
    assert pactl.load(run, model_name=net).certificate == certificate
    with pytest.raises(PactlError, match="python:Net is not the network"):
        pactl.verify(run, dataset=arrays, model_name=lambda classes, channels: torch.nn.Sequential(net(classes, 1)))
    with pytest.raises(PactlError, match="pass its class, or a function"):
        pactl.train(**settings, model_name=net(2, 1))
    with pytest.raises(PactlError, match="model_name is a int"):
        pactl.train(**settings, model_name=3)


def test_weights_of_a_file_go_into_a_network_that_is_handed_over(arrays: Any, tmp_path: Path, net: Any) -> None:
    torch.manual_seed(0)
    torch.save(net(2, 1).state_dict(), tmp_path / "weights.pth")
    run = pactl.transfer(net, dataset=arrays, weights=tmp_path / "weights.pth", intrinsic_dim=5, epochs=5, lr=0.3)
    assert (run.settings.source, run.settings.model_name) == ("python:Net", "python:Net")
    assert pactl.bound(run, dataset=arrays, model_name=net, quant_epochs=1).error_bound < 0.4
    with pytest.raises(PactlError, match="two different networks"):
        pactl.transfer(net, dataset=arrays, weights=tmp_path / "weights.pth", model_name=lambda c, n: net(c, n))


def test_a_run_is_a_source_of_another_whose_data_are_handed_over(arrays: Any, net: Any, drawn: Any) -> None:
    first = pactl.train(dataset=arrays, model_name=net, intrinsic_dim=0, epochs=5)
    other = drawn(150, seed=2)
    given = {"dataset": other, "intrinsic_dim": 4, "epochs": 3, "lr": 0.3, "model_name": net}
    with pytest.raises(PactlError, match=r"hand them over again, or name .*: source_dataset=MODULE:FUNCTION"):
        pactl.transfer(first, **given)
    run = pactl.transfer(first, **given, source_dataset=arrays)
    assert run.settings.source == str(first.path)
    assert pactl.bound(run, dataset=other, model_name=net, quant_epochs=1).bound_examples == 150
    overlapping = tuple(np.concatenate(pair) for pair in zip(arrays, other, strict=True))
    kept = pactl.transfer(first, **given | {"dataset": overlapping}, source_dataset=arrays)
    assert pactl.bound(kept, dataset=overlapping, model_name=net, quant_epochs=1).bound_examples == 150


def test_a_prior_has_its_share(arrays: Any, quick: Any) -> None:
    run = pactl.prior(dataset=arrays, **quick, train_subset=0.5)
    assert pactl.bound(run, dataset=arrays, quant_epochs=1).bound_examples == 100


def test_several_runs_have_a_certificate_each(run: Run, arrays: Any, quick: Any) -> None:
    other = pactl.train(dataset=arrays, **quick | {"seed": 1})
    found = pactl.bound([other, run.path, other], dataset=arrays, quant_epochs=1)
    assert found == [other.certificate, run.certificate, other.certificate]
    assert found[0] != found[1]
    copy = pactl.bound(run, dataset=arrays, quant_epochs=2, delta=[0.05, 0.01], out="copy", force=True)
    assert [copy.delta, copy.at_other_deltas[0].delta] == [0.05, 0.01]
    assert pactl.verify("copy", dataset=arrays) == copy != run.certificate


def test_a_run_is_gone_on_with_and_continued(run: Run, arrays: Any) -> None:
    before = (run.path / "checkpoint.safetensors").read_bytes()
    again = pactl.train(dataset=arrays, out=run, resume=True)
    assert (again, (run.path / "checkpoint.safetensors").read_bytes()) == (run, before)
    with pytest.raises(PactlError, match="the data of these settings were handed over from Python"):
        pactl.train(out=run, resume=True)
    further = pactl.train(dataset=arrays, continued=run, epochs=2)
    assert (further.settings.epochs_before, further.settings.epochs) == (8, 2)


def test_a_permutation(arrays: Any, tmp_path: Path) -> None:
    path = pactl.permute(arrays, seed=3)
    assert path == tmp_path / "python-arrays-permutation-3.npy"
    assert sorted(np.load(path)) == list(range(200))
    assert len(np.load(pactl.permute("digits", out="digits.npy"))) == 1437
