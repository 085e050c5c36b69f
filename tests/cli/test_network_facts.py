"""What a receiver must know of a network, and who defines it: recorded, assumed, compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

NETWORK = "shufflenet_v2_x0_5"
HERE = f"torchvision {version('torchvision')}"


@pytest.fixture(scope="module")
def _certified_once(tmp_path_factory: pytest.TempPathFactory, quiet: Call) -> Path:
    place = tmp_path_factory.mktemp("torchvision")
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    noisy = random.random((3, 32, 32))[labels] + 0.1 * random.standard_normal((60, 32, 32))
    np.savez(place / "images.npz", x_train=(255 * noisy.clip(0, 1)).astype(np.uint8), y_train=labels)
    network = ("--dataset", f"npz:{place / 'images.npz'}", "--model-name", NETWORK, "--intrinsic-dim", 10)
    quiet("train", *network, "--epochs", 1, "--batch-size", 60, "--out", place / "run")
    quiet("bound", place / "run", "--quant-epochs", 0)
    return place / "run"


@pytest.fixture
def run(_certified_once: Path, tmp_path: Path) -> Path:
    """A certified run of a network of torchvision's."""
    return Path(shutil.copytree(_certified_once, tmp_path / "run"))


def certificate(run: Path) -> dict[str, Any]:
    """The document."""
    content: dict[str, Any] = json.loads((run / "bound.json").read_text())
    return content


def test_a_certificate_says_what_its_network_is(run: Path) -> None:
    document = certificate(run)
    network = document["side_information"]["network"]
    assert network["defined_by"] == HERE
    assert len(network["weights_sha256"]) == 64
    assert len(network["answers"]) == 6
    assert np.isfinite(network["answers"]).all()
    sentence = f"The network {NETWORK} is what {HERE} defines; that version was not chosen by looking at the examples."
    assert sentence in document["assumptions"]


@pytest.mark.parametrize("network", ["torchvision's", "our own"])
def test_what_is_known_of_the_task_is_assumed(run: Path, certified: Path, network: str) -> None:
    document = certificate(run if network == "torchvision's" else certified)
    said = "\n".join(document["assumptions"])
    assert "which number stands for which class" in said
    assert "how inputs are written as numbers (scale, inversion, the order of channels or columns)" in said
    assert f'the name of the data set ("{document["dataset"]}"' in said
    assert ("torchvision" in said) == (network == "torchvision's")


def test_our_own_networks_are_defined_by_our_own_version(certified: Path) -> None:
    network = certificate(certified)["side_information"]["network"]
    assert network["defined_by"].startswith("pactl ")
    assert len(network["answers"]) == 6


@pytest.mark.parametrize(
    "facts",
    [
        {"weights_sha256": "0" * 64},
        {"answers": [0.1, 0.2, 0.3, -0.1, -0.2, -0.3]},
        {"answers": None},
        {"answers": []},
        {"defined_by": "pactl 9.9"},
    ],
)
def test_another_network_of_the_same_name(pactl: Call, run: Path, agree: Call, facts: dict[str, Any]) -> None:
    """As another version of torchvision might define it; all that speaks of it agrees."""
    document = certificate(run)
    facts = {"defined_by": "torchvision 9.9"} | facts
    document["side_information"]["network"] |= facts
    text = json.dumps(document).replace(f"is what {HERE} defines", f"is what {facts['defined_by']} defines")
    agree(run, "bound.json", json.loads(text))
    line = pactl("verify", run).complaint(1)
    assert f'"{facts["defined_by"]}" defined it, here it is {HERE}' in line
    assert "use that version" in line


@pytest.mark.parametrize("everywhere", [True, False])
def test_the_same_network_of_another_version_is_the_same(pactl: Call, run: Path, agree: Call, everywhere: bool) -> None:
    """Only the number of the version differs, in the facts and in the sentence that is made from them."""
    document = certificate(run)
    document["side_information"]["network"]["defined_by"] = "torchvision 9.9"
    text = json.dumps(document)
    if everywhere:
        text = text.replace(f"is what {HERE} defines", "is what torchvision 9.9 defines")
    agree(run, "bound.json", json.loads(text))
    if everywhere:
        assert pactl("verify", run).code == 0
    else:
        assert "assumptions" in pactl("verify", run).complaint(1)


def test_rounding_does_not_make_another_network(pactl: Call, run: Path, agree: Call) -> None:
    document = certificate(run)
    answers = document["side_information"]["network"]["answers"]
    document["side_information"]["network"]["answers"] = [answer * (1 + 1e-5) for answer in answers]
    agree(run, "bound.json", document)
    assert pactl("verify", run).code == 0


@pytest.mark.parametrize(
    "facts", [{}, None, [], {"defined_by": "x\ny", "weights_sha256": "", "answers": []}, {"defined_by": "x" * 5000}]
)
def test_facts_that_are_none(pactl: Call, run: Path, agree: Call, facts: Any) -> None:
    document = certificate(run)
    document["side_information"]["network"] = facts
    agree(run, "bound.json", document)
    assert "bound.json" in pactl("verify", run).complaint(1)
