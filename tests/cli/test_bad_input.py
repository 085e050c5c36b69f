"""What a bad input gets: one line on stderr that names it, exit code 2, no traceback, nothing written or lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Call = Callable[..., Any]


@pytest.fixture
def refused(pactl: Call, tmp_path: Path, tree: Call) -> Call:
    """`refused(*arguments, says=...)`: the command complains as it should, and leaves everything as it was."""

    def check(*arguments: object, says: str | tuple[str, ...], stdin: str | bytes = b"") -> str:
        before = tree(tmp_path)
        line: str = pactl(*arguments, stdin=stdin).complaint(2)
        for text in (says,) if isinstance(says, str) else says:
            assert text in line
        assert tree(tmp_path) == before
        return line

    return check


# --- Options ----------------------------------------------------------------------------------------------------------

TRAIN = {
    "--dataset": ("mnits", "npz:", "folder:", "npz:absent.npz", "folder:absent", "", "sqlite:x"),
    "--data-dir": ("absent",),
    "--train-subset": ("0", "1.5", "-2", "nan", "inf", "x", "0.001", "-1"),
    "--indices-path": ("absent.npy", "."),
    "--label-noise": ("-0.1", "1.1", "nan", "x"),
    "--calibration-examples": ("-1", "31", "100000", "1.5", "x"),
    "--normalise": ("publishd", "published", ""),
    "--model-name": ("lenet6", "lenet5", "resnet-9000", ""),
    "--base-width": ("0", "-1", "1000000000", "x"),
    "--intrinsic-dim": ("-1", "1000000000000", "100000", "1.5", "x"),
    "--intrinsic-mode": ("rdkronqt", ""),
    "--seed": ("-1", str(2**63), "x", "1.5"),
    "--optimizer": ("adam_cosine", "lbfgs", ""),
    "--epochs": ("0", "-1", "1.5", "x", ""),
    "--batch-size": ("0", "-1", "x"),
    "--lr": ("0", "-1", "nan", "inf", "x"),
    "--momentum": ("-0.1", "1", "nan", "x"),
    "--weight-decay": ("-1", "nan", "inf"),
    "--warmup-epochs": ("-1", "nan", "inf"),
    "--warmup-lr": ("0", "-1", "nan"),
    "--rate-weight": ("-1", "nan", "inf"),
    "--rate-from": ("-0.1", "1.1", "nan"),
    "--device": ("gpu", "cuda:", "cuda:99", "cpu:1", "cuda:-1", ""),
    "--precision": ("fp64", ""),
    "--config": ("absent.yml", "."),
}
"""Values that every option of `train` must refuse, on a tiny data set."""

BOUND = {
    "--codebook": ("kmean", ""),
    "--levels": ("0", "-1", "1000000", "1.5", "x"),
    "--quant-epochs": ("-1", "1.5", "x"),
    "--lr": ("0", "-1", "nan", "inf", "x"),
    "--rate-weight": ("-1", "nan", "inf", "automatic"),
    "--misc-extra-bits": ("-1", "-0.001", "nan", "inf", "x"),
    "--delta": ("0", "-1", "0.51", "1", "nan", "x"),
    "--batch-size": ("0", "-1", "x"),
    "--fail-above": ("-0.1", "1.1", "nan", "x"),
    "--data-dir": ("absent",),
    "--device": ("gpu", "cuda:99"),
}


def rows(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """(option, value) pairs."""
    return [(option, value) for option, values in table.items() for value in values]


@pytest.mark.parametrize(("option", "value"), rows(TRAIN))
def test_train_refuses(refused: Call, npz: Path, option: str, value: str) -> None:
    says = value if option == "--config" else option
    refused("train", "--dataset", f"npz:{npz}", "--out", "run", option, value, says=says)


@pytest.mark.parametrize(("option", "value"), rows(BOUND))
def test_bound_refuses(refused: Call, certified: Path, option: str, value: str) -> None:
    refused("bound", certified, option, value, says=option)


@pytest.mark.parametrize(("option", "value"), [("--device", "gpu"), ("--device", "cuda:99"), ("--data-dir", "absent")])
def test_verify_refuses(refused: Call, certified: Path, option: str, value: str) -> None:
    refused("verify", certified, option, value, says=(option, value))


@pytest.mark.parametrize(
    ("option", "value", "nearest"),
    [
        ("--dataset", "mnits", "mnist"),
        ("--dataset", "Digits", "digits"),
        ("--dataset", "nzp:x.npz", "npz:"),
        ("--model-name", "lenet_5", "lenet5"),
        ("--model-name", "Layer13", "layer13s"),
        ("--intrinsic-mode", "rdkronq", "rdkronqr"),
        ("--optimizer", "adam-cos", "adam_cos"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(refused: Call, option: str, value: str, nearest: str) -> None:
    refused("train", option, value, says=(option, value.partition("x.")[0], f"did you mean {nearest}?"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trian",), ("trian", "train")),
        (("train", "--epoch", "3"), ("--epoch", "--epochs")),
        (("train", "extra"), "extra"),
        (("train", "--epochs"), "--epochs"),
        (("bound",), "RUN_DIR"),
        (("verify",), "RUN_DIR"),
        (("verify", "a", "b"), "b"),
        (("train", "--resume"), ("--resume", "--out")),
        (("train", "--resume", "--force", "--out", "run"), ("--resume", "--force")),
        (("train", "--print-config", "--epochs", "0"), "--epochs"),
        (("train", "--normalise", "published"), "--normalise fixed"),
        (("transfer", "torchvision:resnet_18"), "torchvision:resnet_18: torchvision has no such network"),
        (("bound", "run", "--codebook", "grid", "--use-kmeans"), "--codebook grid and --use-kmeans exclude each other"),
        (("bound", "run", "--codebook", "kmeans", "--no-use-kmeans"), "--codebook kmeans and --no-use-kmeans"),
        (("train", "--out", "x" * 300), "--out"),
        (("bound", "x" * 300), "xxx"),
    ],
)
def test_wrong_usage(refused: Call, arguments: tuple[str, ...], says: str | tuple[str, ...]) -> None:
    refused(*arguments, says=says)


def test_all_wrong_values_are_named_at_once(refused: Call) -> None:
    refused("train", "--lr", "-1", "--seed", "-1", "--optimizer", "nadam", says=("--lr", "--seed", "--optimizer"))


def test_cuda_is_refused_where_there_is_none(refused: Call, npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused("train", "--dataset", f"npz:{npz}", "--device", "cuda", says="--device cuda is not available")


@pytest.mark.parametrize("stdin", [b"", b"\n", b"nowhere\n", b"\xff\n", b"a\0"], ids=list("abcde"))
@pytest.mark.parametrize("command", ["bound", "verify"])
def test_a_dash_with_nothing_good_behind_it(refused: Call, command: str, stdin: bytes) -> None:
    refused(command, "-", stdin=stdin, says="run directory")


def test_an_environment_variable_is_named(refused: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACTL_DATA_DIR", "absent")
    refused("train", "--dataset", "mnist", says=("PACTL_DATA_DIR", "absent"))


# --- --config ---------------------------------------------------------------------------------------------------------


LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in ("ab", "bc", "cd", "de"))
"""Small to write, and far too large to be repeated in a complaint."""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LAUGHS + "epochs: *e\n", "references"),
        ("epochs: 3\nepoch: 4\n", "epoch"),
        ("epochs: 3\nseed: 1\nepochs: 4\n", "epochs"),
        ("epochs: [3]\n", "--epochs"),
        ("epochs: yes\n", "--epochs"),
        ("epochs: three\n", "--epochs"),
        ("seed: .nan\n", "--seed"),
        ("seed: 0137\n", "0137 is 95 in YAML: write 95"),
        ("epochs: 1:30\n", "1:30 is 90 in YAML: write 90"),
        ("intrinsic-dim: 3\n", "did you mean intrinsic_dim?"),
        ("label: 1\n", "--label 1: must be a text: put it in quotation marks"),
        ("delta: 0.05\n", "delta"),
        ("- epochs\n", "mine.yml"),
        ("3\n", "mine.yml"),
        ("1: 2\n", "mine.yml"),
        ("", "mine.yml"),
        ("epochs: 3: 4\n", "mine.yml"),
        ("epochs: !!python/object/apply:os.system [true]\n", "mine.yml"),
        ("a: &a [*a]\n", "a"),
        ("\x00", "mine.yml"),
        (b"\xff\xfe\xff", "mine.yml"),
        ("[" * 5000, "mine.yml"),
        (f"seed: 0x{'f' * 5000}\n", "mine.yml"),
        (f"0x{'f' * 5000}: 1\n", "mine.yml"),
        (f"seed: {'1' * (1 << 18)}\n", "too large"),
        ('"\\e[31mx": 1\n', r"\x1b[31mx"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_config_file(refused: Call, tmp_path: Path, content: str | bytes, says: str) -> None:
    (tmp_path / "mine.yml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("train", "--config", "mine.yml", "--print-config", says=says)


# --- --indices-path ---------------------------------------------------------------------------------------------------

ORDER = np.arange(300)

INDICES = {
    "too short": ORDER[:-1],
    "too long": np.arange(301),
    "duplicates": np.where(ORDER == 7, 8, ORDER),
    "out of range": ORDER + 1,
    "negative": ORDER - 1,
    "huge": ORDER.astype(np.uint64) + np.uint64(2**63),
    "floats": ORDER.astype(float),
    "booleans": ORDER > 3,
    "two-dimensional": ORDER[:, None],
    "a number": np.array(3),
    "none": np.zeros(0, np.int64),
    "objects": ORDER.astype(object),
    "text": ORDER.astype(str),
}


@pytest.mark.parametrize("fault", INDICES)
def test_a_bad_permutation(refused: Call, npz: Path, tmp_path: Path, fault: str) -> None:
    np.save(tmp_path / "order.npy", INDICES[fault], allow_pickle=True)
    refused("train", "--dataset", f"npz:{npz}", "--indices-path", "order.npy", says=("--indices-path", "order.npy"))


HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (%s,), }"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0 1 2\n",
        b"\x93NUMPY",
        b"\x80\x04.",
        HEADER.replace(b"%s", b"300").ljust(127) + b"\n" + bytes(77),
        HEADER.replace(b"%s", b"10000000000000000").ljust(127) + b"\n",
        HEADER.replace(b"%s", b"-1").ljust(127) + b"\n",
        HEADER.replace(b"%s", b"(((").ljust(127) + b"\n",
    ],
    ids=["empty", "text", "magic only", "pickle", "truncated", "too large for memory", "negative", "header"],
)
def test_a_permutation_that_is_no_npy(refused: Call, npz: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "order.npy").write_bytes(content)
    refused("train", "--dataset", f"npz:{npz}", "--indices-path", "order.npy", says=("--indices-path", "order.npy"))


def test_an_archive_is_no_permutation(refused: Call, npz: Path) -> None:
    refused("train", "--dataset", f"npz:{npz}", "--indices-path", npz, says="--indices-path")


# --- Run directories --------------------------------------------------------------------------------------------------


def change_manifest(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edits `manifest.json`."""
    manifest = json.loads((run / "manifest.json").read_text())
    change(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda run: (run / "manifest.json").unlink(), "manifest.json"),
    "empty manifest": (lambda run: (run / "manifest.json").write_text(""), "manifest.json"),
    "manifest not JSON": (lambda run: (run / "manifest.json").write_text("{"), "manifest.json"),
    "manifest not UTF-8": (lambda run: (run / "manifest.json").write_bytes(b"\xff"), "manifest.json"),
    "manifest a list": (lambda run: (run / "manifest.json").write_text("[]"), "manifest.json"),
    "manifest deep": (lambda run: (run / "manifest.json").write_text("[" * 10**5), "manifest.json"),
    "manifest a folder": (
        lambda run: [(run / "manifest.json").unlink(), (run / "manifest.json").mkdir()],
        "manifest.json",
    ),
    "newer": (lambda run: change_manifest(run, lambda m: m.update(schema_version=999)), "newer version"),
    "newer, with new fields": (
        lambda run: change_manifest(run, lambda m: m.update(schema_version=999, news=1, kind=["x"])),
        "newer version",
    ),
    "of 0.1.0": (lambda run: change_manifest(run, lambda m: m.update(schema_version=1)), "written by pactl 0.1.0"),
    "of a development version": (
        lambda run: change_manifest(run, lambda m: m.update(schema_version=2)),
        "development version before 0.2.0",
    ),
    "version a text": (lambda run: change_manifest(run, lambda m: m.update(schema_version="999")), "manifest.json"),
    "version of no kind": (lambda run: change_manifest(run, lambda m: m.update(schema_version=0)), "manifest.json"),
    "unknown field": (lambda run: change_manifest(run, lambda m: m.update(news=1)), "manifest.json"),
    "unknown kind": (
        lambda run: change_manifest(run, lambda m: m.update(kind="cake", stages={"cake": "complete"} | m["stages"])),
        "cake",
    ),
    "running": (lambda run: change_manifest(run, lambda m: m["stages"].update(train="running")), "incomplete"),
    "no stage": (lambda run: change_manifest(run, lambda m: m["stages"].clear()), ""),
    "config.yml gone": (lambda run: (run / "config.yml").unlink(), "config.yml"),
    "config.yml altered": (lambda run: (run / "config.yml").write_text("seed: 3\n"), "config.yml"),
    "checkpoint gone": (lambda run: (run / "checkpoint.safetensors").unlink(), "checkpoint.safetensors"),
    "checkpoint truncated": (
        lambda run: (run / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:-1]),
        "checkpoint.safetensors",
    ),
    "indices altered": (lambda run: (run / "indices.npz").write_bytes(b"PK"), "indices.npz"),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_bound_refuses_a_run_that_is_spoilt(refused: Call, certified: Path, fault: str) -> None:
    spoil, says = SPOILT[fault]
    spoil(certified)
    refused("bound", certified, says=(str(certified), says))


@pytest.mark.parametrize("fault", [name for name in SPOILT if "manifest" in name or "newer" in name or "older" in name])
def test_verify_and_resume_refuse_it_as_well(refused: Call, certified: Path, fault: str) -> None:
    spoil, says = SPOILT[fault]
    spoil(certified)
    refused("verify", certified, says=(str(certified), says))
    refused("train", "--resume", "--out", certified, says=(str(certified), says))


@pytest.mark.parametrize("command", ["bound", "verify"])
def test_a_directory_that_is_no_run(refused: Call, tmp_path: Path, npz: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("absent", "empty", npz, npz.parent):
        refused(command, place, says=(str(place), "is not a run directory"))


def test_verify_refuses_a_run_without_a_certificate(refused: Call, trained: Path) -> None:
    refused("verify", trained, says=(str(trained), "pactl bound"))


def test_one_bad_run_among_several_costs_the_others_nothing(
    refused: Call, certified: Path, tmp_path: Path, pactl: Call, arrays: Any
) -> None:
    np.savez(tmp_path / "gone.npz", **arrays)
    options = ("--epochs", 1, "--train-subset", 0.9)
    other = pactl("train", "--dataset", f"npz:{tmp_path / 'gone.npz'}", *options).out.strip()
    (tmp_path / "gone.npz").unlink()
    refused("bound", certified, other, says="gone.npz")
    refused("bound", certified, "absent", says="absent")
    assert pactl("verify", certified).code == 0


def test_runs_on_different_examples_are_not_compared(refused: Call, certified: Path, npz: Path, pactl: Call) -> None:
    """Which examples are S is fixed before looking: the better of two samples is no certificate."""
    train = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--train-subset")
    other = pactl(*train, 0.8).out.strip()
    refused("bound", certified, other, says=(str(certified), other))
    noisy = pactl(*train, 0.9, "--label-noise", 0.3).out.strip()
    assert pactl("bound", certified, noisy, "--quant-epochs", 0).code == 0, "the message says which rate it is about"


def test_bound_and_verify_name_the_data_that_is_gone(refused: Call, pactl: Call, tmp_path: Path, arrays: Any) -> None:
    np.savez(tmp_path / "gone.npz", **arrays)
    run = pactl("train", "--dataset", f"npz:{tmp_path / 'gone.npz'}", "--epochs", 1).out.strip()
    assert pactl("bound", run, "--quant-epochs", 0).code == 0
    (tmp_path / "gone.npz").unlink()
    refused("bound", run, says="gone.npz")
    refused("verify", run, says="gone.npz")


# --- Where to write ---------------------------------------------------------------------------------------------------


def test_a_place_that_is_taken(refused: Call, npz: Path, certified: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    train = ("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out")
    refused(*train, certified, says=("--out", str(certified), "not empty"))
    refused(*train, "full", says=("--out", "full", "not empty"))
    refused(*train, "full", "--force", says=("--out", "full"))
    refused(*train, "full", "--resume", says="full")
    for place in ("file", "file/below"):
        for option in ((), ("--force",), ("--resume",)):
            refused(*train, place, *option, says=("--out", place))


def test_force_with_bad_options_loses_nothing(refused: Call, certified: Path, npz: Path) -> None:
    train = ("train", "--dataset", f"npz:{npz}", "--out", certified, "--force")
    refused(*train, "--intrinsic-dim", 10**7, says="--intrinsic-dim")
    refused(*train, "--indices-path", "absent", says="--indices-path")
    refused(*train, "--calibration-examples", 299, says="--calibration-examples")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", 1), ("--epochs", 99), ("--lr", 0.5), ("--intrinsic-dim", 21), ("--dataset", "digits")],
)
@pytest.mark.parametrize("complete", [True, False])
def test_resume_with_other_options(
    refused: Call, trained: Path, npz: Path, quick: Any, option: str, value: object, complete: bool
) -> None:
    if not complete:
        change_manifest(trained, lambda m: m["stages"].update(train="running"))
    train = ("train", "--dataset", f"npz:{npz}", *quick, "--train-subset", 0.9, "--resume", "--out", trained)
    refused(*train, option, value, says=(option, str(value)))
