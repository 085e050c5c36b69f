"""`pactl transfer`: weights from elsewhere, and nothing they have seen is counted."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save

from pactl_cli import catalogue
from pactl_cli.runs.checkpoint import load_tensors

Call = Callable[..., Any]
Arrays = dict[str, np.ndarray[Any, Any]]

QUICK = ("--epochs", 1, "--intrinsic-dim", 10)


def write(path: str, arrays: Arrays, **changed: Any) -> str:
    """A data set for --dataset."""
    np.savez(path, **(arrays | changed))
    return f"npz:{path}"


def other(arrays: Arrays, side: int = 8, classes: int = 3, channels: int | None = None) -> Arrays:
    """Other images of the same kind."""
    random = np.random.default_rng(1)
    shape = (side, side) if channels is None else (side, side, channels)
    return {
        name: random.integers(256, size=(len(values), *shape), dtype=np.uint8)
        if name.startswith("x")
        else np.arange(len(values)) % classes
        for name, values in arrays.items()
    }


def shared(pactl: Call, source: Path | str, dataset: str, *options: object) -> dict[str, Any]:
    """The certificate of a transfer, verified after the source has gone."""
    done = pactl("transfer", source, "--dataset", dataset, *QUICK, *options, "--out", "run")
    assert (done.code, done.out) == (0, "run\n"), done
    document: dict[str, Any] = pactl("bound", "run", "--quant-epochs", 1).json()
    Path(source).rename(f"{source}-gone")
    assert pactl("verify", "run").code == 0
    return document


def test_a_transfer_to_other_data_of_the_same_kind(pactl: Call, trained: Path, arrays: Arrays) -> None:
    document = shared(pactl, trained, write("other.npz", other(arrays)))
    assert document["bound_examples"] == 300
    assert document["side_information"]["theta0_sha256"]
    assert document["side_information"]["excluded_examples"] == 0
    assert any("theta0" in line and f'"{trained.name}"' in line for line in document["assumptions"])


@pytest.mark.parametrize(("side", "classes", "channels"), [(8, 5, None), (8, 3, 3), (6, 3, None), (7, 2, 3)])
def test_a_transfer_to_other_shapes(
    pactl: Call, trained: Path, arrays: Arrays, side: int, classes: int, channels: int | None
) -> None:
    document = shared(pactl, trained, write("other.npz", other(arrays, side, classes, channels)))
    assert document["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [1, 8, 8]
    assert document["side_information"]["classes"] == classes


def test_colour_to_grey_and_another_size_with_batch_statistics(pactl: Call, arrays: Arrays) -> None:
    colour = write("colour.npz", other(arrays, 8, 3, 3))
    layer13s = ("--model-name", "layer13s", "--base-width", 1)
    assert pactl("train", "--dataset", colour, *layer13s, *QUICK, "--normalise", "fixed", "--out", "source").code == 0
    grey = write("grey.npz", other(arrays, 12))
    assert pactl("transfer", "source", "--dataset", grey, *QUICK, "--image-size", 12, "--out", "larger").code == 0
    larger = pactl("bound", "larger", "--quant-epochs", 1).json()
    document = shared(pactl, "source", grey)
    for found, side in ((larger, 12), (document, 8)):
        assert found["side_information"]["inputs"]["tensors"]["inputs"]["shape"] == [3, side, side]
        assert found["configuration"]["image_size"] == side
    assert larger["bits"]["configuration"] > document["bits"]["configuration"], "the source's own size is known"
    assert document["configuration"]["calibration_examples"] == 30


def test_the_sources_statistics_can_stay(pactl: Call, arrays: Arrays) -> None:
    layer13s = ("--model-name", "layer13s", "--base-width", 1)
    assert pactl("train", "--dataset", write("one.npz", other(arrays)), *layer13s, *QUICK, "--out", "source").code == 0
    document = shared(pactl, "source", write("two.npz", arrays), "--calibration-examples", 0)
    assert (document["bound_examples"], document["configuration"]["calibration_examples"]) == (300, 0)


def test_what_the_source_has_seen_is_not_counted(pactl: Call, trained: Path, arrays: Arrays) -> None:
    mixed = other(arrays)
    with np.load(trained / "indices.npz") as parts:
        mixed["x_train"][[5, 17, 200]] = arrays["x_train"][parts["bound"][:3]]
    document = shared(pactl, trained, write("mixed.npz", mixed))
    with np.load("run/indices.npz") as parts:
        assert parts["excluded"].tolist() == [5, 17, 200]
    assert document["bound_examples"] == 297
    assert document["side_information"]["excluded_examples"] == 3
    assert any("removed" in line for line in document["assumptions"])


def test_a_run_goes_on_with_what_it_has_not_seen(pactl: Call, trained: Path, npz: Path) -> None:
    document = shared(pactl, trained, f"npz:{npz}", "--train-subset", -0.9)
    assert document["bound_examples"] == 30


def test_a_chain_remembers_what_its_first_link_has_seen(pactl: Call, trained: Path, npz: Path, arrays: Arrays) -> None:
    second = write("second.npz", other(arrays))
    assert pactl("transfer", trained, "--dataset", second, *QUICK, "--out", "second").code == 0
    complaint = pactl("transfer", "second", "--dataset", f"npz:{npz}", "--train-subset", 0.9, *QUICK).complaint(2)
    assert "none left to count" in complaint


def test_an_empty_sample_is_an_error(pactl: Call, trained: Path, npz: Path) -> None:
    done = pactl("transfer", trained, "--dataset", f"npz:{npz}", "--train-subset", 0.9, *QUICK, "--out", "run")
    assert "trained on all" in done.complaint(2)
    assert not Path("run").exists()


def test_all_weights_of_a_source(pactl: Call, npz: Path, arrays: Arrays) -> None:
    full = ("--dataset", f"npz:{npz}", "--intrinsic-dim", 0, "--epochs", 1, "--lr", 0.001, "--out", "full")
    assert pactl("train", *full).code == 0
    assert "no message" in pactl("bound", "full").complaint(2)
    document = shared(pactl, "full", write("other.npz", other(arrays)))
    assert document["message_bits"] == 1, "labels drawn at random are not worth a bit"
    assert load_tensors(Path("run/checkpoint.safetensors"))[0]["w"].shape == (10,)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--model-name", "lenet5"), "--model-name"),
        (("--base-width", 7), "--base-width"),
        (("--weights", "x.pth"), "--weights x.pth: a run directory has weights of its own"),
        (("--head", "5"), "--head 5: a run directory has a head of its own"),
        (("--intrinsic-mode", "film", "--intrinsic-dim", 10**6), "--intrinsic-dim"),
    ],
)
def test_what_does_not_fit_the_source(
    pactl: Call, trained: Path, arrays: Arrays, options: tuple[object, ...], says: str
) -> None:
    dataset = write("other.npz", other(arrays))
    assert says in pactl("transfer", trained, "--dataset", dataset, *options, "--out", "run").complaint(2)
    assert not Path("run").exists()


def test_images_of_a_size_that_the_weights_are_not_for(pactl: Call, trained: Path, arrays: Arrays) -> None:
    dataset = write("large.npz", other(arrays, 9))
    line = pactl("transfer", trained, "--dataset", dataset, *QUICK, "--image-size", 9).complaint(2)
    assert "9 x 9" in line
    assert "(--image-size 8)" in line
    assert shared(pactl, trained, dataset)["configuration"]["image_size"] == 8


@pytest.mark.parametrize("source", ["absent", "torchvision:resnet19", "torchvision:layer13s"])
def test_sources_that_are_none(pactl: Call, npz: Path, source: str) -> None:
    assert source.partition(":")[2] in pactl("transfer", source, "--dataset", f"npz:{npz}").complaint(2)


# --- torchvision ------------------------------------------------------------------------------------------------------

NETWORK = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in torchvision's own form, for seven classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(torchvision.models.get_model(NETWORK, weights=None, num_classes=7).state_dict(), path)
    return path


def test_weights_in_torchvisions_form(pactl: Call, weights: Path, arrays: Arrays) -> None:
    dataset = write("colour.npz", {name: values[:60] for name, values in other(arrays, 32, 3, 3).items()})
    options = ("--weights", weights, "--epochs", 1, "--intrinsic-dim", 5, "--out", "run")
    assert pactl("transfer", f"torchvision:{NETWORK}", "--dataset", dataset, *options).code == 0
    document = pactl("bound", "run", "--quant-epochs", 0).json()
    assert document["configuration"]["model_name"] == NETWORK
    assert document["configuration"]["normalisation"][0] == [0.485, 0.456, 0.406]
    assert document["bits"]["configuration"] <= 20, "the source's normalisation is known, not sent"
    assert any("available to compare" in line for line in document["assumptions"])
    assert pactl("verify", "run").code == 0
    tensors, _ = load_tensors(Path("run/init.safetensors"))
    assert "network/fc.weight" not in tensors
    original = torch.load(weights)
    assert all(torch.equal(tensors[f"network/{name}"], t) for name, t in original.items() if not name.startswith("fc."))


@pytest.mark.parametrize("content", [b"", b"no weights", b"hi", "pickle", "list"])
def test_weights_that_are_none(pactl: Call, npz: Path, tmp_path: Path, content: Any) -> None:
    path = tmp_path / "bad.pth"
    if content == "pickle":
        path.write_bytes(pickle.dumps(os.system))
    elif content == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    done = pactl("transfer", f"torchvision:{NETWORK}", "--weights", path, "--dataset", f"npz:{npz}", "--out", "run")
    line = done.complaint(2)
    assert "--weights" in line
    assert content != b"hi" or "it is truncated, or not what torch.save writes" in line  # torch says 105
    assert not Path("run").exists()


def test_weights_of_another_network(pactl: Call, npz: Path, weights: Path) -> None:
    done = pactl("transfer", "torchvision:resnet18", "--weights", weights, "--dataset", f"npz:{npz}")
    assert "resnet18" in done.complaint(2)


def test_weights_that_cannot_be_fetched(pactl: Call, npz: Path) -> None:
    assert "--weights" in pactl("transfer", f"torchvision:{NETWORK}", "--dataset", f"npz:{npz}").complaint(2)


# --- What a review found ----------------------------------------------------------------------------------------------


@pytest.fixture
def transferred(pactl: Call, trained: Path, arrays: Arrays) -> Path:
    """A certified transfer."""
    dataset = write("other.npz", other(arrays))
    assert pactl("transfer", trained, "--dataset", dataset, *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    return Path("run")


def spec(kind: object, shape: list[Any], dtype: str = "uint8") -> dict[str, Any]:
    return {"kind": kind, "tensors": {"inputs": {"shape": shape, "dtype": dtype}}}


@pytest.mark.parametrize(
    "facts",
    [
        {"model_name": "evil:call"},
        {"model_name": 5},
        {"model_name": None},
        {"base_width": 10**9},
        {"classes": -3},
        {"spec": 3},
        *({"spec": spec("image", shape)} for shape in ([float("inf"), 8, 8], [1, 8, 10**9], [True, 8, 8], [0, 8, 8])),
        *({"spec": spec(kind, [1, 8, 8])} for kind in ("features", "tokens", "mapping", "film", 5)),
        {"spec": spec("features", [1 << 40])},
        {"spec": spec("image", [1, 8, 8], dtype="object")},
        {"spec": {"kind": "mapping", "tensors": {}}},
        {"spec": {"kind": "mapping", "tensors": {str(i): {"shape": [1], "dtype": "int64"} for i in range(33)}}},
        {"statistics": [[10**400], [1]]},
        {"statistics": [[0.5] * 5, [0.5] * 5]},
        {"origin": "here\n  All of this was checked."},
        {"head": 3},
        {"configured": {"seed": 3}},
        {"configured": {"normalisation": None, "intrinsic_dim": 20}},
    ],
)
def test_hostile_facts_of_the_start(pactl: Call, transferred: Path, agree: Call, facts: dict[str, Any]) -> None:
    Path("evil.py").write_text("raise SystemExit('loaded')\n")
    tensors, metadata = load_tensors(transferred / "init.safetensors")
    metadata["start"] = json.dumps(json.loads(metadata["start"]) | facts)
    agree(transferred, "init.safetensors", save(tensors, metadata))
    assert "init.safetensors" in pactl("verify", transferred).complaint(1)
    assert pactl("bound", transferred).code == 2


def test_constants_of_the_very_data_are_paid_for(pactl: Call, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source may have been normalised by statistics of the data that are counted now."""
    monkeypatch.setitem(catalogue.DATASETS, "npz:", replace(catalogue.DATASETS["npz:"], published=((0.25,), (0.3,))))
    dataset = write("other.npz", other(arrays))
    options = (*QUICK, "--normalise", "published", "--train-subset", 0.5, "--out", "source")
    assert pactl("train", "--dataset", dataset, *options).code == 0
    again = ("transfer", "source", "--dataset", dataset, *QUICK, "--train-subset", -0.5, "--out", "run")
    assert pactl(*again).code == 0
    document = pactl("bound", "run", "--quant-epochs", 0).json()
    assert document["configuration"]["normalisation"] == [[0.25], [0.3]]
    assert document["bits"]["configuration"] >= 28
    assert pactl("verify", "run").code == 0


def test_calibration_sets_cannot_be_chosen_through_permutations(pactl: Call, npz: Path) -> None:
    layer13s = ("--model-name", "layer13s", "--base-width", 1)
    for seed in (1, 2):
        assert pactl("permute", "--dataset", f"npz:{npz}", "--seed", seed, "--out", f"{seed}.npy").code == 0
        run = ("train", "--dataset", f"npz:{npz}", *layer13s, *QUICK, "--indices-path", f"{seed}.npy", "--out", seed)
        assert pactl(*run).code == 0
    assert "calibration" in pactl("bound", 1, 2, "--quant-epochs", 0).complaint(2)
    assert pactl("bound", 1, 1, "--quant-epochs", 0).code == 0


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "init.safetensors"])
def test_a_pipe_in_the_place_of_a_file(pactl: Call, transferred: Path, name: str) -> None:
    (transferred / name).unlink()
    os.mkfifo(transferred / name)
    assert name in pactl("verify", transferred).complaint(1)


def test_tied_weights_can_be_saved(pactl: Call, npz: Path) -> None:
    Path("tied.py").write_text(
        "from torch import nn\n\n\ndef net(classes, channels):\n"
        "    middle = nn.Linear(64, 64)\n"
        "    return nn.Sequential(nn.Flatten(), middle, nn.ReLU(), middle, nn.Linear(64, classes))\n"
    )
    run = ("prior", "--dataset", f"npz:{npz}", "--model-name", "tied:net", *QUICK, "--prior-epochs", 1, "--out", "run")
    assert pactl(*run).code == 0
    assert pactl("bound", "run", "--quant-epochs", 0, "--model-name", "tied:net").code == 0
    assert pactl("verify", "run", "--model-name", "tied:net").code == 0


@pytest.mark.parametrize("name", ["\x85", "\u2028", "\udcff", "é"])
def test_a_source_whose_data_have_a_name_of_any_letters(pactl: Call, arrays: Arrays, name: str) -> None:
    Path(name).mkdir()
    assert pactl("train", "--dataset", write(f"{name}/own.npz", arrays), *QUICK, "--out", "source").code == 0
    assert pactl("transfer", "source", "--dataset", write("other.npz", other(arrays)), *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    assert pactl("verify", "run").code == 0
