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
from pactl_cli.certificate.configuration import Task, complete, write_configuration

Call = Callable[..., Any]


def forget(run: Path, name: str) -> None:
    """The manifest no longer knows the file."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"].pop(name)
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["config.yml", "checkpoint.safetensors", "indices.npz", "metrics.jsonl", "message.bin"]
)
def test_a_hole_of_terabytes_is_not_read(pactl: Call, certified: Path, name: str) -> None:
    with (certified / name).open("r+b") as file:
        file.truncate(1 << 42)
    assert name in pactl("verify", certified).complaint(1)
    assert name in pactl("bound", certified).complaint(2)


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b'{"stage": "bound"}\xff\n', b"[]\n", b"9" * 5000 + b"\n", b"{}"])
def test_metrics_that_are_none_are_left_out(pactl: Call, certified: Path, agree: Call, content: bytes) -> None:
    good = (certified / "metrics.jsonl").read_bytes()
    agree(certified, "metrics.jsonl", content + good)
    assert pactl("bound", certified, "--quant-epochs", 0).code == 0
    assert content not in (certified / "metrics.jsonl").read_bytes()
    assert pactl("verify", certified).code == 0


def test_metrics_that_lie_elsewhere_are_not_written(pactl: Call, certified: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "diary.txt"
    forget(certified, "metrics.jsonl")
    (certified / "metrics.jsonl").unlink()
    (certified / "metrics.jsonl").symlink_to(elsewhere)
    assert "it is a link" in pactl("bound", certified).complaint(2)
    assert not elsewhere.exists()
    (certified / "metrics.jsonl").unlink()
    os.mkfifo(certified / "metrics.jsonl")
    assert "not a plain file" in pactl("bound", certified).complaint(2)


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
    document["side_information"]["program_version"] = ["0"] * 5000
    agree(certified, "bound.json", document)
    line = pactl("verify", certified).complaint(1)
    assert "side_information.program_version" in line
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
