"""What stays at theta0 - `--intrinsic-mode head`, `--freeze`, `--lora-rank` - through every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.problem import Problem
from pactl_cli.problem.reloading import reload_problem, restore
from pactl_cli.runs.checkpoint import load_tensors
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.training.features import TrainingInputs, features_of

Call = Callable[..., Any]

NETS = """
import torch
from torch import nn

class Attending(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.encoder(self.embed(images[:, 0])).mean(1))

def attending(classes, channels):
    return Attending(classes)
"""
SHORT = ("--epochs", 2, "--intrinsic-dim", 20)
LONG = ("--epochs", 20, "--intrinsic-dim", 20, "--lr", 0.1)
"""Learns enough for a message to be worth its bits: were it not, silence would be certified, and no part."""


def problem_of(run: Path, model: str | None = None) -> Problem:
    return reload_problem(RunDirectory.open(run), Named(model_name=model), "cpu", Silence())


def moved(run: Path, model: str | None = None) -> set[str]:
    """The weights that a trained run has moved, by the network's own names."""
    problem = problem_of(run, model)
    module = problem.build_module()
    before = {name: p.clone() for name, p in problem.blueprint.network().named_parameters()}
    restore(module, RunDirectory.open(run))
    network = problem.classifier(module, module.w.detach()).network
    return {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}


def certified(pactl: Call, run: Path, *options: object) -> Any:
    """The certificate of a run, which verifies."""
    done = pactl("bound", run, "--quant-epochs", 2, *options)
    assert done.code == 0, done
    assert pactl("verify", run, *options).code == 0
    return done.json()


@pytest.mark.parametrize(
    ("options", "names", "bits"),
    [
        (("--model-name", "convnet", "--intrinsic-mode", "head"), ["13.weight", "13.bias"], 9),
        (("--model-name", "convnet", "--freeze", r"^[^1]|^1\."), ["13.weight", "13.bias"], 94),
        (("--model-name", "fc", "--freeze", "weight"), ["1.bias", "3.bias", "5.bias"], 61),
        (("--model-name", "fc", "--lora-rank", 2), ["1.weight", "3.weight", "5.weight", "5.bias"], 12),
        (
            ("--model-name", "fc", "--lora-rank", 2, "--freeze", "^3", "--intrinsic-mode", "fastfood"),
            ["1.weight", "5.weight", "5.bias"],
            39,
        ),
    ],
    ids=str,
)
def test_what_stays_stays_and_is_paid_for(
    pactl: Call, npz: Path, tmp_path: Path, options: tuple[object, ...], names: list[str], bits: int
) -> None:
    data = ("--dataset", f"npz:{npz}", *LONG)
    assert pactl("train", *data, *options, "--out", tmp_path / "run").code == 0
    assert moved(tmp_path / "run") == set(names)
    found = certified(pactl, tmp_path / "run")
    assert pactl("train", *data, *options[:2], "--out", tmp_path / "all").code == 0
    plain = certified(pactl, tmp_path / "all")
    assert found["intrinsic_dim"] == plain["intrinsic_dim"] == 20
    assert found["bits"]["configuration"] == plain["bits"]["configuration"] + bits
    for name in ("freeze", "lora_rank", "intrinsic_mode"):
        option = f"--{name.replace('_', '-')}"
        given = options[options.index(option) + 1] if option in options else plain["configuration"][name]
        assert found["configuration"][name] == given


@pytest.mark.parametrize("command", ["prior", "transfer"])
def test_the_same_in_prior_and_transfer(pactl: Call, npz: Path, tmp_path: Path, command: str) -> None:
    data = ("--dataset", f"npz:{npz}")
    first = "run" if command == "prior" else "source"
    freeze = ("--freeze", r"^1\.", "--model-name", "fc")
    options = ("--prior-epochs", 2) if command == "prior" else ("--intrinsic-dim", 0)
    kind = "prior" if command == "prior" else "train"
    assert pactl(kind, *data, *SHORT, *options, *freeze, "--out", tmp_path / first).code == 0
    if command == "transfer":
        source = (tmp_path / "source", "--source-dataset", f"npz:{npz}")
        done = pactl("transfer", *source, "--dataset", "digits", *SHORT, *freeze[:2], "--out", tmp_path / "run")
        assert done.code == 0, done
    assert moved(tmp_path / "run") == {"3.weight", "3.bias", "5.weight", "5.bias"}
    certified(pactl, tmp_path / "run")
    begun = problem_of(tmp_path / first).blueprint
    weights, _ = load_tensors(
        tmp_path / first / ("init.safetensors" if command == "prior" else "checkpoint.safetensors")
    )
    drawn = begun.__class__(begun.configuration, begun.classes, begun.spec).network().state_dict()
    prefix = "network/" if command == "prior" else ""
    assert torch.equal(weights[f"{prefix}1.weight"], drawn["1.weight"])
    assert not torch.equal(weights[f"{prefix}3.weight"], drawn["3.weight"])


def test_low_rank_of_a_network_of_the_users_own(pactl: Call, npz: Path, tmp_path: Path) -> None:
    """Its attention has a fast way in evaluation mode, in which no layer is called."""
    (tmp_path / "attention_nets.py").write_text(NETS)
    model = ("--model-name", "attention_nets:attending")
    options = ("--dataset", f"npz:{npz}", *SHORT, *model, "--lora-rank", 2)
    done = pactl("train", *options, "--out", tmp_path / "run")
    assert done.code == 0, done
    layers = ("self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight")
    expected = {"embed.weight", "head.weight", "head.bias", *(f"encoder.{name}" for name in layers)}
    assert moved(tmp_path / "run", model[1]) == expected
    certified(pactl, tmp_path / "run", *model)


def note_inputs(monkeypatch: pytest.MonkeyPatch) -> list[TrainingInputs]:
    """What is trained on from now on, where the head is alone."""
    found_inputs: list[TrainingInputs] = []

    def noted(*arguments: Any) -> TrainingInputs:
        found_inputs.append(features_of(*arguments))
        return found_inputs[-1]

    monkeypatch.setattr("pactl_cli.stages.training_inputs.features_of", noted)
    return found_inputs


@pytest.mark.parametrize("dim", [20, 0])
def test_features_train_as_inputs_do(
    pactl: Call, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dim: int
) -> None:
    """The same numbers are trained to the same values, by way of a network that is evaluated at every step."""
    options = ("--dataset", f"npz:{npz}", "--model-name", "layer13s", "--epochs", 3, "--intrinsic-dim", dim)
    mode = ("--intrinsic-mode", "head") if dim else ("--freeze", "^(?!30)")
    kinds, found_inputs = [], note_inputs(monkeypatch)
    for place, free in (("features", 1 << 30), ("inputs", 0)):
        monkeypatch.setattr("pactl_cli.stages.training_inputs._free_bytes", lambda device, free=free: free)
        done = pactl("train", *options, *mode, "--out", tmp_path / place)
        assert done.code == 0, done
        kinds.append(load_tensors(tmp_path / place / "checkpoint.safetensors")[0])
    assert [(inputs.head, inputs.is_still) for inputs in found_inputs] == [("30", True), (None, True)]
    assert kinds[0].keys() == kinds[1].keys()
    for name, tensor in kinds[0].items():
        torch.testing.assert_close(tensor, kinds[1][name], rtol=1e-3, atol=1e-4)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "features" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_a_run_goes_on_from_features(pactl: Call, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved with features is gone on with where there is no room for them."""
    from pactl_cli.stages.train import RunObserver

    options = ("--dataset", f"npz:{npz}", "--model-name", "layer13s", "--intrinsic-mode", "head", *SHORT)
    assert pactl("train", *options, "--out", tmp_path / "whole").code == 0
    save = RunObserver.save

    def save_and_stop(self: RunObserver, state: Any) -> None:
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunObserver, "save", save_and_stop)
        assert pactl("train", *options, "--out", tmp_path / "run").code == 130
    monkeypatch.setattr("pactl_cli.stages.training_inputs._free_bytes", lambda device: 0)
    done = pactl("train", *options, "--out", tmp_path / "run", "--resume")
    assert done.code == 0, done
    runs = [load_tensors(tmp_path / name / "checkpoint.safetensors")[0]["w"] for name in ("whole", "run")]
    torch.testing.assert_close(*runs, rtol=1e-3, atol=1e-4)


def test_a_view_takes_no_features(pactl: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_inputs = note_inputs(monkeypatch)
    options = ("--model-name", "layer13s", "--intrinsic-mode", "head", *SHORT, "--train-subset", 0.2)
    for view in ("none", "crop-mirror"):
        done = pactl("train", *options, "--augment", view, "--out", tmp_path / view)
        assert (done.code, done.err) == (0, "")
    assert pactl("bound", tmp_path / "none", "--quant-epochs", 1).code == 0
    assert [(inputs.head, inputs.is_still) for inputs in found_inputs] == [("30", True), (None, True), ("30", True)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--freeze", "("), "not closed"),
        (("--freeze", "a{2}"), "no meaning"),
        (("--freeze", "x" * 201), "201 bytes"),
        (("--freeze", "nothing"), "fits no weight"),
        (("--freeze", ""), ""),
        (("--freeze", "."), "fits every weight"),
        (("--freeze", "^5", "--intrinsic-mode", "head"), "no head to train"),
        (("--intrinsic-mode", "head", "--intrinsic-dim", 604), "which is 603"),
        (("--lora-rank", 65), "1.weight, which is 200 x 64"),
        (("--lora-rank", 2, "--intrinsic-dim", 0), "for a subspace"),
        (("--lora-rank", 2, "--model-name", "layer13s"), "no dense layer"),
        (("--lora-rank", 2, "--intrinsic-mode", "head"), "no dense layer"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(
    pactl: Call, npz: Path, tmp_path: Path, options: tuple[object, ...], complaint: str
) -> None:
    done = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, *options, "--out", tmp_path / "run")
    if not complaint:
        assert done.code == 0
        return
    assert complaint in done.complaint(2)
    assert not (tmp_path / "run").exists()


TRAPS = ("(a+)+$", "(?!.*.*!)" * 20, "((((((((w*)*)*)*)*)*)*)*)*!", "(.|.)" * 38, "(", "\x00")


@pytest.mark.parametrize("pattern", TRAPS)
def test_a_strangers_pattern_is_no_trap(pactl: Call, certified: Path, agree: Call, pattern: str) -> None:
    config = yaml.safe_load((certified / "config.yml").read_text())
    agree(certified, "config.yml", yaml.safe_dump(config | {"freeze": pattern}, allow_unicode=True))
    for command, code in (("verify", 1), ("bound", 2)):
        line = pactl(command, certified).complaint(code)
        assert "freeze" in line or "config.yml" in line
