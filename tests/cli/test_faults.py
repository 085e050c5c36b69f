"""Misfortunes of a run directory and of a shell; docs/reliability.md has them all."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

Call = Callable[..., Any]


def wait_for(path: Path) -> None:
    """Returns once it is there."""
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.002)


@pytest.fixture
def endless(npz: Path, quick: tuple[object, ...]) -> tuple[object, ...]:
    """A training that goes on until it is stopped, but for `--out`."""
    return ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", 100_000, "--out")


# --- Two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--resume",), ("--force",)])
def test_a_second_training_keeps_out_until_the_first_has_died(
    start: Call, pactl: Call, endless: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    first = start(*endless, run)
    wait_for(run / "metrics.jsonl")
    line = pactl(*endless, run, *options).complaint(2)
    assert str(run) in line
    assert "in use" in line
    first.signal(signal.SIGKILL)
    first.end()
    assert (run / "config.yml").exists()
    (run / "metrics.jsonl").unlink()
    again = start(*endless, run, *(options or ("--resume",)))
    wait_for(run / "metrics.jsonl")
    again.signal(signal.SIGINT)
    assert again.end().code == 130


def test_two_that_begin_at_once_do_not_share_a_directory(start: Call, endless: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = [start(*endless, run) for _ in range(2)]
    wait_for(run / "metrics.jsonl")
    deadline = time.monotonic() + 30
    while all(Path(f"/proc/{process.pid}/stat").read_text().split(") ")[1][0] != "Z" for process in both):
        assert time.monotonic() < deadline, "both went on"
        time.sleep(0.01)
    for process in both:
        process.signal(signal.SIGINT)
    ends = sorted((process.end() for process in both), key=lambda end: end.code)
    assert [end.code for end in ends] == [2, 130]
    assert str(run) in ends[0].complaint(2)


def test_a_certificate_is_written_by_one(start: Call, pactl: Call, terminal: Any, trained: Path) -> None:
    first = start("bound", trained, "--quant-epochs", 100_000, stderr=terminal.path)
    deadline = time.monotonic() + 30
    while b"fine-tuning" not in terminal._seen:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    assert "in use" in pactl("bound", trained).complaint(2)
    assert "in use" in pactl("bound", trained.parent / "." / "trained", "--quant-epochs", 0).complaint(2)
    first.signal(signal.SIGKILL)
    first.end()
    terminal.close()
    assert pactl("bound", trained, trained, "--quant-epochs", 0).code == 0
    assert pactl("verify", trained).code == 0


# --- Moments ----------------------------------------------------------------------------------------------------------


def test_sigterm_before_any_write_of_a_training(start: Call, npz: Path, quick: Any, tmp_path: Path) -> None:
    """Interrupted before the k-th thing that it writes, renames or removes, for every k: it can be gone on with."""
    command = ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", 2, "--train-subset", 0.9, "--resume", "--out")
    for moment in range(1, 200):
        run = tmp_path / str(moment)
        ended = start(*command, run, blow=(moment, signal.SIGTERM)).end()
        assert ended.code in (0, 130)
        assert ended.err.count("\n") == (ended.code == 130)
        done = start(*command, run).end()
        assert (done.code, done.err) == (0, "")
        assert json.loads((run / "manifest.json").read_text())["stages"] == {"train": "complete"}
        if ended.code == 0 and moment > 20:
            return
    pytest.fail("there is no end to it")


def test_a_directory_that_is_removed_while_it_is_written(start: Call, endless: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*endless, run)
    wait_for(run / "metrics.jsonl")
    os.rename(run, tmp_path / "away")
    assert str(run) in process.end().complaint(1)


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["manifest.json", "config.yml", "checkpoint.safetensors", "indices.npz", "message.bin", "bound.json"]
)
def test_a_file_of_a_terabyte_is_not_read(pactl: Call, certified: Path, name: str) -> None:
    os.truncate(certified / name, 1 << 40)
    manifest = json.loads((certified / "manifest.json").read_text()) if name != "manifest.json" else None
    if manifest:
        manifest["files"].pop(name)
        (certified / "manifest.json").write_text(json.dumps(manifest))
    done = pactl("verify", certified)
    assert name in done.complaint(done.code)


@pytest.mark.parametrize("name", ["config.yml", "checkpoint.safetensors", "message.bin", "bound.json", "indices.npz"])
@pytest.mark.parametrize("kind", ["link", "empty"])
def test_a_file_that_is_a_link_or_empty(pactl: Call, certified: Path, agree: Call, name: str, kind: str) -> None:
    good = (certified / name).read_bytes()
    if kind == "empty":
        agree(certified, name, b"")
    else:
        (certified / name).unlink()
        (certified.parent / "elsewhere").write_bytes(good)
        (certified / name).symlink_to(certified.parent / "elsewhere")
    done = pactl("verify", certified)
    assert name in done.complaint(done.code)


def test_a_run_directory_may_be_a_link(pactl: Call, certified: Path) -> None:
    link = certified.parent / "link"
    link.symlink_to(certified)
    assert pactl("verify", link).code == 0
    assert pactl("bound", link, "--quant-epochs", 0).code == 0


def test_a_manifest_that_says_something_twice(pactl: Call, certified: Path) -> None:
    text = (certified / "manifest.json").read_text()
    (certified / "manifest.json").write_text(text.replace('"kind"', '"kind": "prior", "kind"', 1))
    for command in ("verify", "bound", "report"):
        assert "manifest.json" in pactl(command, certified).complaint(2)


@pytest.mark.parametrize("option", ["--dataset", "--indices-path"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_data_that_would_never_end(pactl: Call, npz: Path, tmp_path: Path, option: str, kind: str) -> None:
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "pipe.npy"
        os.mkfifo(path)
    data = ("--dataset", f"npz:{path}") if option == "--dataset" else ("--dataset", f"npz:{npz}", option, path)
    assert str(path) in pactl("train", *data).complaint(2)


# --- Names and surroundings -------------------------------------------------------------------------------------------


def test_names_with_line_breaks(pactl: Call, npz: Path, quick: Any, tmp_path: Path) -> None:
    """Of an output directory they are refused, for it is printed as a line; others are only names."""
    (tmp_path / "a\nb").mkdir()
    data = tmp_path / "a\nb" / "c d.npz"
    data.write_bytes(npz.read_bytes())
    command = ("train", "--dataset", f"npz:{data}", *quick, "--epochs", 1)
    assert "--out" in pactl(*command, "--out", tmp_path / "a\nb" / "run").complaint(2)
    run = pactl(*command).out.strip()
    assert pactl("bound", run, "--quant-epochs", 0).code == 0
    os.rename(run, tmp_path / "a\nb" / "run")
    assert pactl("verify", tmp_path / "a\nb" / "run").code == 0


def test_a_locale_without_utf8(shell: Call, npz: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    train = f"pactl train --dataset npz:{npz} --epochs 1 --intrinsic-dim 20 --out 'große Läufe/ñ'"
    done = shell(f"{train} | pactl bound - --quant-epochs 0 > /dev/null && pactl verify 'große Läufe/ñ'", **ascii_only)
    assert done.code == 0
    assert done.err.startswith("pactl: note: This certificate says nothing")
    assert done.err.endswith(": pactl bound 'große Läufe/ñ' --quant-epochs 30\n")
    assert "große Läufe/ñ" in done.out
    assert "größe" in shell("pactl bound größe", **ascii_only).complaint(2)


@pytest.mark.parametrize(("redirected", "code"), [(">&-", 0), ("<&- >&- 2>&-", 0), ("> /dev/full", 1)])
def test_streams_that_are_closed_or_full(shell: Call, trained: Path, redirected: str, code: int) -> None:
    done = shell(f"pactl bound {trained} --quant-epochs 0 {redirected}")
    assert done.code == code
    assert "Traceback" not in done.err
    assert shell(f"pactl verify {trained} --json").code == 0
    if code:  # also where all of it fits into a buffer
        done = shell(f"pactl verify {trained} --json {redirected}")
        assert (done.code, done.err.count("\n")) == (code, 1)


def test_a_closed_stdin_has_no_run(shell: Call) -> None:
    assert "pipe" in shell("pactl bound - <&-").complaint(2)


def test_a_working_directory_that_is_gone(shell: Call) -> None:
    done = shell("mkdir gone; cd gone; rmdir ../gone; pactl train")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("pactl: the working directory cannot be used")


# --- What --resume finds ----------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(start: Call, endless: Any, tmp_path: Path) -> Path:
    """A run that was interrupted, and has a saved state."""
    process = start(*endless, tmp_path / "run")
    wait_for(tmp_path / "run" / "metrics.jsonl")
    process.signal(signal.SIGINT)
    assert process.end().code == 130
    return tmp_path / "run"


def rewritten(state: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> None:
    """Changes the tensors and the facts of a saved state."""
    with safe_open(state, "pt") as file:
        facts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    change(tensors, facts)
    save_file(tensors, state, facts)


FACTS = {"step": ("-1", "0", "9" * 30, "x", "1.5", ""), "errors": ("x",), "loss_sum": ("x",), "seconds": ("",)}


@pytest.mark.parametrize(("fact", "value"), [(fact, value) for fact, values in FACTS.items() for value in values])
def test_a_state_with_impossible_facts(pactl: Call, interrupted: Path, fact: str, value: str) -> None:
    rewritten(interrupted / "resume" / "state.safetensors", lambda tensors, facts: facts.update({fact: value}))
    assert "damaged" in pactl("train", "--resume", "--out", interrupted).complaint(2)


TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "none": lambda tensors: tensors.clear(),
    "no parameter": lambda tensors: tensors.pop("parameter/module.w"),
    "another shape": lambda tensors: tensors.update({"parameter/module.w": torch.zeros(3)}),
    "another type": lambda tensors: tensors.update({"parameter/module.w": tensors["parameter/module.w"].double()}),
    "half an optimiser": lambda tensors: tensors.pop("optimizer/module.w/exp_avg"),
    "an optimiser of another shape": lambda tensors: tensors.update({"optimizer/module.w/exp_avg": torch.zeros(1)}),
    "an optimiser before its beginning": lambda tensors: tensors.update(
        {"optimizer/module.w/step": torch.tensor(-1.0)}
    ),
    "something else": lambda tensors: tensors.update({"optimizer/module.w/momentum": torch.zeros(1)}),
}


@pytest.mark.parametrize("fault", TENSORS)
def test_a_state_with_impossible_tensors(pactl: Call, interrupted: Path, fault: str) -> None:
    rewritten(interrupted / "resume" / "state.safetensors", lambda tensors, facts: TENSORS[fault](tensors))
    assert "damaged" in pactl("train", "--resume", "--out", interrupted).complaint(2)


def test_a_state_of_which_nothing_was_changed(start: Call, interrupted: Path) -> None:
    rewritten(interrupted / "resume" / "state.safetensors", lambda tensors, facts: None)
    process = start("train", "--resume", "--out", interrupted)
    size = (interrupted / "metrics.jsonl").stat().st_size
    deadline = time.monotonic() + 30
    while (interrupted / "metrics.jsonl").stat().st_size <= size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.signal(signal.SIGINT)
    assert process.end().code == 130


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes", ""])
def test_memory_that_torch_does_not_get(pactl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("pactl_cli.stages.train.train", fail)
    if said:
        assert "out of memory" in pactl("train", "--epochs", 1, "--out", "run").complaint(1)
    else:  # a bug, which is shown as one
        with pytest.raises(RuntimeError):
            pactl("train", "--epochs", 1, "--out", "run")
