"""`--log`: the numbers of a run directory are also sent to a tracker, and nothing depends on it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pactl_cli.commands import trackers

Call = Callable[..., Any]
Series = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make every tracker write below the working directory and send nothing."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture
def words(npz: Path, quick: tuple[object, ...]) -> tuple[object, ...]:
    return ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", 3, "--out", "run")


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def said_in(records: list[dict[str, Any]], group: Callable[[dict[str, Any]], str]) -> Series:
    """Return every number of some lines of metrics with its step, by name."""
    found: Series = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                found.setdefault(f"{group(record)}/{name}", []).append((record.get("step", 0), value))
    return found


def attempt_of(record: dict[str, Any]) -> str:
    words = record.get("attempt", {}).values() if "attempt" in record else [record["search"]]
    return f"bound/{'-'.join(str(word) for word in words if word is not None)}"


def certificate_numbers(run: Path) -> dict[str, float]:
    """Return some numbers of a certificate by the names that trackers get."""
    written = json.loads((run / "bound.json").read_text())
    named = {name: written[name] for name in ("error_bound", "delta", "errors", "bound_examples", "test_error")}
    return {f"certificate/{name}": value for name, value in named.items()} | {
        "certificate/bits.symbols": written["bits"]["symbols"],
        "certificate/bounds.catoni": written["bounds"]["catoni"],
        "certificate/error_bound_at_delta_0.01": written["at_other_deltas"][0]["error_bound"],
    }


class Events:
    """The content of a folder's event file."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray

        [self.file] = folder.glob("events.out.tfevents.*")
        read = EventAccumulator(str(folder), size_guidance={"tensors": 0})
        read.Reload()
        every = {
            tag: [(e.step, make_ndarray(e.tensor_proto)) for e in read.Tensors(tag)] for tag in read.Tags()["tensors"]
        }
        self.texts = {tag: values[0][1].item().decode() for tag, values in every.items() if "text_summary" in tag}
        self.series: Series = {
            tag: [(step, value.item()) for step, value in values] for tag, values in every.items() if "/text" not in tag
        }


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def test_tensorboard_gets_every_line_of_metrics_and_the_certificate(pactl: Call, words: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = pactl(*words, "--log", "tensorboard")
    assert (done.code, done.out, done.err) == (0, "run\n", "")
    events = Events(run / "tensorboard")
    assert len(lines(run)) == 3
    assert events.series == said_in(lines(run), lambda record: "train")
    assert "intrinsic_dim: 20" in events.texts["settings/text_summary"]
    assert "tensorboard" not in (run / "config.yml").read_text()
    done = pactl("bound", run, "--quant-epochs", 2, "--delta", ".05,.01", "--log", "tensorboard")
    assert done.json() == json.loads((run / "bound.json").read_text())
    events = Events(run / "tensorboard" / "bound")
    said = said_in([record for record in lines(run) if record["stage"] == "bound"], attempt_of)
    assert len(said) > 10
    found = {name: values for name, values in events.series.items() if not name.startswith("certificate/")}
    assert found == said
    for name, value in certificate_numbers(run).items():
        assert events.series[name] == [(0, value)]
    text = events.texts["certificate/text_summary"]
    assert "".join(line.removeprefix("    ") for line in text.splitlines(True)).strip() == done.out.strip()
    assert pactl("verify", run).code == 0


def test_what_is_certified_does_not_depend_on_it(pactl: Call, words: Any, tmp_path: Path) -> None:
    for name, log in (("run", ()), ("logged", ("--log", "tensorboard"))):
        assert pactl(*words[:-1], name, *log).code == 0
        assert pactl("bound", name, "--quant-epochs", 1, *log).code == 0
    for name in ("config.yml", "checkpoint.safetensors", "message.bin", "bound.json"):
        assert Path("run", name).read_bytes() == Path("logged", name).read_bytes()


def test_a_run_in_the_place_of_another_has_its_own_curves(pactl: Call, words: Any, tmp_path: Path) -> None:
    first, again = ("--log", "tensorboard"), ("--epochs", 2, "--log", "tensorboard")
    assert pactl(*words, *first).code == pactl("bound", "run", "--quant-epochs", 1, *first).code == 0
    assert pactl("bound", "run", "--quant-epochs", 2, "--force", *first).code == 0
    steps = Events(tmp_path / "run" / "tensorboard" / "bound").series["bound/grid-1.0/error"]
    assert len(steps) == 2
    assert pactl(*words, *again, "--force").code == 0
    assert Events(tmp_path / "run" / "tensorboard").series == said_in(lines(tmp_path / "run"), lambda record: "train")
    before = Events(tmp_path / "run" / "tensorboard").file.read_bytes()
    assert pactl(*words, *again, "--resume").code == 0
    assert Events(tmp_path / "run" / "tensorboard").file.read_bytes() == before


def test_a_stranger_s_link_is_not_followed(pactl: Call, trained: Path, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere" / "bound" / "events.out.tfevents.1"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    (trained / "tensorboard").symlink_to(tmp_path / "elsewhere")
    done = pactl("bound", trained, "--quant-epochs", 0, "--log", "tensorboard")
    assert done.code == 0
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    [line] = done.err.splitlines()
    assert "--log tensorboard has failed" in line
    assert "is a link" in line


@pytest.mark.slow
def test_of_several_processes_one_logs(shell: Call, npz: Path, tmp_path: Path) -> None:
    train = f"train --dataset npz:{npz} --epochs 2 --intrinsic-dim 5 --out run --log tensorboard"
    done = shell(f"pactl launch --cpus 2 {train}")
    assert (done.code, done.out) == (0, "run\n"), done
    assert Events(tmp_path / "run" / "tensorboard").series == said_in(lines(tmp_path / "run"), lambda record: "train")


# --- Others -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(shell: Call, words: Any, tmp_path: Path) -> Callable[[str], Path]:
    """Return `logged(name)`, which trains and certifies a run with a tracker; it skips if that is not installed."""

    def make(name: str) -> Path:
        if find_spec(name) is None:
            pytest.skip(f"{name.upper()} IS NOT TESTED: it is not installed")
        train, bound = " ".join(map(str, words)), "bound - --quant-epochs 1 --delta .05,.01"
        done = shell(f"pactl {train} --log {name} | pactl {bound} --log {name}")
        assert (done.code, json.loads(done.out)["delta"]) == (0, 0.05), done
        assert "--log" not in done.err
        return tmp_path / "run"

    return make


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_one_run_with_all_of_it(logged: Callable[[str], Path], tmp_path: Path) -> None:
    run = logged("mlflow")
    from mlflow import MlflowClient

    client = MlflowClient()
    [found] = client.search_runs([client.get_experiment_by_name("pactl").experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["intrinsic_dim"] == "20"
    history = [(entry.step, entry.value) for entry in client.get_metric_history(found.info.run_id, "train/error")]
    assert history == said_in(lines(run)[:3], lambda record: "train")["train/error"]
    for name, value in certificate_numbers(run).items():
        assert found.data.metrics[name] == value
    copy = client.download_artifacts(found.info.run_id, "bound.json", str(tmp_path))
    assert Path(copy).read_bytes() == (run / "bound.json").read_bytes()


@pytest.mark.slow
def test_trackio_gets_one_run_with_all_of_it(logged: Callable[[str], Path], tmp_path: Path) -> None:
    run = logged("trackio")
    with sqlite3.connect(tmp_path / "trackio" / "pactl.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    [name] = {row[0] for row in rows}
    assert name.startswith("run-")
    sent = [(row[1], json.loads(row[2])) for row in rows]
    errors = [(step, values["train/error"]) for step, values in sent if "train/error" in values]
    assert errors == said_in(lines(run)[:3], lambda record: "train")["train/error"]
    assert certificate_numbers(run).items() <= sent[-1][1].items()
    copies = [file for file in (tmp_path / "trackio" / "artifacts").rglob("*") if file.is_file()]
    assert (run / "bound.json").read_bytes() in [file.read_bytes() for file in copies]


@pytest.mark.slow
def test_wandb_gets_all_of_it_offline(logged: Callable[[str], Path], tmp_path: Path) -> None:
    run = logged("wandb")
    stores = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(stores) == 2
    assert len({store.name for store in stores}) == 1, "both commands are about one run"
    first, second = (store.read_bytes() for store in stores)
    for value in (value for _, value in said_in(lines(run)[:3], lambda record: "train")["train/error"]):
        assert str(value).encode() in first
    for name, value in certificate_numbers(run).items():
        assert name.encode() in second
        assert json.dumps(value).encode() in second


def test_one_that_fails_is_left_alone(pactl: Call, words: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Failing:
        def __init__(self, run: trackers.Tracked) -> None:
            assert run.settings["intrinsic_dim"] == 20
            print("chatter")

        def numbers(self, values: dict[str, float], step: int) -> None:
            calls.append("numbers")
            if len(calls) == 2:
                raise ConnectionError("no route\nto host")

        def certificate(self, values: dict[str, float], file: Path) -> None:
            calls.append("certificate")

        def end(self, *, failed: bool) -> None:
            calls.append("end")
            raise OSError("not even that")

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", Failing)
    done = pactl(*words, "--log", "tensorboard")
    assert (done.code, done.out) == (0, "run\n")
    [line] = done.err.splitlines()
    assert line.startswith("pactl: note: --log tensorboard has failed and gets nothing more: no route to host")
    assert calls == ["numbers", "numbers", "end"]
    assert len(lines(tmp_path / "run")) == 3
    calls.clear()
    done = pactl("bound", "run", "--quant-epochs", 1, "--log", "tensorboard")
    assert done.json()["bound_examples"] == 300
    assert calls == ["numbers", "numbers", "end"]


def test_one_that_is_absent_or_unknown_is_said_before_anything(
    pactl: Call, words: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--log comet: there is no such tracker (choose from tensorboard, mlflow" in pactl(
        *words, "--log", "comet"
    ).complaint(2)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for before in (words, ("launch", "--cpus", 2, *words), ("bound", trained)):
        complaint = pactl(*before, "--log", "wandb").complaint(2)
        assert "--log wandb needs wandb, which is not installed (pip install 'pactl[wandb]')" in complaint
    assert not Path("run").exists()
    assert not (trained / "bound.json").exists()


@pytest.mark.slow
def test_a_key_is_not_asked_for(shell: Call, trained: Path) -> None:
    if find_spec("wandb") is None:
        pytest.skip("WANDB IS NOT TESTED: it is not installed")
    done = shell(f"pactl bound {trained} --quant-epochs 0 --log wandb", WANDB_MODE="online")
    assert done.code == 0
    assert "there is no key for it: wandb login, or WANDB_MODE=offline" in done.err


def test_lines_that_somebody_has_altered_do_no_harm(pactl: Call, certified: Path, agree: Call) -> None:
    """The run keeps its certificate, and so its metrics with the altered lines."""
    odd = [b'{"stage": "bound", "attempt": 3}', b'{"stage": "bound"}', b"[" * 9000, b"\xff", b"3"]
    before = (certified / "metrics.jsonl").read_bytes()
    agree(certified, "metrics.jsonl", before + b"\n".join(odd) + b"\n")
    done = pactl("bound", certified, "--quant-epochs", 0, "--log", "tensorboard")
    assert done.code == 0
    assert "Traceback" not in done.err
    assert len([line for line in done.err.splitlines() if "--log tensorboard has failed" in line]) == 1
