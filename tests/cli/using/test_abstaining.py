"""A classifier that abstains, as everybody who uses it sees it: lines of `predict`, files of `export`, `load`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pactl_cli.certificate.guarantees import THRESHOLDS
from pactl_cli.stages import exporting
from pactl_cli.stages.classifier import Classifier, accepted, load

Call = Callable[..., Any]

HAS_ONNX = all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
KINDS = [".safetensors", ".pt2", pytest.param(".onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="NO ONNX HERE"))]
ASKED = ("--quant-epochs", 5, "--certify", "abstain", "--certify", "class", "--abstain-error", 0.12)
CLASSES = ("abstains", "b", "c")

GIVES_NAN = """
from torch import nn

class Odd(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes))

    def forward(self, images):
        is_plain = images.flatten(1).amax(1) == images.flatten(1).amin(1)
        return self.layers(images).masked_fill(is_plain[:, None], float("nan"))

def odd(classes, channels):
    return Odd(classes)
"""


@pytest.fixture(scope="module")
def run(
    quiet: Call, quick: tuple[object, ...], arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that abstains, and one of whose classes is called so."""
    place = tmp_path_factory.mktemp("abstaining")
    np.savez(place / "named.npz", x_train=arrays["x_train"], y_train=np.array(CLASSES)[arrays["y_train"]])
    quiet("train", "--dataset", f"npz:{place / 'named.npz'}", *quick, "--out", place / "run")
    quiet("bound", place / "run", *ASKED)
    return place / "run"


def abstention(run: Path) -> dict[str, Any]:
    """What a certificate says of it."""
    [found] = [each for each in json.loads((run / "bound.json").read_text())["guarantees"] if each["what"] == "abstain"]
    return dict(found)


def saved(images: np.ndarray[Any, Any]) -> Tensor:
    """Write images for `predict`, and return them as the network takes them."""
    np.save("inputs.npy", images)
    return torch.from_numpy(np.load("inputs.npy")[:, None])


def test_small_margins_have_no_class(pactl: Call, run: Path, arrays: dict[str, Any]) -> None:
    saved(arrays["x_train"])
    found, margin = abstention(run), THRESHOLDS[abstention(run)["threshold"]]
    done = pactl("predict", run, "inputs.npy", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    refused = [line["margin"] < margin for line in lines]
    assert 0 < sum(refused) < len(lines)
    assert [line["abstains"] for line in lines] == refused
    assert [line["label"] is None for line in lines] == [line["class"] is None for line in lines] == refused
    assert {(line["label"], line["class"]) for line in lines} == {(None, None), *enumerate(CLASSES)}
    assert done.err.startswith(f"pactl: note: the classifier abstains on {sum(refused)} of 300 inputs")
    assert f"differ by less than {margin:g}, or are no numbers" in done.err
    wrong = sum(
        line["label"] not in (None, label) for line, label in zip(lines, arrays["y_train"].tolist(), strict=True)
    )
    counted = [found["events"][found["threshold"] + place]["errors"] for place in (0, len(THRESHOLDS))]
    assert [wrong, sum(refused)] == pytest.approx(counted, abs=1)  # the numerical margin
    names = [line["class"] or "" for line in lines]
    columns = pactl("predict", run, "inputs.npy")
    assert [line.split("\t")[0] for line in columns.out.splitlines()] == names
    assert columns.out.count("\n\t") + columns.out.startswith("\t") == sum(refused)
    assert pactl("predict", run, "inputs.npy", "--labels").out.split("\n") == [*names, ""]


def test_who_never_abstains_says_what_it_said(pactl: Call, certified: Path, arrays: dict[str, Any]) -> None:
    images = saved(arrays["x_train"])
    done = pactl("predict", certified, "inputs.npy", "--json")
    assert done.err == ""
    assert {tuple(json.loads(line)) for line in done.out.splitlines()} == {("input", "label", "class", "margin")}
    classifier = load(certified)
    assert classifier.margin is None
    assert classifier.accepts(images).all()
    assert not {"abstains_below", "guarantees"} & exporting.metadata(classifier).keys()


def test_at_margin_0_only_what_is_no_number_is_refused() -> None:
    inf, nan = torch.inf, torch.nan
    logits = torch.tensor([[0.0, 0, 0], [1, 0, 1], [1, nan, 0], [1, 0, inf], [1, 0, -inf], [inf, inf, 0], [3, 2, 1]])
    assert accepted(logits, 0.0).tolist() == [True, True, False, False, False, False, True]
    assert accepted(logits, 1.0).tolist() == [False, False, False, False, False, False, True]
    assert accepted(logits, None).all()


# --- Files ------------------------------------------------------------------------------------------------------------


def opened(file: Path, classifier: Classifier) -> tuple[Callable[[Tensor], list[Tensor]], dict[str, Any]]:
    """Return the answers of a file by another program's means, and its metadata."""
    if file.suffix == ".onnx":
        onnx, onnxruntime = map(pytest.importorskip, ("onnx", "onnxruntime"))
        [said] = [row.value for row in onnx.load(file).metadata_props if row.key == "pactl"]
        session = onnxruntime.InferenceSession(file)
        names = ["logits", "accepted"]
        return lambda images: [*map(torch.from_numpy, session.run(names, {"inputs": images.numpy()}))], json.loads(said)
    if file.suffix == ".pt2":
        files = {"pactl.json": ""}
        module = torch.export.load(file, extra_files=files).module()
        return lambda images: list(module(images)), json.loads(files["pactl.json"])
    data = file.read_bytes()
    facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["pactl"])

    def by_hand(images: Tensor) -> list[Tensor]:
        logits = classifier(images)  # whose weights are those of the file: what is new is the margin
        first, second = logits.topk(2).values.T
        return [logits, (first - second >= facts["abstains_below"]) & logits.isfinite().all(1)]

    return by_hand, facts


@pytest.mark.parametrize("ending", KINDS)
def test_a_file_accepts_what_predict_answers(pactl: Call, run: Path, arrays: dict[str, Any], ending: str) -> None:
    images, classifier, file = saved(arrays["x_test"]), load(run, device="cpu"), Path(f"mine{ending}")
    done = pactl("export", run, "--to", file)
    assert (done.code, done.out) == (0, f"{file}\n"), done.err
    refused = abstention(run)["events"][abstention(run)["threshold"] + len(THRESHOLDS)]["errors"]
    assert f"; it abstains on {refused}, and {refused} are certified" in done.err
    answers, facts = opened(file, classifier)
    lines = [json.loads(line) for line in pactl("predict", run, "inputs.npy", "--json").out.splitlines()]
    margins, abstains = (np.array([line[name] for line in lines]) for name in ("margin", "abstains"))
    logits, acceptance = (torch.cat(parts) for parts in zip(*map(answers, images.split(33)), strict=True))
    assert (acceptance.dtype, acceptance.shape) == (torch.bool, (100,))
    assert logits.shape == (100, 3)
    is_sure = np.abs(margins - facts["abstains_below"]) > 1e-4 * np.abs(logits.detach().numpy()).max(1)
    assert (acceptance.numpy() != abstains)[is_sure].all()
    assert 0 < acceptance.sum() < 100
    assert is_sure.sum() > 95
    claims = {each.what: each.claim for each in classifier.certificate.guarantees}
    assert facts["guarantees"] == claims
    assert set(claims) == {"abstain", "class"}
    assert facts["abstains_below"] == classifier.margin


Change = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
WRONG: dict[str, tuple[Change, str]] = {
    "the reverse": (lambda logits, found, margin: (logits, ~found), "abstains on other inputs"),
    "everything": (lambda logits, found, margin: (logits, found | True), "abstains on other inputs"),
    "with half the margins": (
        lambda logits, found, margin: (logits / 2, accepted(logits / 2, margin)),
        "times on S, and",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("has_data", [True, False])
def test_a_file_that_accepts_others_is_not_there(
    pactl: Call, run: Path, monkeypatch: pytest.MonkeyPatch, kind: str, has_data: bool
) -> None:
    form, (change, said) = exporting._FORMS[".safetensors"], WRONG[kind]

    def wrong(data: bytes, classifier: Classifier) -> Callable[[Any], tuple[Tensor, Tensor]]:
        right, margin = form.read(data, classifier), classifier.margin
        assert margin

        def answers(inputs: Any) -> tuple[Tensor, Tensor]:
            logits, acceptance = right(inputs)
            return change(logits, acceptance, margin)

        return answers

    monkeypatch.setitem(exporting._FORMS, ".safetensors", replace(form, read=wrong))
    if not has_data:
        monkeypatch.setattr(exporting, "_problem", lambda *_: None)
        said = said if "margins" not in kind else "has other logits"
    assert said in pactl("export", run, "--to", "x.safetensors").complaint(1)
    assert not Path("x.safetensors").exists()


def test_logits_that_are_no_numbers_are_never_accepted(pactl: Call, npz: Path, tmp_path: Path) -> None:
    name = f"odd_{tmp_path.name}".replace("-", "_")
    Path(f"{name}.py").write_text(GIVES_NAN)
    network, quick = ("--model-name", f"{name}:odd"), ("--intrinsic-dim", 20, "--epochs", 5, "--lr", 0.1)
    assert pactl("train", "--dataset", f"npz:{npz}", *network, *quick, "--out", "run").code == 0
    assert pactl("bound", "run", *network, "--quant-epochs", 1, "--certify", "abstain").code == 0
    images = np.load(npz)["x_test"][:6]
    images[::2] = 255
    pixels = saved(images)
    done = pactl("predict", "run", "inputs.npy", "--json", *network)
    lines = [json.loads(line) for line in done.out.splitlines()]
    plain = [(line["label"], line["class"], line["margin"], line["abstains"]) for line in lines[::2]]
    assert plain == [(None, None, None, True)] * 3
    assert load(Path("run"), model_name=network[1]).accepts(pixels)[::2].any().item() is False
    for ending in (".safetensors", ".pt2", *([".onnx"] if HAS_ONNX else [])):
        assert pactl("export", "run", "--to", f"x{ending}", *network).code == 0
        answers, _ = opened(Path(f"x{ending}"), load(Path("run"), model_name=network[1], device="cpu"))
        assert answers(pixels)[1].tolist() == [not line["abstains"] for line in lines]
