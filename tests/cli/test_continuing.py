"""`train --continue RUN`: more epochs on the same S from that run's end, in a run of its own."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.training.loop import Trainer

Call = Callable[..., Any]
Tree = Callable[[Path], dict[str, tuple[int, bytes]]]

STILL = ("--epochs", 1, "--lr", 1e-9)
"""A training that changes nothing to speak of."""


def end(run: Path | str) -> dict[str, torch.Tensor]:
    """What a run has trained."""
    return load_tensors(Path(run, "checkpoint.safetensors"))[0]


def other(arrays: dict[str, np.ndarray[Any, Any]]) -> str:
    random = np.random.default_rng(1)
    images = {k: random.integers(256, size=a.shape, dtype=np.uint8) for k, a in arrays.items() if k.startswith("x")}
    np.savez("other.npz", **(arrays | images))
    return "npz:other.npz"


@pytest.fixture(params=["train", "transfer", "prior", "source"])
def run(request: Any, pactl: Call, trained: Path, arrays: Any, npz: Path) -> Path:
    """A run of each kind."""
    options = ("--epochs", 2, "--lr", 0.01, "--out", "run")
    if request.param == "train":
        return trained
    if request.param == "transfer":
        done = pactl("transfer", trained, "--dataset", other(arrays), "--intrinsic-dim", 10, *options)
    elif request.param == "prior":
        done = pactl("prior", "--dataset", f"npz:{npz}", "--intrinsic-dim", 10, *options)
    else:
        done = pactl("train", "--dataset", f"npz:{npz}", "--intrinsic-dim", 0, *options)
    assert done.code == 0, done
    return Path("run")


def test_a_run_of_any_kind_goes_on_from_its_end(pactl: Call, tree: Tree, run: Path) -> None:
    before = tree(run)
    assert pactl("train", "--continue", run, *STILL, "--out", "more").out == "more\n"
    assert tree(run) == before, "it stays as it is"
    was, now = end(run), end("more")
    assert all(torch.allclose(was[name].float(), now[name].float(), atol=1e-4) for name in was)
    kept = {"init.safetensors", "indices.npz"} & before.keys()
    assert all(Path("more", name).read_bytes() == before[name][1] for name in kept)
    manifests = [json.loads(Path(each, "manifest.json").read_text()) for each in (run, "more")]
    assert all(manifests[0][key] == manifests[1][key] for key in ("kind", "parent", "data_sha256", "train_sha256"))
    shutil.move(run, "gone")
    if "w" in was:
        assert pactl("bound", "more", "--quant-epochs", 0).code == 0
        assert pactl("verify", "more").code == 0
    else:
        assert "no message" in pactl("bound", "more").complaint(2)


def test_both_are_certified_together(pactl: Call, trained: Path) -> None:
    assert pactl("train", "--continue", trained, "--epochs", 3, "--lr", 0.05, "--augment", "none").code == 0
    [more] = Path("runs").iterdir()
    printed = pactl("bound", trained, more, "--quant-epochs", 0, "--all").json()
    assert {Path(each["run_dir"]) for each in printed} == {trained, more}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--dataset", "digits"),
        ("--intrinsic-dim", 7),
        ("--seed", 1),
        ("--train-subset", 0.5),
        ("--label-noise", 0.1),
        ("--base-width", 17),
        ("--intrinsic-mode", "dense"),
        ("--normalise", "calibration"),
        ("--duplicates", "drop"),
        ("--source", "elsewhere"),
    ],
)
def test_what_the_message_depends_on_stays(pactl: Call, trained: Path, option: str, value: object) -> None:
    assert option in pactl("train", "--continue", trained, option, value, "--out", "more").complaint(2)
    assert not Path("more").exists()


def test_the_same_may_be_said_again_and_data_lie_elsewhere(pactl: Call, trained: Path, npz: Path) -> None:
    shutil.copy(npz, "moved.npz")
    said = ("--seed", 137, "--base-width", 16, "--dataset", "npz:moved.npz")
    assert pactl("train", "--continue", trained, *said, *STILL, "--out", "more").code == 0
    assert pactl("bound", trained, "more", "--quant-epochs", 0).code == 0


def test_other_data_elsewhere_are_refused(pactl: Call, trained: Path, arrays: Any) -> None:
    done = pactl("train", "--continue", trained, "--dataset", other(arrays), *STILL, "--out", "more")
    assert "is not the one" in done.complaint(2)
    assert not Path("more").exists()


@pytest.mark.parametrize("place", ["{}", "{}/../trained"])
def test_a_run_is_not_continued_into_itself(pactl: Call, tree: Tree, trained: Path, place: str) -> None:
    before = tree(trained)
    again = ("train", "--continue", trained, *STILL, "--out", place.format(trained), "--force")
    assert "it must not change" in pactl(*again).complaint(2)
    assert tree(trained) == before


def test_a_prior_alone_has_nothing_to_train(pactl: Call, npz: Path) -> None:
    alone = ("prior", "--dataset", f"npz:{npz}", "--intrinsic-dim", 0, "--epochs", 1, "--out", "alone")
    assert pactl(*alone).code == 0
    assert "no coordinates" in pactl("train", "--continue", "alone", *STILL).complaint(2)


@pytest.mark.parametrize("thing", [3, 5, 6, 7, 9, 12, 15, 18])
def test_a_killed_one_goes_on_without_the_first(
    pactl: Call, start: Call, trained: Path, tmp_path: Path, thing: int
) -> None:
    arguments = ("train", "--continue", trained, "--epochs", 3, "--out")
    assert pactl(*arguments, "whole").code == 0
    start(*arguments, tmp_path / "again", blow=(thing, signal.SIGKILL)).end()
    manifest = json.loads(Path("again/manifest.json").read_text()) if Path("again/manifest.json").exists() else {}
    if "config.yml" in manifest.get("files", {}):
        shutil.move(trained, "gone")
    assert pactl(*arguments, "again", "--resume").code == 0
    for name in ("checkpoint.safetensors", "config.yml"):
        assert Path("again", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_neither_order_nor_views_are_repeated(pactl: Call, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    prepare = Trainer.__post_init__

    def noted(self: Trainer) -> None:
        seeds.append(self.seed)
        prepare(self)

    monkeypatch.setattr(Trainer, "__post_init__", noted)
    for before, after in ((trained, "second"), ("second", "third")):
        assert pactl("train", "--continue", before, *STILL, "--out", after).code == 0
    assert len({137, *seeds}) == 3
    assert "epochs_before: 13" in Path("third/config.yml").read_text()


def test_a_run_comes_through_a_pipe(pactl: Call, trained: Path) -> None:
    assert pactl("train", "--continue", "-", *STILL, "--out", "more", stdin=f"{trained}\n").out == "more\n"
