"""Views by name: which one a run gets, and one that is added from outside by a function and a row."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from pactl_cli import catalogue
from pactl_cli.runs.settings import AUTOMATIC_PRICES

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def colour(tmp_path_factory: pytest.TempPathFactory, arrays: Any) -> Path:
    """The tiny data set in three colours."""
    path = tmp_path_factory.mktemp("colour") / "tiny.npz"
    np.savez(path, **{name: np.stack([part] * 3, -1) if part.ndim == 3 else part for name, part in arrays.items()})  # type: ignore[arg-type]
    return path


def trained(pactl: Call, tmp_path: Path, *options: object) -> tuple[str, Any]:
    """The view of a short run, and its coordinates."""
    run = tmp_path / "run"
    done = pactl("train", *options, "--epochs", 1, "--intrinsic-dim", 2, "--out", run, "--force")
    assert done.code == 0, done.err
    return yaml.safe_load((run / "config.yml").read_text())["augment"], load_file(run / "checkpoint.safetensors")["w"]


def test_colour_images_are_cropped_and_mirrored_unless_told_otherwise(
    pactl: Call, colour: Path, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_colour, grey = ("--dataset", f"npz:{colour}", "--model-name", "fc"), ("--dataset", f"npz:{npz}")
    assert trained(pactl, tmp_path, *in_colour)[0] == "crop-mirror"
    assert trained(pactl, tmp_path, *in_colour, "--augment", "none")[0] == "none"
    chosen, plain = trained(pactl, tmp_path, *grey)
    assert chosen == "none"
    for view in (name for name in catalogue.VIEWS if name != "none"):
        chosen, coordinates = trained(pactl, tmp_path, *grey, "--augment", view)
        assert chosen == view
        assert not np.array_equal(coordinates, plain)
        assert pactl("bound", tmp_path / "run", "--quant-epochs", 1).code == 0
        assert pactl("verify", tmp_path / "run").code == 0


def test_the_data_sets_row_says_its_view(
    pactl: Call, colour: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = catalogue.DATASETS["npz:"]
    monkeypatch.setitem(catalogue.DATASETS, "npz:", type(row)(**(vars(row) | {"view": "resized-crop"})))
    options = ("--dataset", f"npz:{colour}", "--model-name", "fc")
    assert trained(pactl, tmp_path, *options)[0] == "resized-crop"
    assert trained(pactl, tmp_path, *options, "--augment", "crop-mirror")[0] == "crop-mirror"


def test_numbers_have_no_view(pactl: Call, tmp_path: Path, arrays: Any) -> None:
    np.savez(tmp_path / "floats.npz", x_train=arrays["x_train"] / 7, y_train=arrays["y_train"])
    options = ("--dataset", f"npz:{tmp_path / 'floats.npz'}", "--intrinsic-dim", 2, "--epochs", 1)
    for view in ("crop-mirror", "resized-crop"):
        line = pactl("train", *options, "--augment", view, "--out", tmp_path / "run").complaint(2)
        assert f"--augment {view}" in line
        assert "--augment none" in line
    assert not (tmp_path / "run").exists()
    assert trained(pactl, tmp_path, *options)[0] == "none"
    assert trained(pactl, tmp_path, *options, "--augment", "none")[0] == "none"


@pytest.mark.parametrize("words", [("--augment", "crops"), ("--augment",), ("--no-augment",), ("--augment", "--force")])
def test_a_view_that_is_not_known(pactl: Call, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "--augment" in pactl("train", "--out", tmp_path / "run", *words).complaint(2)


# --- A view from outside ----------------------------------------------------------------------------------------------

CODE = """
import torch
from torch.nn import functional

shown = []

def tilted(draws, images, indices):
    shown.extend(indices.tolist())
    angle = draws.uniforms("angle")[indices] - 0.5
    cosine, sine, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turns = torch.stack([cosine, -sine, none, sine, cosine, none], 1).view(-1, 2, 3)
    grid = functional.affine_grid(turns, images.shape, align_corners=False)
    return functional.grid_sample(images.float(), grid, align_corners=False).round().to(images.dtype)
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of a view that is not the package's, which has a row."""
    (tmp_path / "views_from_outside.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    row = catalogue.View("tilted", "turned by half a radian at most", "views_from_outside:tilted")
    monkeypatch.setitem(catalogue.VIEWS, "tilted", row)
    yield import_module("views_from_outside")
    sys.modules.pop("views_from_outside")


def test_a_view_from_outside_needs_a_function_and_a_row(pactl: Call, npz: Path, tmp_path: Path, outside: Any) -> None:
    options = ("--dataset", f"npz:{npz}")
    chosen, coordinates = trained(pactl, tmp_path, *options, "--augment", "tilted")
    assert chosen == "tilted"
    assert sorted(outside.shown) == list(range(300)), "each example once"
    assert not np.array_equal(coordinates, trained(pactl, tmp_path, *options)[1])
    np.testing.assert_array_equal(coordinates, trained(pactl, tmp_path, *options, "--augment", "tilted")[1])
    outside.shown.clear()
    assert pactl("bound", tmp_path / "run", "--quant-epochs", 1).code == 0
    assert sorted(outside.shown) == sorted([*range(300)] * AUTOMATIC_PRICES), "in every fine-tuning, and in no count"
    assert pactl("verify", tmp_path / "run").code == 0
    assert len(outside.shown) == 300 * AUTOMATIC_PRICES
