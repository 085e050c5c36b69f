"""The classifier that `load` decodes errs on S exactly as often as the certificate says, for every kind of run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pactl_cli.errors import MissingError, PactlError
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.stages.classifier import load
from pactl_cli.training.counting import count

Call = Callable[..., Any]

QUICK = ("--intrinsic-dim", 20, "--epochs", 12, "--lr", 0.5)
SMALL = ("--model-name", "resnet20", "--base-width", 4)
POOR = ("--prior-epochs", 1, "--prior-lr", 1e-4)
IMAGES = ("--dataset", "{npz}", *QUICK)
KINDS: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    "dense": (("train", *IMAGES), ()),
    "batch statistics": (("train", *IMAGES, *SMALL), ()),
    "calibrated inputs": (("train", *IMAGES, "--normalise", "calibration"), ()),
    "free levels": (("train", *IMAGES), ("--codebook", "kmeans", "--levels", 5)),
    "low rank": (("train", *IMAGES, "--model-name", "mlp", "--lora-rank", 2), ()),
    "frozen": (("train", *IMAGES, *SMALL, "--freeze", r"0\.weight"), ()),
    "head alone": (("train", *IMAGES, "--intrinsic-mode", "head"), ()),
    "prior": (("prior", *IMAGES, *SMALL, *POOR), ()),
    "prior as it is": (("prior", *IMAGES, *SMALL, "--intrinsic-dim", 0), ()),
    "noisy labels": (("train", *IMAGES, "--label-noise", 0.5, "--seed", 5), ()),
    "enlarged": (("train", *IMAGES, *SMALL, "--image-size", 12), ()),
    "photographs": (("train", "--dataset", "folder:{photographs}", *QUICK, *SMALL, "--image-size", 8), ()),
    "table": (("train", "--dataset", "csv:{people}", "--label", "y", "--missing", "constant", *QUICK), ()),
    "texts": (("train", "--dataset", "folder:{reviews}", "--sequence-length", 32, *QUICK), ()),
    "counts of words": (("train", "--dataset", "folder:{reviews}", "--text-form", "bagged", *QUICK), ()),
    "brought": (("train", *IMAGES, "--model-name", "{networks}:normed"), ("--model-name", "{networks}:normed")),
    "brought, a mapping": (
        (
            "train",
            "--dataset",
            "folder:{reviews}",
            "--text-form",
            "masked",
            *QUICK,
            "--model-name",
            "{networks}:masked",
        ),
        ("--model-name", "{networks}:masked"),
    ),
}


def require_exact(run: Path, model_name: str | None = None) -> int:
    """Return the errors of a run's classifier on S, which must be those of its certificate."""
    problem = reload_problem(RunDirectory.open(run), Named(model_name=model_name), "cpu", Silence(), only_read=True)
    classifier = load(run, model_name=model_name, device="cpu")
    counts = count(classifier, problem.sample)
    assert counts.cautious == classifier.certificate.errors
    assert counts.nll_bits == classifier.certificate.train_nll_bits
    assert classifier.spec == problem.dataset.spec
    assert len(classifier.class_names) == problem.dataset.classes
    assert not classifier.training
    return counts.plain


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_certified(
    kind: str, pactl: Call, request: pytest.FixtureRequest, npz: Path
) -> None:
    def filled(words: tuple[object, ...]) -> list[str]:
        known = {"npz": f"npz:{npz}"}
        for name in ("photographs", "people", "reviews", "networks"):
            if any(f"{{{name}}}" in str(word) for word in words):
                known[name] = str(request.getfixturevalue(name))
        return [str(word).format(**known) for word in words]

    train, bound = map(filled, KINDS[kind])
    assert pactl(*train, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 1, *bound).code == 0
    model_name = bound[-1] if "brought" in kind else None
    require_exact(Path("run"), model_name)
    if kind not in ("prior as it is", "noisy labels"):
        assert load(Path("run"), model_name=model_name).certificate.intrinsic_dim  # not silent
    if model_name:
        with pytest.raises(MissingError, match="not loaded unasked"):
            load(Path("run"))


def test_a_transfer_is_loaded_without_its_source(pactl: Call, npz: Path, photographs: Path) -> None:
    assert pactl("train", "--dataset", f"npz:{npz}", *QUICK, *SMALL, "--intrinsic-dim", 0, "--out", "source").code == 0
    target = ("--dataset", f"folder:{photographs}", "--image-size", 8, *QUICK)
    for name, more in {"own": (), "kept": ("--calibration-examples", 0), "as": ("--intrinsic-mode", "head")}.items():
        assert pactl("transfer", "source", *target, *more, "--out", name).code == 0
        assert pactl("bound", name, "--quant-epochs", 1).code == 0
        require_exact(Path(name))
        assert load(Path(name)).calibrated.channels == 3  # photographs have colours, the network sees grey
        assert load(Path(name)).spec.channels == 1


def test_silence_is_loaded_too(pactl: Call, npz: Path) -> None:
    """Where no coordinates pay for themselves, the classifier is theta0."""
    train = ("train", "--dataset", f"npz:{npz}", *QUICK, *SMALL, "--lr", 1e-9)
    assert pactl(*train, "--out", "run").code == 0
    document = pactl("bound", "run", "--quant-epochs", 0).json()
    assert document["intrinsic_dim"] == 0
    require_exact(Path("run"))


def test_the_data_are_not_needed(certified: Path, npz: Path, tmp_path: Path) -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    before = load(certified)(images)
    (certified / "indices.npz").unlink()
    with pytest.raises(PactlError, match=r"indices\.npz is truncated, altered or missing"):
        load(certified)
    assert before.shape == (2, 3)


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(2, 1, 9, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8)],
    ids=["another size", "no channel", "no bytes"],
)
def test_other_inputs_than_were_certified_are_refused(certified: Path, inputs: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="the classifier takes 1 x 8 x 8 numbers of type uint8, not "):
        load(certified)(inputs)
