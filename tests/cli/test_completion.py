"""Shell completion: the words that a shell is offered when Tab is pressed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pactl_cli import catalogue
from pactl_cli.commands.completion import run_directory


def offered(line: str) -> list[str]:
    """Return the words that bash is offered at the end of a line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_PACTL_COMPLETE": "complete_bash"}
    script = (
        "import sys; sys.argv = ['pactl']\n"
        "from pactl_cli.commands.app import main\n"
        "try: main()\n"
        "finally: print(*{'torch', 'sklearn', 'scipy'} & sys.modules.keys(), file=sys.stderr, end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | asked, capture_output=True, text=True, check=True
    )
    assert done.stderr == "", "a heavy package was imported"
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pactl ver", ["verify"]),
        ("pactl train --dataset cifar", ["cifar10", "cifar100"]),
        ("pactl permute --dataset ti", ["tiny-imagenet"]),
        ("pactl prior --model-name resnet1", [name for name in catalogue.MODELS if name.startswith("resnet1")]),
        ("pactl train --intrinsic-mode film", [name for name in catalogue.PROJECTORS if name.startswith("film")]),
        ("pactl train --optimizer sgd", [name for name in catalogue.RECIPES if name.startswith("sgd")]),
        ("pactl train --augment ", list(catalogue.VIEWS)),
        ("pactl train --precision bf", ["bf16"]),
        ("pactl bound --codebook ", ["grid", "kmeans", "bins"]),
        ("pactl transfer torchvision:vgg19", ["torchvision:vgg19", "torchvision:vgg19_bn"]),
        ("pactl launch --cpus 2 tr", ["train", "transfer"]),
    ],
)
def test_names(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


@pytest.mark.parametrize("command", ["bound", "verify", "report", "transfer"])
def test_run_directories(command: str, tmp_path: Path) -> None:
    for run in ("runs/a", "runs/b", "other/deep/c", ".hidden/d", "runs/a/inside"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "manifest.json").touch()
    (tmp_path / "runs" / "empty").mkdir()
    assert offered(f"pactl {command} ru") == ["runs/a", "runs/b"]
    assert offered(f"pactl {command} {tmp_path}/other/") == [f"{tmp_path}/other/deep/c"]


def test_a_large_tree_is_not_searched_to_its_end(tmp_path: Path) -> None:
    for number in range(2100):
        (tmp_path / f"{number:04}").mkdir()
    (tmp_path / "2099" / "manifest.json").touch()
    assert run_directory(f"{tmp_path}/") == []
    assert run_directory(f"{tmp_path}/2099/") == []
