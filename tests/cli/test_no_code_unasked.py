"""A file names no code: what a run directory or a file of settings calls its network is loaded only if it is named."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]

CODE = """
from pathlib import Path
from torch import nn

Path("imported").touch()

def build(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, classes))
"""
POOLED = CODE.replace("nn.Flatten(), nn.Linear(64, 8)", "nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64, 8)")
BUILTINS = ("os:getlogin", "this:d", "antigravity:geohash")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[str]:
    """The name of code that leaves a trace."""
    name = f"code_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CODE)
    yield f"{name}:build"
    sys.modules.pop(name, None)


@pytest.fixture
def run(pactl: Call, npz: Path, network: str) -> Path:
    """A certified run of it, in a process that has not loaded it."""
    train = ("train", "--dataset", f"npz:{npz}", "--model-name", network, *QUICK, "--train-subset", 0.8)
    assert pactl(*train, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0, "--model-name", network).code == 0
    forget(network)
    return Path("run")


QUICK = ("--intrinsic-dim", 10, "--epochs", 1, "--lr", 0.1)


def forget(network: str) -> None:
    """As if it had never been loaded."""
    sys.modules.pop(network.partition(":")[0], None)
    Path("imported").unlink(missing_ok=True)


def unfinished(run: Path) -> Path:
    """A run to go on with."""
    place = run.with_name("begun")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["stages"] = {"train": "running"}
    for name in ("checkpoint.safetensors", "metrics.jsonl", "message.bin", "bound.json"):
        manifest["files"].pop(name, None)
        (place / name).unlink(missing_ok=True)
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def settings(npz: Path, network: str) -> Path:
    """A file of settings that names it."""
    path = Path("settings.yml")
    path.write_text(f"dataset: npz:{npz}\nmodel_name: {network}\nintrinsic_dim: 10\nepochs: 1\n")
    return path


COMMANDS = ("verify", "bound", "transfer", "resume", "train", "prior")


def command_line(command: str, run: Path, npz: Path, network: str) -> tuple[object, ...]:
    """What makes the program want the network."""
    lines: dict[str, Callable[[], tuple[object, ...]]] = {
        "verify": lambda: ("verify", run),
        "bound": lambda: ("bound", run, "--quant-epochs", 0),
        "transfer": lambda: ("transfer", run, "--dataset", f"npz:{npz}", "--train-subset", -0.8, *QUICK, "--out", "t"),
        "resume": lambda: ("train", "--resume", "--out", unfinished(run)),
        "train": lambda: ("train", "--config", settings(npz, network), "--out", "new"),
        "prior": lambda: ("prior", "--config", settings(npz, network), "--out", "new"),
    }
    return lines[command]()


@pytest.mark.parametrize("command", COMMANDS)
def test_code_is_loaded_only_if_it_is_named(pactl: Call, run: Path, npz: Path, network: str, command: str) -> None:
    words = command_line(command, run, npz, network)
    line = pactl(*words).complaint(2)
    assert f"code, {network}, which is not loaded unasked (if you trust it: --model-name {network})" in line
    other = pactl(*words, "--model-name", "lenet5")
    assert other.code
    assert not Path("imported").exists()
    assert network.partition(":")[0] not in sys.modules
    assert not Path("new").exists()
    assert not Path("t").exists()
    done = pactl(*words, "--model-name", network)
    assert done.code == 0, done.err
    assert Path("imported").exists()


@pytest.mark.parametrize("command", ["report", "page", "print-config", "other name"])
def test_what_needs_no_network_loads_none(pactl: Call, run: Path, npz: Path, network: str, command: str) -> None:
    words: dict[str, tuple[object, ...]] = {
        "report": ("report", run, "--json"),
        "page": ("report", run, "--html", "page.html"),
        "print-config": ("train", "--config", settings(npz, network), "--model-name", network, "--print-config"),
        "other name": ("verify", run, "--model-name", network.replace("build", "other")),
    }
    done = pactl(*words[command])
    assert done.code == (2 if command == "other name" else 0), done.err
    assert not Path("imported").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["bound", "transfer", "resume", "train"])
def test_of_several_processes_none_loads_it(shell: Call, run: Path, npz: Path, network: str, command: str) -> None:
    words = " ".join(map(str, command_line(command, run, npz, network)))
    done = shell(f"pactl launch --cpus 2 {words}")
    assert done.code == 2, done
    assert "which is not loaded unasked" in done.complaint(2)
    assert not Path("imported").exists()
    done = shell(f"pactl launch --cpus 2 {words} --model-name {network}")
    assert done.code == 0, done
    assert Path("imported").exists()


@pytest.mark.parametrize("name", BUILTINS)
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_python_itself_is_called(
    pactl: Call,
    trained: Path,
    npz: Path,
    agree: Call,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    name: str,
) -> None:
    called = []
    monkeypatch.setattr(os, "getlogin", lambda *_: called.append(1) or "somebody")
    assert pactl("bound", trained, "--quant-epochs", 0).code == 0
    text = (trained / "config.yml").read_text()
    forged = text.replace("model_name: fc\n", f"model_name: {name}\n").replace("base_width: 16\n", "base_width: null\n")
    assert forged.count(name) == 1
    agree(trained, "config.yml", forged)
    assert "not loaded unasked" in pactl(*command_line(command, trained, npz, name)).complaint(2)
    assert not called
    assert not {"this", "antigravity"} & set(sys.modules)


def test_weights_do_not_name_code_either(pactl: Call, run: Path, npz: Path, network: str, arrays: Any) -> None:
    """A transfer's own weights say what their network is: it must be what the settings say, which nobody has named."""
    other = {name: np.roll(array, 1, -1) if array.ndim > 1 else array for name, array in arrays.items()}
    np.savez("other.npz", **other)
    transfer = ("transfer", run, "--dataset", "npz:other.npz", *QUICK, "--model-name", network, "--out", "moved")
    assert pactl(*transfer).code == 0
    assert pactl("bound", "moved", "--quant-epochs", 0, "--model-name", network).code == 0
    forget(network)
    for command in ("verify", "bound"):
        assert "not loaded unasked" in pactl(command, "moved").complaint(2)
    config = Path("moved/config.yml")
    config.write_text(config.read_text().replace(f"model_name: {network}", "model_name: fc"))
    manifest = json.loads(Path("moved/manifest.json").read_text())
    manifest["files"].pop("config.yml")
    Path("moved/manifest.json").write_text(json.dumps(manifest))
    assert "its network is not that of config.yml" in pactl("verify", "moved").complaint(1)
    assert not Path("imported").exists()


@pytest.mark.parametrize("other", [("--model-name", "fc"), ("--config", "own.yml")])
def test_a_transfer_that_is_gone_on_with_loads_none(
    pactl: Call, network: str, npz: Path, arrays: Any, other: tuple[str, str]
) -> None:
    """Its weights name code; to find out whether images of another size fit them, the network would be built."""
    Path(f"{network.partition(':')[0]}.py").write_text(POOLED)
    larger = {name: np.repeat(array, 2, -1) if array.ndim > 1 else array for name, array in arrays.items()}
    np.savez("larger.npz", **larger)  # type: ignore[arg-type]
    named = ("--model-name", network)
    assert pactl("train", "--dataset", f"npz:{npz}", *QUICK, *named, "--out", "source").code == 0
    assert pactl("transfer", "source", "--dataset", "npz:larger.npz", *QUICK, *named, "--out", "moved").code == 0
    forget(network)
    Path("own.yml").write_text("dataset: npz:larger.npz\n")
    words = ("transfer", "source", "--resume", "--out", "moved", "--dataset", "npz:larger.npz", *other)
    assert "not loaded unasked" in pactl(*words).complaint(2)
    assert not Path("imported").exists()
