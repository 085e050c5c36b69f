"""A run on one's own data where these lie elsewhere, and what of their place it tells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from pactl_cli import catalogue

Call = Callable[..., Any]
QUICK = ("--epochs", 1, "--intrinsic-dim", 10, "--base-width", 8)


@pytest.fixture
def home(tmp_path: Path, npz: Path) -> Path:
    """Where somebody's data lie; they are moved to `tmp_path / "new"` by `move`."""
    home = tmp_path / "home" / "jane-doe"
    home.mkdir(parents=True)
    shutil.copy(npz, home / "mine.npz")
    return home


def move(home: Path, name: str = "mine.npz", to: str = "other.npz") -> Path:
    (home.parents[1] / "new").mkdir(exist_ok=True)
    return (home / name).rename(home.parents[1] / "new" / to)


def test_a_name_of_its_own() -> None:
    assert catalogue.own_name("mnist") == "mnist"
    assert catalogue.own_name("npz:/home/jane/x.npz") == "npz:x.npz"
    assert catalogue.own_name("folder:/home/jane/x/") == "folder:x"
    assert catalogue.own_name("folder:.") == f"folder:{Path.cwd().name}"
    for name in ("npz:/a/x.npz", "folder:/"):
        assert catalogue.dataset_entry(catalogue.own_name(name)) == catalogue.dataset_entry(name)


def test_certified_and_verified_where_the_data_lie_now(pactl: Call, home: Path) -> None:
    assert pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", *QUICK, "--out", "run").code == 0
    data = move(home)
    assert "if they have moved: --dataset npz:PATH" in pactl("bound", "run").complaint(2)
    assert pactl("bound", "run", "--dataset", f"npz:{data}", "--quant-epochs", 1).json()["dataset"] == "npz:mine.npz"
    assert pactl("verify", "run", "--dataset", f"npz:{data}").code == 0
    arrays = dict(np.load(data))
    arrays["x_train"][7] ^= 1
    np.savez("false.npz", **arrays)
    assert "S differs" in pactl("verify", "run", "--dataset", "npz:false.npz").complaint(1)


def test_the_hint_names_what_lies_where_the_user_says(pactl: Call, home: Path) -> None:
    pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", *QUICK, "--out", "run")
    pactl("bound", "run", "--quant-epochs", 1)
    data = move(home, to="mine.npz")
    line = pactl("verify", "run", "--data-dir", data.parent).complaint(2)
    assert f"--dataset npz:{data}" in line
    assert pactl("verify", "run", "--dataset", f"npz:{data}").code == 0


def is_left_unfinished(start: Call, kind: str, command: tuple[object, ...], moment: int) -> bool:
    """Whether a run that is killed at its so-manieth write has begun and has not ended."""
    shutil.rmtree(kind, ignore_errors=True)
    start(*command, "--out", kind, blow=(moment, 9)).end()
    manifest = json.loads((Path(kind) / "manifest.json").read_text())
    return "config.yml" in manifest["files"] and manifest["stages"] == {kind: "running"}


def test_resumed_where_the_data_lie_now(pactl: Call, start: Call, home: Path) -> None:
    """Each kind of run; what it is resumed to is what it would have been."""
    pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", "--train-subset", 0.5, *QUICK, "--out", "source")
    commands = {
        "train": ("train",),
        "prior": ("prior", "--prior-epochs", 1),
        "transfer": ("transfer", "source", "--train-subset", -0.5),
    }
    options = ("--dataset", f"npz:{home / 'mine.npz'}", *QUICK[:4])
    for kind, command in commands.items():
        assert pactl(*command, *options, "--out", f"{kind}-whole").code == 0
        assert any(is_left_unfinished(start, kind, (*command, *options), moment) for moment in range(30, 4, -2))
    data = move(home)
    for kind, command in commands.items():
        done = pactl(*command, *QUICK[:4], "--dataset", f"npz:{data}", "--out", kind, "--resume")
        assert done.code == 0, done
        assert (Path(kind) / "checkpoint.safetensors").read_bytes() == (
            Path(f"{kind}-whole") / "checkpoint.safetensors"
        ).read_bytes()
    np.savez("false.npz", **{name: array[::-1] for name, array in np.load(data).items()})
    line = pactl("train", *QUICK[:4], "--dataset", "npz:false.npz", "--out", "train", "--resume").complaint(2)
    assert "false.npz is not the one" in line
    assert "differs from the run" in pactl("train", "--dataset", "digits", "--out", "train", "--resume").complaint(2)


def test_a_source_whose_data_lie_elsewhere(pactl: Call, home: Path, arrays: Any) -> None:
    pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", *QUICK, "--out", "source")
    np.savez("mine2.npz", **arrays | {"x_train": 255 - arrays["x_train"][:, ::-1]})
    data = move(home)
    transfer = ("transfer", "source", "--dataset", "npz:mine2.npz", *QUICK[:4], "--out", "run")
    assert "if they have moved: --source-dataset npz:PATH" in pactl(*transfer).complaint(2)
    assert "S differs" in pactl(*transfer, "--source-dataset", "npz:mine2.npz").complaint(2)
    assert pactl(*transfer, "--source-dataset", f"npz:{data}").code == 0
    assert pactl(*transfer, "--resume").code == 0  # the source's data are not needed again
    line = pactl("transfer", "torchvision:resnet18", "--source-dataset", "npz:mine2.npz").complaint(2)
    assert line == "pactl: --source-dataset npz:mine2.npz: torchvision:resnet18 is no run (leave it out)\n"


def test_no_run_sends_a_resumed_transfer_to_its_sources_data(pactl: Call, home: Path, arrays: Any) -> None:
    """A place in a stranger's config.yml is not one that the user named."""
    pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", *QUICK, "--out", "source")
    np.savez("mine2.npz", **arrays | {"x_train": 255 - arrays["x_train"][:, ::-1]})
    data = move(home)
    transfer = ("transfer", "source", "--dataset", "npz:mine2.npz", *QUICK[:4], "--out", "run")
    assert pactl(*transfer, "--source-dataset", f"npz:{data}").code == 0
    manifest = json.loads(Path("run/manifest.json").read_text())
    manifest["stages"], manifest["files"] = {"transfer": "running"}, {}
    Path("run/manifest.json").write_text(json.dumps(manifest))
    assert str(data) in Path("run/config.yml").read_text()
    assert "--source-dataset npz:PATH" in pactl(*transfer[:2], "--out", "run", "--resume").complaint(2)


@pytest.mark.parametrize("kind", ["train", "prior", "transfer"])
def test_nothing_but_the_settings_tells_where_somebody_lives(pactl: Call, home: Path, kind: str) -> None:
    folder = home / "pets"
    random = np.random.default_rng(0)
    for number in range(120):
        place = folder / "train" / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(place / f"{number}.png")
    model = ("--model-name", "fc", "--augment", "none")
    pactl("train", "--dataset", f"npz:{home / 'mine.npz'}", *QUICK, "--out", home / "source")
    begun = (kind, home / "source") if kind == "transfer" else (kind, *model)
    done = pactl(*begun, "--dataset", f"folder:{folder}", *QUICK[:4], "--out", home / "run")
    assert done.code == 0, done
    document = pactl("bound", home / "run", "--quant-epochs", 1).json()
    assert document["dataset"] == document["side_information"]["task"]["dataset"] == "folder:pets"
    assert 'of "folder:pets"' in document["statement"]
    if kind == "transfer":
        assert document["side_information"]["source"] == "source"
        with safe_open(home / "run" / "init.safetensors", "numpy") as file:
            assert json.loads(file.metadata()["start"])["lineage"][0]["dataset"] == "npz:mine.npz"
    telling = {file.name for file in (home / "run").iterdir() if b"jane-doe" in file.read_bytes()}
    assert telling == {"config.yml"}
    assert pactl("verify", home / "run").code == 0
