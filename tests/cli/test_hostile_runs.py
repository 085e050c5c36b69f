"""Run directories of somebody who means harm: nothing outside is touched, and no file decides how long it takes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from pactl_cli.certificate.codes import BitWriter, write_gamma
from pactl_cli.certificate.configuration import complete, write_configuration
from pactl_cli.certificate.task import Task

Call = Callable[..., Any]


def forget(run: Path, name: str) -> None:
    """The manifest no longer knows the file."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"].pop(name)
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["config.yml", "checkpoint.safetensors", "indices.npz", "metrics.jsonl"])
def test_a_hole_of_terabytes_is_not_read(pactl: Call, certified: Path, name: str) -> None:
    with (certified / name).open("r+b") as file:
        file.truncate(1 << 42)
    assert name in pactl("verify", certified).complaint(1)
    assert name in pactl("bound", certified).complaint(2)


def test_a_message_of_terabytes_is_not_read_and_not_kept(pactl: Call, certified: Path) -> None:
    with (certified / "message.bin").open("r+b") as file:
        file.truncate(1 << 42)
    assert "message.bin" in pactl("verify", certified).complaint(1)
    done = pactl("bound", certified, "--quant-epochs", 0)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert "is not kept" in done.err
    assert "message.bin" in done.err
    assert pactl("verify", certified).code == 0


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b'{"stage": "bound"}\xff\n', b"[]\n", b"9" * 5000 + b"\n", b"{}"])
def test_metrics_that_are_none_are_left_out(pactl: Call, certified: Path, agree: Call, content: bytes) -> None:
    good = (certified / "metrics.jsonl").read_bytes()
    agree(certified, "metrics.jsonl", content + good)
    assert pactl("bound", certified, "--quant-epochs", 0, "--force").code == 0
    assert content not in (certified / "metrics.jsonl").read_bytes()
    assert pactl("verify", certified).code == 0


def test_metrics_that_lie_elsewhere_are_not_written(pactl: Call, certified: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "diary.txt"
    forget(certified, "metrics.jsonl")
    (certified / "metrics.jsonl").unlink()
    (certified / "metrics.jsonl").symlink_to(elsewhere)
    assert "it is a link" in pactl("bound", certified, "--force").complaint(2)
    assert not elsewhere.exists()
    (certified / "metrics.jsonl").unlink()
    os.mkfifo(certified / "metrics.jsonl")
    assert "not a plain file" in pactl("bound", certified, "--force").complaint(2)


@pytest.mark.parametrize("name", ["message.bin", "bound.json", "classifier.safetensors", "metrics.jsonl"])
def test_a_folder_in_the_place_of_a_file_is_said_before_the_work(pactl: Call, certified: Path, name: str) -> None:
    forget(certified, name)
    (certified / name).unlink()
    (certified / name).mkdir()
    assert f"{name} is a folder, not a file" in pactl("bound", certified).complaint(2)


def test_half_of_a_surrogate_pair_is_not_taken_for_text(pactl: Call, certified: Path) -> None:
    document = json.loads((certified / "manifest.json").read_text())
    (certified / "manifest.json").write_text(json.dumps(document | {"device": "\ud800"}))
    for command in ("bound", "verify", "report"):
        assert "manifest.json is altered" in pactl(command, certified).err


def test_settings_are_not_read_through_a_pipe_or_a_link(
    pactl: Call, certified: Path, npz: Path, tmp_path: Path
) -> None:
    (certified / "config.yml").unlink()
    os.mkfifo(certified / "config.yml")
    train = ("train", "--dataset", f"npz:{npz}", "--resume", "--out", certified)
    assert "not a plain file" in pactl(*train).complaint(2)
    (certified / "config.yml").unlink()
    (tmp_path / "secret.yml").write_text("password: 1234\n")
    (certified / "config.yml").symlink_to(tmp_path / "secret.yml")
    assert "it is a link" in pactl(*train).complaint(2)


def test_resuming_never_empties_a_directory_that_a_link_leads_to(
    pactl: Call, certified: Path, npz: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    (certified / "resume").symlink_to(tmp_path / "mine")
    train = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", certified)
    assert "resume is a link" in pactl(*train, "--resume").complaint(2)
    assert "resume is a link" in pactl("bound", certified).complaint(2)
    assert pactl(*train, "--force").code == 0
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "dear"
    assert not (certified / "resume").is_symlink()


def test_a_message_does_not_decide_how_much_memory_verify_takes(pactl: Call, certified: Path, agree: Call) -> None:
    """A few bytes and a setting say that 2**26 coordinates follow; the checkpoint would have to have as many."""
    dim = 1 << 26
    settings, document = yaml.safe_load((certified / "config.yml").read_text()), certificate(certified)
    task = Task.from_dict(document["side_information"]["task"])
    configuration = complete(document["configuration"], task)
    writer = BitWriter()
    write_configuration(writer, replace(configuration, intrinsic_dim=dim), task)
    writer.write(0, 1)
    write_gamma(writer, 1)
    message = writer.to_bytes()
    document |= {"intrinsic_dim": dim, "message_sha256": sha256(message).hexdigest()}
    agree(certified, "config.yml", yaml.safe_dump(settings | {"intrinsic_dim": dim}))
    agree(certified, "message.bin", message)
    agree(certified, "bound.json", document)
    assert "checkpoint.safetensors does not hold 67,108,864" in pactl("verify", certified).complaint(1)


def certificate(run: Path) -> dict[str, Any]:
    """The document."""
    content: dict[str, Any] = json.loads((run / "bound.json").read_text())
    return content


def test_a_claim_is_not_repeated_at_any_length(pactl: Call, certified: Path, agree: Call) -> None:
    document = certificate(certified)
    document["side_information"]["source"] = ["0"] * 5000
    agree(certified, "bound.json", document)
    line = pactl("verify", certified).complaint(1)
    assert "side_information.source" in line
    assert "..." in line


@pytest.mark.parametrize("letters", ["\x1b]0;owned\x07", "\u202e", "\ud800", "\x9b31m"])
def test_a_complaint_does_nothing_to_a_terminal(pactl: Call, certified: Path, letters: str) -> None:
    manifest = json.loads((certified / "manifest.json").read_text())
    (certified / "manifest.json").write_text(json.dumps(manifest | {letters: 1}))
    for command in ("verify", "bound", "report"):
        assert pactl(command, certified).complaint(2)[:-1].isprintable()


@pytest.mark.parametrize("name", ["\x85", "\u2028", "a\u2029b", "é", "#: {"])
def test_a_path_of_any_letters_is_found_again(pactl: Call, npz: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    data = (tmp_path / name / "tiny.npz").resolve()
    data.write_bytes(npz.read_bytes())
    assert pactl("train", "--dataset", f"npz:{data}", "--epochs", 1, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    assert pactl("verify", "run").code == 0


def test_a_manifest_does_not_have_one_file_hashed_for_ever(pactl: Call, certified: Path) -> None:
    manifest = json.loads((certified / "manifest.json").read_text())
    manifest["files"] |= {f"{number}/metrics.jsonl": "0" * 64 for number in range(9000)}
    (certified / "manifest.json").write_text(json.dumps(manifest))
    for command in ("verify", "bound"):
        assert "it vouches for '0/metrics.jsonl'" in pactl(command, certified).complaint(2)


@pytest.mark.parametrize("step", [0.5, True, -1, "3", None])
def test_metrics_of_no_step_are_left_out_at_once(
    pactl: Call, certified: Path, npz: Path, quick: Any, step: object
) -> None:
    """A saved state of 10**15 steps, and a line of metrics at a step that is none."""
    from safetensors.torch import save

    manifest = json.loads((certified / "manifest.json").read_text())
    manifest["stages"], manifest["files"] = {"train": "running"}, {"config.yml": manifest["files"]["config.yml"]}
    (certified / "manifest.json").write_text(json.dumps(manifest))
    facts = {"stage": "train", "step": str(10**15), "errors": "0", "loss_sum": "0.0", "seconds": "0.0"}
    (certified / "resume").mkdir()
    (certified / "resume" / "state.safetensors").write_bytes(save({}, facts))
    (certified / "metrics.jsonl").write_text(json.dumps({"stage": "train", "step": step}) + "\n")
    train = ("train", "--dataset", f"npz:{npz}", *quick, "--train-subset", 0.9, "--out", certified, "--resume")
    assert pactl(*train).code in (0, 2)
    assert (certified / "metrics.jsonl").read_text() == ""


def test_holes_count_for_nothing(pactl: Call, certified: Path, agree: Call) -> None:
    from pactl_cli.runs.directory import RunDirectory

    before = RunDirectory.open(certified).size_bytes()
    for name in ("indices.npz", "metrics.jsonl"):
        with (certified / name).open("r+b") as file:
            file.truncate(1 << 31)
    assert RunDirectory.open(certified).size_bytes() < before + 8192
    assert "indices.npz" in pactl("verify", certified).complaint(1)


@pytest.mark.parametrize(
    "line",
    [
        "seed: !!bool x",
        'seed: !!int ""',
        "seed: !!timestamp x",
        f"lr: 1{':00' * 200}.5",  # a number to the base 60
        'dataset: "npz:/tmp/a\\0b"',
        'dataset: "folder:/a\\0b"',
    ],
)
def test_settings_of_odd_kinds(pactl: Call, certified: Path, agree: Call, line: str) -> None:
    key = line.partition(":")[0]
    lines = (certified / "config.yml").read_text().splitlines()
    agree(certified, "config.yml", "\n".join(line if old.startswith(f"{key}:") else old for old in lines) + "\n")
    assert pactl("verify", certified).code in (1, 2)
    assert pactl("bound", certified).complaint(2)


@pytest.mark.parametrize("name", ["5", "true", "[fc]", "{}"])
def test_a_network_whose_name_is_no_text(pactl: Call, certified: Path, agree: Call, npz: Path, name: str) -> None:
    settings = yaml.safe_load((certified / "config.yml").read_text())
    agree(certified, "config.yml", yaml.safe_dump(settings | {"model_name": yaml.safe_load(name)}))
    assert "--model-name" in pactl("verify", certified).complaint(1)
    assert "--model-name" in pactl("predict", certified, npz).complaint(2)
    assert "--model-name" in pactl("export", certified, "--to", "network.safetensors").complaint(2)


def test_data_whose_parts_lie_in_the_run(pactl: Call, certified: Path, agree: Call, tmp_path: Path) -> None:
    (certified / "train").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "train").symlink_to(certified / "train")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for dataset, says in ((f"folder:{tmp_path / 'outside'}", "inside itself"), (f"npz:{tmp_path / 'loop'}", "loop")):
        settings = yaml.safe_load((certified / "config.yml").read_text()) | {"dataset": dataset}
        agree(certified, "config.yml", yaml.safe_dump(settings, sort_keys=False))
        done = pactl("verify", certified)
        assert says in done.complaint(done.code)


@pytest.mark.parametrize("name", ["train_error", "test_error"])
@pytest.mark.parametrize("value", [1e308, -1e308, 2.0])
def test_an_error_that_is_no_fraction(pactl: Call, certified: Path, agree: Call, name: str, value: float) -> None:
    agree(certified, "bound.json", certificate(certified) | {name: value})
    assert name in pactl("verify", certified).complaint(1)


@pytest.mark.parametrize("noise", [1, True, "0.5", [], {}, 10**30, -1.0, 1e308])
def test_a_rate_that_is_none(pactl: Call, certified: Path, agree: Call, noise: object) -> None:
    document = certificate(certified)
    document["configuration"]["label_noise"] = noise
    agree(certified, "bound.json", document)
    assert "configuration" in pactl("report", certified, "--html", "page.html").complaint(2)
    assert pactl("verify", certified).complaint(1)
