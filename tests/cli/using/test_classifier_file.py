"""`classifier.safetensors` carries nothing unpaid: what the data do not say is refused, by `verify` or by `load`."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

import pactl_cli
from pactl_cli.errors import PactlError
from pactl_cli.runs.calibrated import Calibrated
from pactl_cli.stages.classifier import load

Call = Callable[..., Any]
Tensors = dict[str, torch.Tensor]
Facts = dict[str, Any]

FILE = "classifier.safetensors"
MEAN, VAR = "network/1.running_mean", "network/1.running_var"
SMALL = ("--model-name", "resnet20", "--base-width", 4, "--intrinsic-dim", 20, "--epochs", 12, "--lr", 0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, quiet: Callable[..., str], npz: Path) -> Path:
    place = tmp_path_factory.mktemp("normed")
    for name, more in {"run": ("--normalise", "calibration"), "other": ("--base-width", 8)}.items():
        quiet("train", "--dataset", f"npz:{npz}", *SMALL, *more, "--out", place / name)
        quiet("bound", place / name, "--quant-epochs", 3)
    return place


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A certified run whose network has batch statistics, and whose inputs are normalised by calibration examples."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def forge(run: Path, agree: Call) -> Callable[[bytes], None]:
    """`forge(content)`: another file, of which certificate and manifest have the hash."""

    def write(content: bytes) -> None:
        document = json.loads((run / "bound.json").read_text())
        document["classifier_sha256"] = sha256(content).hexdigest()
        agree(run, FILE, content)
        agree(run, "bound.json", document)

    return write


def contents(run: Path) -> tuple[Tensors, Facts]:
    data = (run / FILE).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors.torch.load(data), json.loads(header["__metadata__"]["classifier"])


def joined(tensors: Tensors, facts: Facts) -> bytes:
    return safetensors.torch.save(tensors, {"classifier": json.dumps(facts, sort_keys=True)})


def refusal(run: Path) -> str:
    with pytest.raises(PactlError) as caught:
        load(run)
    return caught.value.one_line()


def test_the_file_is_as_small_as_it_can_be_and_made_alike(
    run: Path, forge: Callable[[bytes], None], pactl: Call
) -> None:
    tensors, facts = contents(run)
    assert facts == {"channels": 1, "encoding": None, "examples": 30}
    assert joined(tensors, facts) == (run / FILE).read_bytes()
    assert {name.rpartition(".")[2] for name in tensors} == {"inputs/mean", "inputs/std", "running_mean", "running_var"}
    forge(joined(tensors, facts))
    assert pactl("verify", run).code == 0


def test_a_file_that_was_altered_or_swapped_is_found(run: Path, made: Path, agree: Call, pactl: Call) -> None:
    whole = (run / FILE).read_bytes()
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", (made / "other" / FILE).read_bytes()):
        (run / FILE).write_bytes(content)
        assert f"{FILE} is truncated, altered or missing" in refusal(run)
        assert f"{FILE} is truncated, altered or missing" in pactl("verify", run).complaint(1)
        agree(run, FILE, content)
        assert f"{FILE} is not the one that bound.json is about" in refusal(run)
        assert f"{FILE} is not the one that bound.json is about" in pactl("verify", run).complaint(1)
    (run / FILE).unlink()
    assert f"{FILE} is truncated, altered or missing" in refusal(run)
    os.symlink(made / "run" / FILE, run / FILE)
    assert f"{FILE} is truncated, altered or missing" in refusal(run)


def moved(name: str, by: float) -> Callable[[Tensors, Facts], None]:
    def change(tensors: Tensors, facts: Facts) -> None:
        tensors[name][0] += by * (tensors[VAR][0].sqrt() if name == MEAN else tensors[name][0])

    return change


def test_statistics_may_differ_as_another_machines_do(run: Path, forge: Callable[[bytes], None], pactl: Call) -> None:
    tensors, facts = contents(run)
    for name in (MEAN, VAR):
        moved(name, 1e-5)(tensors, facts)
    forge(joined(tensors, facts))
    assert pactl("verify", run).code == 0


def test_verify_counts_the_classifier_that_the_run_gives(
    run: Path, forge: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors, facts = contents(run)
    moved(MEAN, 100)(tensors, facts)
    forge(joined(tensors, facts))
    monkeypatch.setattr(Calibrated, "difference", lambda self, derived: "")  # as if this were another machine's
    with pytest.raises(PactlError, match="says errors is"):
        pactl_cli.verify(run)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (moved(MEAN, 1e-3), "1.running_mean"),
        (moved(VAR, 1e-3), "1.running_var"),
        (moved(VAR, -1e-3), "1.running_var"),
        (moved("inputs/mean", 1e-15), "statistics"),
        (moved("inputs/std", 1e-15), "statistics"),
        (lambda tensors, facts: facts.update(examples=31), "examples"),
        (lambda tensors, facts: facts.update(channels=3), "channels"),
        (lambda tensors, facts: facts.update(encoding={"fields": [], "fills": False}), "encoding"),
        (lambda tensors, facts: tensors.pop(MEAN), "1.running_mean"),
        (lambda tensors, facts: tensors.update({MEAN: tensors[MEAN].double()}), "1.running_mean"),
        (lambda tensors, facts: tensors.update({MEAN: tensors[MEAN][:-1].clone()}), "1.running_mean"),
        (lambda tensors, facts: tensors.update({"network/more": torch.zeros(9)}), "more"),
    ],
)
def test_what_the_data_do_not_say_is_unpaid(
    run: Path, forge: Callable[[bytes], None], pactl: Call, change: Callable[[Tensors, Facts], Any], name: str
) -> None:
    tensors, facts = contents(run)
    change(tensors, facts)
    forge(joined(tensors, facts))
    said = pactl("verify", run).complaint(1)
    assert f"{FILE} does not have the statistics of the data: {name} differs" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, facts: facts.update(more=1),
        lambda tensors, facts: facts.update(examples=-1),
        lambda tensors, facts: facts.update(examples=True),
        lambda tensors, facts: facts.update(channels="1"),
        lambda tensors, facts: facts.update(encoding={"fields": 1}),
        lambda tensors, facts: facts.pop("examples"),
        lambda tensors, facts: tensors.update({"inputs/std": -tensors["inputs/std"]}),
        lambda tensors, facts: tensors.pop("inputs/std"),
        lambda tensors, facts: tensors.update({MEAN: tensors[MEAN] * torch.nan}),
        lambda tensors, facts: tensors.update({MEAN: tensors[MEAN].long()}),
        lambda tensors, facts: tensors.update({"elsewhere": torch.zeros(9)}),
    ],
)
def test_what_is_no_such_file_is_refused_by_both(
    run: Path, forge: Callable[[bytes], None], pactl: Call, change: Callable[[Tensors, Facts], Any]
) -> None:
    tensors, facts = contents(run)
    change(tensors, facts)
    forge(joined(tensors, facts))
    assert f"{FILE} is altered" in refusal(run)
    assert f"{FILE} is altered" in pactl("verify", run).complaint(1)


def test_a_pickle_is_not_loaded(run: Path, forge: Callable[[bytes], None]) -> None:
    forge(pickle.dumps(print))
    assert "it is no safetensors file" in refusal(run)


def test_statistics_of_another_network_do_not_fit(run: Path, made: Path, forge: Callable[[bytes], None]) -> None:
    tensors, facts = contents(run)
    forge((made / "other" / FILE).read_bytes())
    assert "disagree on whether inputs have statistics" in refusal(run)
    forge(joined({name: tensor for name, tensor in tensors.items() if name != MEAN}, facts))
    assert "does not have the statistics of its network" in refusal(run)
    for name in ("network/foo", MEAN):  # without examples they are those of theta0
        inputs = {key: tensor for key, tensor in tensors.items() if key.startswith("inputs/")}
        forge(joined(inputs | {name: tensors[MEAN]}, facts | {"examples": 0}))
        assert "does not have the statistics of its network" in refusal(run)


def test_a_message_cannot_name_code_that_the_configuration_does_not(run: Path, agree: Call, tmp_path: Path) -> None:
    (tmp_path / "evil_code.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    document = json.loads((run / "bound.json").read_text())
    brought = {"name": "evil_code:net", "width": None, "batch_statistics": False}
    document["side_information"]["task"]["brought"] = brought
    document["configuration"]["model_name"] = "evil_code:net"
    agree(run, "bound.json", document)
    assert "\n" not in refusal(run)
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 5),
        ("intrinsic_mode", "dense"),
        ("intrinsic_dim", 19),
        ("intrinsic_dim", 21),
        ("class_names", ["a", "b", "c"]),
    ],
)
def test_files_that_disagree_are_refused(run: Path, agree: Call, name: str, value: object) -> None:
    settings = yaml.safe_load((run / "config.yml").read_text())
    assert load(run).certificate.intrinsic_dim
    agree(run, "config.yml", yaml.safe_dump(settings | {name: value}))
    assert refusal(run)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 1_000_000_000},
        {"classes": 4},
        {"classes": None},
        {"inputs": {"kind": "image", "tensors": {"inputs": {"shape": [1, 60_000, 60_000], "dtype": "uint8"}}}},
        {"inputs": {"kind": "features", "tensors": {"inputs": {"shape": [64], "dtype": "float32"}}}},
        {"inputs": None},
        {"task": None},
        {"network": None},
        {"theta0_sha256": "0" * 64},
        {"class_names": ["a", "b", "c"]},
    ],
)
def test_what_a_certificate_says_of_the_task_is_not_believed(run: Path, agree: Call, change: Facts) -> None:
    document = json.loads((run / "bound.json").read_text())
    document["side_information"] |= change
    agree(run, "bound.json", document)
    assert refusal(run)
