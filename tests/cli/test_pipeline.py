"""What the commands print and write, alone and in pipelines."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

Call = Callable[..., Any]

KEYS = {
    *("schema_version", "error_bound", "delta", "bound_examples", "errors", "quantised_train_error", "train_error"),
    *("test_error", "message_bits", "ledger_bits", "bits", "ledger", "bounds", "published", "holdout_bound"),
    *("intrinsic_dim", "levels", "hypothesis", "data_sha256", "message_sha256", "train_nll_bits", "numerical_margin"),
    *("classifier_sha256", "configuration", "side_information", "assumptions", "format", "kind", "program_version"),
}
"""What the design promises of `bound.json`."""


def numbers(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- train ------------------------------------------------------------------------------------------------------------


def test_train_prints_the_path_of_the_run_and_nothing_else(pactl: Call, npz: Path, tmp_path: Path) -> None:
    done = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", tmp_path / "mine")
    assert (done.code, done.out, done.err) == (0, f"{tmp_path / 'mine'}\n", "")


def test_a_run_without_out_gets_a_new_directory_below_runs(pactl: Call, npz: Path) -> None:
    printed = [pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--intrinsic-dim", 5).out for _ in range(2)]
    first, second = (Path(line.removesuffix("\n")) for line in printed)
    assert first != second
    for path in (first, second):
        assert path.parent == Path("runs")
        assert path.is_dir()
        assert all(part in path.name for part in ("npz", "rdkronqr", "d5"))


def test_a_run_directory_holds_what_the_design_says(trained: Path, certified: Path) -> None:
    files = {"config.yml", "checkpoint.safetensors", "indices.npz", "metrics.jsonl"}
    assert {path.name for path in trained.iterdir()} == files | {"manifest.json"}
    files |= {"message.bin", "classifier.safetensors", "bound.json"}
    assert {path.name for path in certified.iterdir()} == files | {"manifest.json"}
    manifest = json.loads((certified / "manifest.json").read_text())
    assert manifest["schema_version"] == 3
    assert all(len(manifest[name]) == 64 for name in ("data_sha256", "train_sha256", "test_sha256"))
    assert manifest["kind"] == "train"
    assert manifest["stages"] == {"train": "complete", "bound": "complete"}
    assert manifest["files"] == {name: sha256((certified / name).read_bytes()).hexdigest() for name in files}
    assert {"pactl", "python", "torch", "numpy"} <= manifest["versions"].keys()
    assert manifest["device"]


def test_metrics_have_a_line_an_epoch(certified: Path) -> None:
    records = [record for record in numbers(certified / "metrics.jsonl") if "epoch" in record]
    assert [(r["stage"], r["epoch"]) for r in records] == [
        *(("train", epoch) for epoch in range(1, 13)),
        *[("bound", epoch) for epoch in range(1, 6)] * 2,
    ]
    assert {"loss", "error", "lr", "seconds", "step"} <= records[0].keys()


def test_the_written_configuration_is_resolved_and_runs_again(pactl: Call, trained: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load((trained / "config.yml").read_text())
    unsaid = {"data_dir", "indices_path", "image_size", "channels", "label", "text", "categories", "class_names"}
    unsaid |= {"source", "source_dataset", "weights", "head", "fonts", "continued"}
    assert {name for name, value in settings.items() if value is None} <= unsaid
    again = tmp_path / "again"
    assert pactl("train", "--config", trained / "config.yml", "--out", again).code == 0
    for name in ("config.yml", "checkpoint.safetensors", "indices.npz"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_print_config_prints_yaml_and_writes_nothing(pactl: Call, tmp_path: Path, tree: Call) -> None:
    done = pactl("train", "--print-config", "--seed", 7, "--out", tmp_path / "run")
    assert (done.code, done.err) == (0, "")
    settings = yaml.safe_load(done.out)
    assert settings["seed"] == 7
    assert settings["dataset"] == "digits"
    assert tree(tmp_path) == {}


def test_options_override_a_file_which_overrides_defaults(pactl: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("seed: 1\nepochs: 3\nlr: 1e-2\n")
    settings = yaml.safe_load(pactl("train", "--config", file, "--epochs", 5, "--print-config").out)
    assert (settings["seed"], settings["epochs"], settings["momentum"], settings["lr"]) == (1, 5, 0.9, 0.01)


def test_what_print_config_prints_is_a_config(pactl: Call, npz: Path, tmp_path: Path) -> None:
    arguments = ("train", "--dataset", f"npz:{npz}", "--optimizer", "sgd", "--epochs", 1, "--train-subset", -0.5)
    printed = pactl(*arguments, "--print-config").out
    (tmp_path / "c.yml").write_text(printed)
    assert pactl("train", "--config", tmp_path / "c.yml", "--print-config").out == printed


# --- bound ------------------------------------------------------------------------------------------------------------


def test_bound_prints_json_into_a_pipe_and_writes_the_same(pactl: Call, trained: Path) -> None:
    done = pactl("bound", trained, "--quant-epochs", 1)
    assert (done.code, done.err) == (0, "")
    certificate = done.json()
    assert certificate.keys() >= KEYS
    assert certificate == json.loads((trained / "bound.json").read_text())
    assert certificate["message_sha256"] == sha256((trained / "message.bin").read_bytes()).hexdigest()
    assert 8 * (trained / "message.bin").stat().st_size - certificate["message_bits"] in range(8)


def test_bound_is_deterministic_and_replaces_itself(pactl: Call, certified: Path) -> None:
    before = {name: (certified / name).read_bytes() for name in ("bound.json", "message.bin")}
    assert pactl("bound", certified, "--quant-epochs", 5).code == 0
    assert {name: (certified / name).read_bytes() for name in before} == before
    records = numbers(certified / "metrics.jsonl")
    assert [r["stage"] for r in records if "epoch" in r].count("bound") == 2 * 5, "at two prices"


def test_a_dash_reads_the_run_from_stdin(pactl: Call, trained: Path) -> None:
    assert pactl("bound", "-", "--quant-epochs", 0, stdin=f"{trained}\n").code == 0
    assert pactl("verify", "-", stdin=f"{trained}\r\n").code == 0


def test_a_path_with_spaces_survives_the_pipe(pactl: Call, npz: Path, tmp_path: Path) -> None:
    place = tmp_path / " two  words "
    done = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--out", place)
    assert done.out == f"{place}\n"
    assert pactl("bound", "-", "--quant-epochs", 0, stdin=done.out).code == 0
    assert pactl("verify", "-", stdin=done.out).code == 0


@pytest.mark.parametrize("limit", [0, 1])
def test_fail_above_prints_the_certificate_and_exits_with_3(pactl: Call, trained: Path, limit: int) -> None:
    done = pactl("bound", trained, "--quant-epochs", 0, "--fail-above", limit)
    assert done.code == (3 if limit == 0 else 0)
    assert done.json()["error_bound"] <= 1
    assert done.err.count("\n") == done.err.startswith("pactl: ") == (limit == 0)
    assert pactl("verify", trained).code == 0, "the certificate is good all the same"


@pytest.mark.parametrize(
    "options",
    [
        ("--codebook", "kmeans"),
        ("--codebook", "bins", "--levels", 3),
        ("--codebook", "grid", "--rate-weight", 3),
        ("--codebook", "kmeans", "--levels", 256),
        ("--codebook", "kmeans", "--levels", 1),
        ("--use-kmeans",),
        ("--no-use-kmeans", "--levels", 2),
        ("--quant-epochs", 0),
        ("--misc-extra-bits", 12.5, "--delta", 0.01),
        ("--compare-posthoc",),
        ("--batch-size", 7, "--lr", 0.01),
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_every_way_to_quantise_gives_a_certificate_that_verifies(pactl: Call, trained: Path, options: Any) -> None:
    done = pactl("bound", trained, *(() if "--quant-epochs" in options else ("--quant-epochs", 2)), *options)
    certificate = done.json()
    assert done.code == 0
    assert (
        ("says nothing" in done.err) == bool(done.err) == (certificate["error_bound"] >= certificate["majority_error"])
    )
    chosen = dict(zip(options[::2], options[1::2], strict=False))
    if not {"--codebook", "--use-kmeans", "--no-use-kmeans"}.isdisjoint(options) and "grid" not in options:
        assert certificate["levels"] <= chosen.get("--levels", 7)
    assert certificate["delta"] == chosen.get("--delta", 0.05)
    assert certificate["ledger_bits"] == certificate["bits"]["ledger"] == chosen.get("--misc-extra-bits", 0)
    assert (certificate["posthoc"] is not None) == ("--compare-posthoc" in options)
    assert pactl("verify", trained).code == 0


def test_bits_that_are_added_are_paid_for(pactl: Call, trained: Path) -> None:
    bounds = [
        pactl("bound", trained, "--quant-epochs", 0, "--misc-extra-bits", bits, "--force").json()["error_bound"]
        for bits in (0, 10, 100)
    ]
    assert bounds == sorted(set(bounds))


def test_coordinates_too_small_for_half_precision_are_zeros(pactl: Call, npz: Path) -> None:
    run = pactl("train", "--dataset", f"npz:{npz}", "--epochs", 1, "--lr", 1e-10).out.strip()
    assert pactl("bound", run, "--quant-epochs", 0).code == 0
    assert pactl("verify", run).code == 0


def test_the_best_of_several_is_printed_and_each_gets_files(
    pactl: Call, npz: Path, trained: Path, tmp_path: Path
) -> None:
    poor = tmp_path / "poor"
    train = (
        "train",
        "--dataset",
        f"npz:{npz}",
        "--epochs",
        1,
        "--lr",
        1e-3,
        "--intrinsic-dim",
        2000,
        "--train-subset",
        0.9,
    )
    assert pactl(*train, "--out", poor).code == 0
    done = pactl("bound", poor, trained, "--quant-epochs", 0)
    assert done.code == 0
    assert done.json() == json.loads((trained / "bound.json").read_text())
    assert json.loads((poor / "bound.json").read_text())["error_bound"] > done.json()["error_bound"]
    assert pactl("verify", trained).code == 0
    assert pactl("verify", poor).code == 0


def test_several_runs_come_through_a_pipe(pactl: Call, trained: Path, tmp_path: Path) -> None:
    other = shutil.copytree(trained, tmp_path / "other")
    assert pactl("bound", "-", "--quant-epochs", 0, stdin=f"{trained}\n{other}\n").code == 0
    assert all((path / "bound.json").exists() for path in (trained, other))


def test_batch_statistics_come_from_examples_that_are_not_counted(pactl: Call, tmp_path: Path, arrays: Any) -> None:
    big: dict[str, Any] = {
        name: np.kron(a, np.ones((1, 2, 2), np.uint8))[:, :12, :12] if a.ndim == 3 else a for name, a in arrays.items()
    }
    np.savez(tmp_path / "big.npz", **big)
    options = ("--model-name", "layer13s", "--base-width", 2, "--epochs", 1, "--calibration-examples", 20)
    run = pactl("train", "--dataset", f"npz:{tmp_path / 'big.npz'}", *options).out.strip()
    certificate = pactl("bound", run, "--quant-epochs", 1).json()
    assert (certificate["bound_examples"], certificate["configuration"]["calibration_examples"]) == (280, 20)
    with np.load(Path(run) / "indices.npz") as file:
        calibration, counted = set(file["calibration"].tolist()), set(file["bound"].tolist())
    assert (len(calibration), len(counted)) == (20, 280)
    assert calibration | counted == set(range(300))
    assert pactl("verify", run).code == 0


def test_digits_and_every_part_of_the_data(pactl: Call) -> None:
    run = pactl("train", "--epochs", 1, "--base-width", 8, "--label-noise", 0.2, "--train-subset", -0.4).out.strip()
    certificate = pactl("bound", run, "--quant-epochs", 1).json()
    assert certificate["bound_examples"] == 1437 - round(0.4 * 1437)
    assert certificate["test_examples"] == 360
    assert any("0.2" in line for line in certificate["assumptions"])
    assert pactl("verify", run).code == 0


def test_without_a_test_set_there_is_no_test_error(pactl: Call, tmp_path: Path, arrays: Any) -> None:
    np.savez(tmp_path / "own.npz", x_train=arrays["x_train"], y_train=arrays["y_train"])
    run = pactl("train", "--dataset", f"npz:{tmp_path / 'own.npz'}", "--epochs", 1).out.strip()
    certificate = pactl("bound", run, "--quant-epochs", 0).json()
    assert (certificate["test_error"], certificate["holdout_bound"], certificate["test_examples"]) == (None, None, 0)
    assert pactl("verify", run).code == 0


# --- verify and info --------------------------------------------------------------------------------------------------


def test_verify_prints_a_verdict_with_the_sentence_and_the_assumptions(pactl: Call, certified: Path) -> None:
    certificate = json.loads((certified / "bound.json").read_text())
    done = pactl("verify", certified)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("verified")
    assert all(line in done.out for line in (certificate["statement"], *certificate["assumptions"]))
    verdict = pactl("verify", certified, "--json").json()
    assert verdict["verified"] is True
    assert verdict["error_bound"] == certificate["error_bound"]
    assert verdict["assumptions"] == certificate["assumptions"]


def test_verify_writes_nothing(pactl: Call, certified: Path, tree: Call) -> None:
    before = tree(certified)
    assert pactl("verify", certified).code == 0
    assert tree(certified) == before


def test_a_certified_run_can_be_moved(pactl: Call, certified: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "it"
    shutil.copytree(certified, moved)
    shutil.rmtree(certified)
    assert pactl("verify", moved).code == 0


def test_info_is_json_in_a_pipe(pactl: Call) -> None:
    facts = pactl("info").json()
    assert facts == pactl("info", "--json").json()
    assert {"pactl", "python", "torch", "cuda_devices", "data_directory"} <= facts.keys()


# --- Processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_gets_a_table_unless_json_is_wanted(
    start: Call, terminal: Any, trained: Path, as_json: bool
) -> None:
    arguments = ("bound", trained, "--quant-epochs", 0, *(("--json",) if as_json else ()))
    code = start(*arguments, stdout=terminal.path).end().code
    seen = re.sub(r" \\\n +", " ", terminal.close())  # as a shell joins lines
    assert code == 0
    if as_json:
        assert json.loads(seen).keys() >= KEYS
        return
    assert "{" not in seen
    for text in ("certificate", "test error", "symbols", "ledger", "catoni", "It assumes", f"pactl verify {trained}"):
        assert text in seen


def test_progress_goes_to_a_terminal_on_stderr_and_leaves_stdout_alone(
    start: Call, terminal: Any, npz: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = start("train", "--dataset", f"npz:{npz}", "--epochs", 30, "--out", out, stderr=terminal.path).end()
    assert "training" in terminal.close()
    assert (done.code, done.out) == (0, f"{out}\n")


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_verifies_with_any_number_of_threads(start: Call, certified: Path, threads: int) -> None:
    done = start("verify", certified, threads=threads).end()
    assert (done.code, done.err) == (0, "")


@pytest.mark.slow
def test_a_shell_pipeline_from_training_to_a_number(shell: Call, npz: Path) -> None:
    python = "import json, sys; print(json.load(sys.stdin)['error_bound'])"
    train = f"pactl train --dataset npz:'{npz}' --epochs 2 --out 'my run'"
    done = shell(f'{train} | pactl bound - --quant-epochs 2 | python -c "{python}"')
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("pactl: note: This certificate says nothing: ")
    assert 0 < float(done.out) <= 1


@pytest.mark.slow
def test_a_pipeline_whose_first_command_fails_says_so_twice_and_fails(shell: Call) -> None:
    done = shell("pactl train --dataset nowhere | pactl bound -; echo ${PIPESTATUS[*]}")
    assert done.out == "2 2\n"
    first, second = sorted(done.err.splitlines(), key=lambda line: "--dataset" not in line)
    assert first.startswith("pactl: --dataset 'nowhere'")
    assert second.startswith("pactl: no run directory came through the pipe")


@pytest.mark.slow
def test_a_reader_that_goes_away_causes_no_traceback(shell: Call, trained: Path) -> None:
    done = shell(f"(sleep 0.3; pactl bound '{trained}' --quant-epochs 0; echo $? >code) | true; cat code")
    assert done.err == ""
    assert int(done.out) in (1, 128 + signal.SIGPIPE)
    done = shell("pactl --help | head -1; pactl info | head -1")
    assert done.err == ""


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_fresh_process_verifies_with_any_number_of_threads(shell: Call, certified: Path, threads: str) -> None:
    done = shell(f"pactl verify '{certified}'", OMP_NUM_THREADS=threads)
    assert (done.code, done.err) == (0, "")


@pytest.mark.slow
def test_a_path_that_is_not_utf8_passes_through_a_strict_terminal(shell: Call, npz: Path) -> None:
    script = f"pactl train --dataset npz:'{npz}' --epochs 1 --out $'a\\xffb' | pactl bound - --quant-epochs 0"
    done = shell(
        f"({script}) 2>said; code=$?; grep -av '^pactl: note: ' said; exit $code", PYTHONIOENCODING="utf-8:strict"
    )
    assert done.code == 0
    assert json.loads(done.out)["bound_examples"]


# --- Several numbers of levels ----------------------------------------------------------------------------------------


def test_the_best_of_several_numbers_of_levels(pactl: Call, trained: Path) -> None:
    options = ("--codebook", "kmeans", "--quant-epochs", 0)
    alone = {levels: pactl("bound", trained, *options, "--levels", levels).json()["error_bound"] for levels in (2, 5)}
    both = pactl("bound", trained, *options, "--levels", "2,5").json()
    assert both["error_bound"] == min(alone.values())
    assert pactl("verify", trained).code == 0
    assert pactl("bound", trained, *options, "--levels", "auto").json()["error_bound"] <= 1


@pytest.mark.parametrize("levels", ["0", "257", "5,", "many", "3;4"])
def test_numbers_of_levels_that_are_none(pactl: Call, trained: Path, levels: str) -> None:
    assert "--levels" in pactl("bound", trained, "--codebook", "bins", "--levels", levels).complaint(2)


def test_a_grid_has_as_many_levels_as_it_needs(pactl: Call, trained: Path) -> None:
    assert "--levels" in pactl("bound", trained, "--levels", 5).complaint(2)
