"""No number in a stranger's run directory decides how much memory is taken.

The forger here makes everything agree with everything: settings, message, indices, certificate, fingerprints. What is
asked of the program is only that it takes little memory before it refuses, or while it does as it is told.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pactl_cli.certificate.codebook import Grid
from pactl_cli.certificate.message import Message, encode
from pactl_cli.models import build_network, sketch_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import head_names
from pactl_cli.models.size import Size
from pactl_cli.problem import loading
from pactl_cli.problem.display import Silence
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.problem.problem import Problem
from pactl_cli.runs.calibrated import Calibrated
from pactl_cli.runs.checkpoint import save_tensors
from pactl_cli.runs.directory import CERTIFICATE, CHECKPOINT, CONFIG, INDICES, INIT, MESSAGE, METRICS, RunDirectory
from pactl_cli.runs.kinds import KINDS
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.stages.evidence import Claim, Measured, assemble

Call = Callable[..., Any]

LARGEST_RUN, CLASSIFIER = 1 << 20, "classifier.safetensors"
LARGEST_MADE = 1 << 24
"""Weights of a network that the forger builds to say what it answers."""
MOST_BYTES = 1 << 30
"""What a run of a stranger's may take beyond an honest one."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="MEMORY IS NOT MEASURED: it is known of Linux only")


def forge(place: Path, kind: str = "train", start: Start | None = None, **settings: Any) -> Path:
    """A run directory, trained and certified as far as its files tell, in which everything agrees: no network is made.

    Its numbers of errors are made up, and so is what it says of its network.
    """
    given = {"epochs": 1, "intrinsic_dim": 20, "lr": 0.1, "device": "cpu", "train_subset": 0.8} | settings
    problem, run = _problem(KINDS[kind].settings.parse(given), start), RunDirectory.create(place, kind)
    found = problem.fingerprints
    manifest = run.manifest
    manifest.data_sha256, manifest.train_sha256, manifest.test_sha256 = found.sample, found.train, found.test
    run.write_config(problem.settings.as_dict())
    files = [CONFIG, CHECKPOINT, METRICS, MESSAGE, CLASSIFIER, CERTIFICATE]
    if problem.has_indices:
        run.write_arrays(INDICES, problem.indices())
        files.append(INDICES)
    if start is not None:
        assert problem.blueprint.start is not None
        run.manifest.parent = problem.blueprint.start.sha256()
        problem.blueprint.start.save(run)
        files.append(INIT)
    dim = problem.configuration.intrinsic_dim
    save_tensors(run, CHECKPOINT, {"w": torch.full((dim,), 0.5)}, {"stage": "train"})
    run.write_bytes(METRICS, b"")
    for name, content in zip((MESSAGE, CLASSIFIER, CERTIFICATE), _certified(problem, dim), strict=True):
        run.write_bytes(name, content)
    run.set_stage(kind, "complete")
    run.set_stage("bound", "complete", tuple(files))
    return place


def _problem(settings: TrainSettings, start: Start | None) -> Problem:
    """What the settings are about, however large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "within_memory", lambda configuration, *_, **__: configuration)
        return loading.load_problem(loading.Request(settings, torch.device("cpu"), Silence(), start=start))


def _certified(problem: Problem, dim: int) -> tuple[bytes, bytes, bytes]:
    """A message whose every symbol is the same, what its classifier is given, and a certificate of it."""
    configuration, dataset, width = problem.configuration, problem.dataset, problem.configuration.base_width
    sketch = sketch_network(configuration.model_name, classes=dataset.classes, inputs=dataset.spec, width=width)
    if Size.of(sketch, dataset.spec).parameters < LARGEST_MADE:
        facts = problem.blueprint.network_facts
    else:  # whoever has the memory knows better
        facts = NetworkFacts("pactl 0", "0" * 64, (0.0,) * 4)
        problem.blueprint.__dict__["network_facts"] = facts
    message = Message(problem.configuration, Grid(0.5, 1) if dim else None, np.full(dim, 2 if dim else 0))
    encoded = encode(message, problem.task)
    drawn, inputs = len(problem.calibration), problem.blueprint.calibrated
    given = Calibrated(drawn, problem.file_channels, inputs, None, {}).to_bytes()
    measured = Measured(1, 1, 1 if problem.dataset.test else None, 1.0, facts, sha256(given).hexdigest())
    certificate = assemble(problem, message, encoded, measured, Claim(0.05, 0.0, False))
    return encoded.data, given, certificate.to_bytes()


def unfinished(run: Path) -> Path:
    """The same run, as if its training had been stopped before the first step."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["stages"] = {manifest["kind"]: "running"}
    for name in ("checkpoint.safetensors", "metrics.jsonl", "message.bin", "classifier.safetensors", "bound.json"):
        manifest["files"].pop(name)
        (run / name).unlink()
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


def forge_frames(place: Path, dataset: str, side: int) -> Path:
    """A transfer whose weights say that they are for images of some size, to which the data are brought.

    Where the forger cannot hold them, no more than the weights and what vouches for them says so.
    """
    made = min(side, 640)
    forge(place, "transfer", framed_start(made), dataset=dataset, model_name="layer13s", source="elsewhere")
    if side > made:
        run, start = RunDirectory.open(place), framed_start(side)
        start.save(run)
        run.manifest.parent = start.sha256()
        run.set_stage("bound", "complete", (INIT,))
    return place


def framed_start(side: int) -> Start:
    """Weights that take images of any size but small ones, and say that theirs were large."""
    network = build_network("layer13s", classes=3, inputs=InputSpec.image(1, 32, 32), width=8, seed=137)
    return Start(
        tensors=dict(network.state_dict()),
        seen=np.zeros(0, dtype=np.uint64),
        model_name="layer13s",
        base_width=8,
        classes=3,
        head=head_names(network),
        spec=InputSpec.image(1, side, side),
        statistics=None,
        seen_is_complete=True,
        origin="a better world",
        lineage=(Training("mnist"),),
    )


# --- The meter --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def meter() -> Iterator[Call]:
    """`meter(*arguments)`: exit code, most memory held in bytes, stderr, of a process of its own."""
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("memory_meter.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pipe_in, pipe_out = process.stdin, process.stdout

        def measure(*arguments: object) -> tuple[int, int, str]:
            pipe_in.write(json.dumps([str(word) for word in arguments]) + "\n")
            pipe_in.flush()
            code, held, said = json.loads(pipe_out.readline())
            return code, held, said

        yield measure
        process.kill()


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A data set of rows, which is too small for any convolution: 300 examples of 64 columns."""
    rows = np.random.default_rng(0).integers(0, 256, (300, 1, 64), dtype=np.uint8)
    np.savez(tmp_path / "table.npz", x_train=rows, y_train=np.arange(300) % 3)
    return f"npz:{tmp_path / 'table.npz'}"


@pytest.fixture
def colour(tmp_path: Path) -> str:
    """60 images of 32 x 32 in colour."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", x_train=images, y_train=np.arange(60) % 3)
    return f"npz:{tmp_path / 'colour.npz'}"


# --- Measured ---------------------------------------------------------------------------------------------------------

WIDE: dict[str, Any] = {"model_name": "resnet18k", "base_width": 200}
CASES: dict[str, dict[str, Any]] = {
    "its own width": {"model_name": "resnet18k"},
    "width 200": WIDE,
    "width 1000": {"model_name": "resnet18k", "base_width": 1000},
    "width 4096": {"model_name": "resnet18k", "base_width": 4096},
    "a huge batch": {"model_name": "resnet18k", "batch_size": 10**6},
    "a huge batch of digits": {"dataset": "digits", "model_name": "resnet18k", "batch_size": 10**6},
    "dense": {"model_name": "resnet18k", "intrinsic_mode": "dense", "intrinsic_dim": 1000},
    "dense on little": {"model_name": "fc", "intrinsic_mode": "dense", "intrinsic_dim": 5000},
    "sparse": {"model_name": "resnet18k", "intrinsic_mode": "sparse", "intrinsic_dim": 40_000},
    "rkron": {"model_name": "resnet18k", "intrinsic_mode": "rkron", "intrinsic_dim": 200_000},
    "fastfood": {"model_name": "resnet18k", "intrinsic_mode": "fastfood", "intrinsic_dim": 1000},
    "rdkronqr": {"model_name": "resnet18k", "intrinsic_dim": 200_000},
    "regnet_y_128gf": {"dataset": "colour", "model_name": "regnet_y_128gf"},
    "vgg16": {"dataset": "colour", "model_name": "vgg16"},
    "frames of 100": {"frame": 100},
    "frames of 1200": {"frame": 1200},
    "frames of 1500": {"frame": 1500},
    "frames of 60000": {"frame": 60_000},
}


@linux
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_number_of_a_run_takes_a_gigabyte(
    meter: Call, npz: Path, table: str, colour: str, tmp_path: Path, name: str
) -> None:
    settings = dict(CASES[name])
    side = settings.pop("frame", None)
    settings["dataset"] = {"colour": colour, "digits": "digits"}.get(settings.get("dataset", ""), f"npz:{npz}")
    run = forge_frames(tmp_path / "run", table, side) if side else forge(tmp_path / "run", **settings)
    assert sum(file.stat().st_size for file in run.iterdir()) < LARGEST_RUN
    network: dict[str, Any] = (
        {} if {"base_width", "dataset"} & CASES[name].keys() else {"model_name": CASES[name].get("model_name")}
    )
    honest = forge(tmp_path / "honest", dataset=f"npz:{npz}", **network)
    for command in COMMANDS:
        taken = [
            held_by(meter, command, place, table if side and place == run else settings["dataset"])
            for place in (honest, run)
        ]
        print(f"{name}: {command}: {taken[0] >> 20} MB honestly, {(taken[1] - taken[0]) >> 20} MB more")
        assert taken[1] - taken[0] < MOST_BYTES, f"{command}: {taken[1] >> 20} MB, and {taken[0] >> 20} MB"


COMMANDS = ("verify", "bound", "transfer", "resume", "report", "page")


def held_by(meter: Call, command: str, run: Path, dataset: str) -> int:
    """The most memory that a command holds, on a copy of a run."""
    place = run.with_name("copy")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place)
    kind = json.loads((run / "manifest.json").read_text())["kind"]
    out = run.with_name("out")
    shutil.rmtree(out, ignore_errors=True)
    target = ("--dataset", dataset, "--train-subset", -0.8, "--epochs", 1, "--intrinsic-dim", 5, "--out", out)
    words: dict[str, tuple[object, ...]] = {
        "verify": ("verify", place),
        "bound": ("bound", place, "--quant-epochs", 1),
        "transfer": ("transfer", place, *target),
        "resume": (kind, *(["elsewhere"] if kind == "transfer" else []), "--resume", "--out", unfinished_copy(run)),
        "report": ("report", place),
        "page": ("report", place, "--html", run.with_name("page.html")),
    }
    code, held, said = meter(*words[command])
    assert code in (0, 1, 2), said
    assert isinstance(held, int)
    return held


def unfinished_copy(run: Path) -> Path:
    """A copy of a run that is to be gone on with."""
    place = run.with_name("begun")
    shutil.rmtree(place, ignore_errors=True)
    return unfinished(Path(shutil.copytree(run, place)))


@linux
@pytest.mark.slow
def test_the_meter_measures(meter: Call, npz: Path, tmp_path: Path) -> None:
    """Who names the network gets it, and then it takes what it takes."""
    run = forge(tmp_path / "run", dataset=f"npz:{npz}", **WIDE)
    assert meter("verify", run)[1] < MOST_BYTES
    assert meter("verify", run, "--model-name", "resnet18k")[1] > MOST_BYTES


# --- Refused at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "code"), [("verify", 2), ("bound", 2), ("transfer", 2), ("train", 2)])
def test_a_wide_network_is_not_built_unasked(pactl: Call, npz: Path, tmp_path: Path, command: str, code: int) -> None:
    run = forge(tmp_path / "run", dataset=f"npz:{npz}", **WIDE)
    options: dict[str, tuple[object, ...]] = {
        "verify": (run,),
        "bound": (run,),
        "transfer": (run, "--dataset", f"npz:{npz}", "--train-subset", -0.8, "--out", "out"),
        "train": ("--resume", "--out", run),
    }
    if command == "train":
        unfinished(run)
    line = pactl(command, *options[command]).complaint(code)
    assert "of 109,026,623 weights" in line
    assert "it is not built unasked (to build it: --model-name resnet18k)" in line
    assert not Path("out").exists()


@pytest.mark.parametrize("projector", ["dense", "sparse", "rkron"])
def test_a_projector_is_counted_too(pactl: Call, npz: Path, tmp_path: Path, projector: str) -> None:
    run = forge(tmp_path / "run", dataset=f"npz:{npz}", model_name="fc", intrinsic_mode=projector, intrinsic_dim=53_000)
    done = pactl("verify", run)
    if projector == "rkron":  # which is small there
        assert "errors" in done.complaint(1)
    else:
        assert f"the projector {projector}: it is not built unasked" in done.complaint(2)


def test_who_names_the_network_has_it_built(pactl: Call, npz: Path, tmp_path: Path) -> None:
    """The honest twin: what is refused unasked is one that is asked for."""
    wide: dict[str, Any] = {"model_name": "fc", "intrinsic_mode": "dense", "intrinsic_dim": 4000}
    run = forge(tmp_path / "run", dataset=f"npz:{npz}", **wide)
    assert "not built unasked" in pactl("verify", run).complaint(2)
    assert "says errors is 1" in pactl("verify", run, "--model-name", "fc").complaint(1)


def test_an_honest_run_is_built_unasked(pactl: Call, npz: Path, tmp_path: Path) -> None:
    """The forger's own, which is honest but for its counts, can be certified and gone on with."""
    run = forge(tmp_path / "run", dataset=f"npz:{npz}")
    assert "says errors is 1" in pactl("verify", run).complaint(1)
    assert pactl("bound", run, "--quant-epochs", 0).code == 0
    assert pactl("verify", run).code == 0
    assert pactl("train", "--resume", "--out", unfinished(forge(tmp_path / "two", dataset=f"npz:{npz}"))).code == 0


def test_large_images_are_not_made(pactl: Call, table: str, tmp_path: Path) -> None:
    for side in (600, 60_000):
        run = forge_frames(tmp_path / str(side), table, side)
        for command in ("verify", "bound"):
            assert "it is not built unasked" in pactl(command, run).complaint(2)


def test_a_checkpoint_with_a_hole_is_not_read(pactl: Call, certified: Path, agree: Call) -> None:
    """A gigabyte of nothing takes no space on the disk, and more tensors than there should be no time to write."""
    with (certified / "checkpoint.safetensors").open("r+b") as file:
        content = file.read()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        end = header["w"]["data_offsets"][1]
        header["more"] = {"dtype": "U8", "shape": [1 << 28], "data_offsets": [end, end + (1 << 28)]}
        text = json.dumps(header).encode()
        file.seek(0)
        file.write(len(text).to_bytes(8, "little") + text + content[8 + size :])
        file.truncate(8 + len(text) + end + (1 << 28))
    agree(certified)
    assert "checkpoint.safetensors" in pactl("verify", certified).complaint(1)
    assert "checkpoint.safetensors is truncated" in pactl("bound", certified).complaint(2)


# --- What else a run may name -----------------------------------------------------------------------------------------


def test_a_permutation_of_the_runs_own_is_not_looked_for_elsewhere(
    pactl: Call, npz: Path, quick: Any, tmp_path: Path, agree: Call
) -> None:
    """An archive of zeros, or anything else, in the place that the run names: it is not opened."""
    order = tmp_path / "order.npy"
    np.save(order, np.random.default_rng(1).permutation(300))
    assert pactl("train", "--dataset", f"npz:{npz}", *quick, "--indices-path", order, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(1 << 22, dtype=np.int64))
    (tmp_path / "bomb.npz").rename(order)
    assert pactl("verify", "run").code == 0
    with np.load("run/indices.npz") as file:
        parts = dict(file)
    del parts["permutation"]
    np.savez("run/indices.npz", **parts)
    agree(Path("run"))
    assert "does not hold the permutation" in pactl("verify", "run").complaint(1)
    assert "does not hold the permutation" in pactl("bound", "run").complaint(2)


@pytest.mark.parametrize("order", ["outside", "twice", "short", "negative", "empty"])
def test_a_permutation_that_is_none(
    pactl: Call, npz: Path, quick: Any, tmp_path: Path, agree: Call, order: str
) -> None:
    """S is then what the forger likes, as if it had been drawn."""
    np.save(tmp_path / "order.npy", np.random.default_rng(1).permutation(300))
    train = ("train", "--dataset", f"npz:{npz}", *quick, "--epochs", 1, "--indices-path", "order.npy", "--out", "run")
    assert pactl(*train).code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    forged = {
        "outside": np.arange(1, 301),
        "twice": np.arange(300) // 2,
        "short": np.arange(200),
        "negative": np.arange(300) - 1,
        "empty": np.arange(0),
    }[order]
    with np.load("run/indices.npz") as file:
        parts = dict(file) | {"permutation": forged, "bound": forged}
    np.savez("run/indices.npz", **parts)
    agree(Path("run"))
    assert "the permutation that the run records" in pactl("verify", "run").complaint(1)
    assert "the permutation that the run records" in pactl("bound", "run").complaint(2)
    assert "the permutation that the run records" in pactl(*train, "--resume").complaint(2)
