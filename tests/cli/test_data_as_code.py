"""Data that a function of the user's own returns, and runs that were trained from Python, through the command line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from pactl_cli.api.training import train

Call = Callable[..., Any]

MINE = """
from pathlib import Path
import numpy
from torch import nn

Path("imported").touch()

def data():
    Path("called").touch()
    with numpy.load("tiny.npz") as file:
        return {"train": (file["x_train"], file["y_train"]), "test": (file["x_test"], file["y_test"])}

def loud():
    print("reading")
    return data()

def others():
    found = data()
    return found | {"train": (found["train"][0][::-1], found["train"][1])}

def no_labels():
    return data()["train"][0]

def fails():
    raise OSError("the disk is away")

def net(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes))

def other_net(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 4), nn.Linear(4, classes))
"""
QUICK = ("--model-name", "fc", "--base-width", 8, "--intrinsic-dim", 5, "--epochs", 4, "--lr", 0.1)


@pytest.fixture(autouse=True)
def _mine(tmp_path: Path, npz: Path) -> Iterator[None]:
    (tmp_path / "mine.py").write_text(MINE)
    shutil.copy(npz, tmp_path / "tiny.npz")
    sys.modules.pop("mine", None)
    yield
    sys.modules.pop("mine", None)


def forget(tmp_path: Path) -> None:
    sys.modules.pop("mine", None)
    for name in ("imported", "called"):
        (tmp_path / name).unlink()


def test_a_function_of_ones_own_is_data_like_any_other(pactl: Call, tmp_path: Path) -> None:
    run = pactl("train", "--dataset", "mine:data", *QUICK).out.strip()
    assert Path(run).name.split("-", 2)[2].startswith("mine-data-fc-")
    forget(tmp_path)
    for words in (("bound", run), ("verify", run), ("train", "--out", run, "--resume"), ("train", "--continue", run)):
        complaint = pactl(*words).complaint(2)
        assert "are code, mine:data, which is not run unasked (if you trust it: --dataset mine:data)" in complaint or (
            "no complete certificate" in complaint
        )
        assert not (tmp_path / "imported").exists(), words
    certificate = pactl("bound", run, "--dataset", "mine:data", "--quant-epochs", 1).json()
    assert certificate["dataset"] == "mine:data"
    assert (certificate["bound_examples"], certificate["test_examples"]) == (300, 100)
    assert pactl("verify", run, "--dataset", "mine:data").code == 0
    forget(tmp_path)
    assert "are code" in pactl("verify", run).complaint(2)
    assert not (tmp_path / "imported").exists()
    assert "was trained on: S differs" in pactl("verify", run, "--dataset", "mine:others").complaint(1)
    assert pactl("train", "--out", run, "--resume", "--dataset", "mine:data").out.strip() == run
    further = pactl("train", "--continue", run, "--dataset", "mine:data", "--epochs", 1)
    assert further.code == 0, further


def test_what_a_function_prints_is_no_data(pactl: Call) -> None:
    done = pactl("train", "--dataset", "mine:loud", *QUICK)
    assert done.err == "reading\n"
    assert Path(done.out.strip(), "config.yml").is_file()


def test_settings_of_a_file_name_no_data_that_the_options_do_not(pactl: Call, tmp_path: Path) -> None:
    (tmp_path / "settings.yml").write_text("dataset: mine:data\nintrinsic_dim: 5\n")
    complaint = pactl("train", "--config", "settings.yml").complaint(2)
    assert "the data of these settings are code, mine:data, which is not run unasked" in complaint
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine:no_labels", "--dataset mine:no_labels: a ndarray is not a data set with labels (give (X, y)"),
        ("mine:fails", "--dataset mine:fails fails: OSError: the disk is away (mine.py, line "),
        ("mine:absent", "--dataset mine:absent: there is no function absent in "),
        ("nowhere:data", "--dataset nowhere:data cannot be imported: ModuleNotFoundError"),
        ("python:arrays", "--dataset python:arrays stands for an object of Python (name it: --dataset MODULE:FUNCTION"),
    ],
)
def test_what_is_wrong_with_a_function_is_said(pactl: Call, tmp_path: Path, name: str, said: str) -> None:
    assert said in pactl("train", "--dataset", name).complaint(2)
    assert not (tmp_path / "runs").exists()


def test_the_shell_names_functions_where_python_handed_objects_over(pactl: Call, arrays: dict[str, Any]) -> None:
    def flat(classes: int, channels: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes))

    data, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    quick = {"intrinsic_dim": 5, "epochs": 4, "lr": 0.1}
    run = train(dataset=data, test=test, model_name=flat, **quick).path
    network, dataset = ("--model-name", "mine:net"), ("--dataset", "mine:data")
    assert "the network of" in pactl("bound", run, *dataset).complaint(2)
    hint = "(hand them over again, or name a function that returns them: --dataset MODULE:FUNCTION)"
    assert pactl("bound", run, *network).complaint(2).endswith(f"{hint}\n")
    certificate = pactl("bound", run, *network, *dataset, "--quant-epochs", 1).json()
    assert certificate["dataset"] == "python:arrays"
    assert certificate["configuration"]["model_name"] == "python:flat"
    assert pactl("verify", run, *network, *dataset).code == 0
    other = pactl("verify", run, "--model-name", "mine:other_net", *dataset)
    assert other.code == 1
    assert "is not the network that" in other.err
    assert "is not the network of" in pactl("verify", run, "--model-name", "fc", *dataset).complaint(2)
    assert pactl("train", "--out", run, "--resume", *network, *dataset).out.strip() == str(run)
    assert pactl("train", "--continue", run, *network, *dataset, "--epochs", 1).code == 0
    np.savez(
        "other.npz",
        x_train=np.random.default_rng(7).permutation(data[0].ravel()).reshape(data[0].shape),
        y_train=data[1],
    )
    onward = ("--dataset", "npz:other.npz", "--source-dataset", "mine:data", "--intrinsic-dim", 4, "--epochs", 2)
    moved = pactl("transfer", run, *network, *onward)
    assert moved.code == 0, moved
    assert pactl("bound", moved.out.strip(), *network, "--quant-epochs", 1).json()["bound_examples"] > 0
