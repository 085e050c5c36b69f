"""Data come from the user: a run directory does not say where a named data set lies, and verifying writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pactl_cli import catalogue
from pactl_cli.certificate.message import decode
from pactl_cli.data.files import decoded_cache
from pactl_cli.data.published import idx_files
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.problem.reloading import reload_problem
from pactl_cli.runs.directory import RunDirectory

Call = Callable[..., Any]
Arrays = dict[str, Any]

QUICK = ("--epochs", 1, "--intrinsic-dim", 10)
TRAIN, TEST = 400, 60


# --- Named data sets --------------------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An array of bytes as an IDX file."""
    sizes = (0x800 + array.ndim, *array.shape)
    path.write_bytes(b"".join(int(size).to_bytes(4, "big") for size in sizes) + array.astype(np.uint8).tobytes())


def forge_fashion(place: Path, train: int = TRAIN, test: int = TEST) -> Path:
    """A data directory whose Fashion-MNIST is noise, its labels what the network that a seed gives says of it."""
    network = build_network("fc", classes=10, inputs=InputSpec.image(1, 28, 28), width=200, seed=137).eval()
    raw = place / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        with torch.no_grad():
            inputs = torch.from_numpy(images)[:, None] / 255 * 2 - 1
            labels = torch.cat([network(batch) for batch in inputs.split(2000)]).argmax(1).numpy()
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return place


@pytest.fixture
def small_fashion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST, in which only a file's own form can tell, is a smaller data set."""
    headers = {
        "train-images-idx3-ubyte": (0x803, TRAIN, 28, 28),
        "train-labels-idx1-ubyte": (0x801, TRAIN),
        "t10k-images-idx3-ubyte": (0x803, TEST, 28, 28),
        "t10k-labels-idx1-ubyte": (0x801, TEST),
    }
    monkeypatch.setattr(idx_files, "FASHION_HEADERS", headers)
    monkeypatch.setitem(catalogue.DATASETS, "fmnist", replace(catalogue.DATASETS["fmnist"], train_examples=TRAIN))


def train_on(place: Path, dataset: str = "fmnist", *options: object) -> tuple[object, ...]:
    """Training that hardly moves."""
    network = ("--model-name", "fc", "--intrinsic-dim", 10, "--epochs", 1, "--lr", 1e-50)
    return ("train", "--dataset", dataset, "--data-dir", place, *network, *options)


def is_absent(line: str, place: Path) -> bool:
    """Whether a command has looked for the data elsewhere; it may say where the run says they were."""
    return "fmnist is not in" in line and str(place) not in line.partition(" (training found them in ")[0]


@pytest.fixture
def evil(pactl: Call, small_fashion: None, tmp_path: Path) -> Path:
    """A stranger's run, its data beside it."""
    data = forge_fashion(tmp_path / "evil" / "data")
    run = tmp_path / "evil" / "run"
    assert pactl(*train_on(data), "--out", run).code == 0
    certificate = pactl("bound", run, "--quant-epochs", 0, "--data-dir", data).json()
    assert certificate["quantised_train_error"] < 0.02
    assert f"data_dir: {data}\n" in (run / "config.yml").read_text()
    return run


def test_a_named_data_set_beside_a_run_is_not_read(pactl: Call, evil: Path) -> None:
    data = evil.with_name("data")
    refused = pactl("verify", evil).complaint(2)
    assert is_absent(refused, data)
    assert str(data) not in refused, "who judges is led nowhere"
    assert is_absent(pactl("bound", evil, "--quant-epochs", 0).complaint(2), data)
    transfer = ("transfer", evil, "--dataset", "digits", *QUICK, "--out", "out")
    assert is_absent(pactl(*transfer).complaint(2), data)
    manifest = json.loads((evil / "manifest.json").read_text())
    (evil / "manifest.json").write_text(json.dumps(manifest | {"stages": {"train": "running"}}))
    assert is_absent(pactl("train", "--resume", "--out", evil).complaint(2), data)
    assert not Path("out").exists()


def test_who_names_the_directory_has_it_read_and_is_told_what_is_known(pactl: Call, evil: Path) -> None:
    data = evil.with_name("data")
    said = pactl("verify", evil, "--data-dir", data)
    assert said.code == 0
    where = f'Data: fmnist from "{data}"; pactl knows no sha256 of its content: check that it is the published one.'
    assert where in " ".join(said.out.split())
    told = pactl("verify", evil, "--data-dir", data, "--json").json()
    assert f"{told['data']}." == where.removeprefix("Data: ")


def test_the_environment_is_the_user_too(pactl: Call, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACTL_DATA_DIR", str(evil.with_name("data")))
    assert pactl("verify", evil).code == 0
    assert pactl("bound", evil, "--quant-epochs", 0).code == 0


@pytest.mark.slow
def test_a_forged_fashion_mnist_of_full_size(pactl: Call, tmp_path: Path) -> None:
    """As it was believed at 0.09 %."""
    data, run = forge_fashion(tmp_path / "data", 60_000, 10_000), tmp_path / "run"
    assert pactl(*train_on(data, "fmnist", "--batch-size", 1000), "--out", run).code == 0
    assert pactl("bound", run, "--quant-epochs", 0, "--data-dir", data).json()["error_bound"] < 0.001
    assert is_absent(pactl("verify", run).complaint(2), data)
    assert is_absent(pactl("bound", run, "--quant-epochs", 0).complaint(2), data)


@pytest.mark.slow
def test_checked_data_are_taken_from_where_training_found_them(pactl: Call, data_dir: Path, tmp_path: Path) -> None:
    """By `bound`, for each file has a checksum that pactl knows; `verify` is told where all the same."""
    run = tmp_path / "run"
    assert pactl(*train_on(data_dir, "mnist", "--train-subset", 0.02), "--out", run).code == 0
    assert pactl("bound", run, "--quant-epochs", 0).code == 0
    assert "mnist is not in" in pactl("verify", run).complaint(2)
    told = pactl("verify", run, "--data-dir", data_dir, "--json").json()
    assert told["data"] == f'mnist from "{data_dir}"; its content has the sha256 that pactl knows'


def test_data_inside_a_package_need_no_place(pactl: Call) -> None:
    assert pactl("train", "--dataset", "digits", *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    told = pactl("verify", "run", "--json").json()
    assert told["data"] == "digits from scikit-learn; its content has the sha256 that pactl knows"


# --- Nothing is written -----------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of images, of which a cache would be kept at once."""
    monkeypatch.setattr(decoded_cache, "_SETTLED_SECONDS", -1.0)
    place = tmp_path / "pictures"
    for number, (image, label) in enumerate(zip(arrays["x_train"][:90], arrays["y_train"][:90], strict=True)):
        (place / "train" / f"{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / "train" / f"{label}" / f"{number}.png")
    return place


def test_verifying_writes_nothing(pactl: Call, pictures: Path, tmp_path: Path, tree: Call) -> None:
    """Neither into the run, nor beside the data, nor into the cache of decoded images, which `bound` fills."""
    train = ("train", "--dataset", f"folder:{pictures}", "--model-name", "fc", "--base-width", 8, *QUICK)
    assert pactl(*train, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    cache = tmp_path / ".cache"
    assert any(path.name == "folders" for path in cache.rglob("*")), "the honest twin"
    shutil.rmtree(cache)
    before = tree(tmp_path)
    for options in ((), ("--json",), ("--dataset", f"folder:{pictures}")):
        assert pactl("verify", "run", *options).code == 0
        assert tree(tmp_path) == before
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    assert cache.exists()


def test_verifying_fetches_nothing(pactl: Call, evil: Path, tmp_path: Path, tree: Call) -> None:
    for command in ((), ("--data-dir", tmp_path)):
        before = tree(tmp_path)
        assert "this command downloads nothing" in pactl("verify", evil, *command).complaint(2)
        assert tree(tmp_path) == before


# --- The user's own data ----------------------------------------------------------------------------------------------


def test_data_from_where_the_run_says_they_are(pactl: Call, certified: Path, npz: Path) -> None:
    told = pactl("verify", certified, "--json").json()
    assert told["data"].startswith(f'"npz:{npz}", a path that the run names')
    assert "that the run names" not in pactl("verify", certified, "--dataset", f"npz:{npz}").out


@pytest.mark.parametrize("name", ["{run}/tiny.npz", "{run}/../certified/tiny.npz", "{link}/tiny.npz", "{file}"])
def test_a_run_does_not_vouch_for_itself(
    pactl: Call, certified: Path, npz: Path, tmp_path: Path, agree: Call, name: str
) -> None:
    """Its data lie in it, however it names them."""
    shutil.copy(npz, certified / "tiny.npz")
    (tmp_path / "link").symlink_to(certified)
    (tmp_path / "file.npz").symlink_to(certified / "tiny.npz")
    place = name.format(run=certified, link=tmp_path / "link", file=tmp_path / "file.npz")
    replant(certified, npz, place, agree)
    for command in ("verify", "bound"):
        assert "inside itself, and cannot vouch for it" in pactl(command, certified).complaint(2)
    transfer = ("transfer", certified, "--dataset", "digits", *QUICK, "--out", "out")
    assert "inside itself" in pactl(*transfer).complaint(2)


def replant(run: Path, old: Path, new: str, agree: Call) -> None:
    """Everything in a run speaks of data elsewhere."""
    agree(run, "config.yml", (run / "config.yml").read_text().replace(f"npz:{old}", f"npz:{new}"))
    document = json.loads((run / "bound.json").read_text().replace(f"npz:{old}", f"npz:{new}"))
    agree(run, "bound.json", document)


def test_who_knows_the_data_in_a_run_may_name_them(pactl: Call, certified: Path, npz: Path, agree: Call) -> None:
    shutil.copy(npz, certified / "tiny.npz")
    replant(certified, npz, str(certified / "tiny.npz"), agree)
    assert pactl("verify", certified, "--dataset", f"npz:{certified / 'tiny.npz'}").code == 0


@pytest.mark.parametrize("command", ["verify", "bound"])
def test_data_that_have_moved(
    pactl: Call, certified: Path, npz: Path, tmp_path: Path, agree: Call, command: str
) -> None:
    """They are known by their content."""
    replant(certified, npz, "/nowhere/tiny.npz", agree)
    shutil.copy(npz, tmp_path / "moved.npz")
    assert "/nowhere/tiny.npz" in pactl(command, certified).complaint(2)
    assert pactl(command, certified, "--dataset", f"npz:{tmp_path / 'moved.npz'}").code == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["x_train"].__setitem__((0, 0, 0), a["x_train"][0, 0, 0] ^ 1),
        lambda a: a.update(x_test=a["x_test"][::-1], y_test=a["y_test"][::-1]),
        lambda a: [a.pop("x_test"), a.pop("y_test")],
    ],
)
def test_other_data_are_refused_by_their_fingerprint(
    pactl: Call, certified: Path, tmp_path: Path, arrays: Arrays, change: Call
) -> None:
    other = {name: array.copy() for name, array in arrays.items()}
    change(other)
    np.savez(tmp_path / "other.npz", **other)
    for command, code in (("verify", 1), ("bound", 2)):
        line = pactl(command, certified, "--dataset", f"npz:{tmp_path / 'other.npz'}").complaint(code)
        assert "is not the one that the run" in line


def test_data_of_another_kind(pactl: Call, certified: Path, tmp_path: Path) -> None:
    for named in ("digits", f"folder:{tmp_path}"):
        assert "--dataset" in pactl("verify", certified, "--dataset", named).complaint(2)
    assert pactl("train", "--dataset", "digits", *QUICK, "--out", "run").code == 0
    assert pactl("bound", "run", "--quant-epochs", 0).code == 0
    assert "is not what run is about" in pactl("verify", "run", "--dataset", "mnist").complaint(2)
    assert pactl("verify", "run", "--dataset", "digits").code == 0


# --- What else is compared, and what is not ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another order", "two examples"])
def test_a_test_set_with_as_many_errors(pactl: Call, quick: Any, arrays: Arrays, tmp_path: Path, how: str) -> None:
    """Nothing counted tells them apart."""
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    assert pactl("train", "--dataset", f"npz:{path}", *quick, "--out", "run").code == 0
    document = pactl("bound", "run", "--quant-epochs", 2).json()
    wrong = wrongly_classified(Path("run"), arrays)
    assert wrong.sum() == round(document["test_error"] * len(wrong))
    if how == "another order":
        chosen = np.arange(len(wrong))[::-1]
    else:
        chosen = np.where(np.sort(wrong), np.flatnonzero(wrong)[:1], np.flatnonzero(~wrong)[0])
    np.savez(path, **(arrays | {name: arrays[name][chosen] for name in ("x_test", "y_test")}))
    assert "its test set differs" in pactl("verify", "run").complaint(1)
    np.savez(path, **arrays)
    assert pactl("verify", "run").code == 0


def wrongly_classified(path: Path, arrays: Arrays) -> np.ndarray[Any, Any]:
    """Which test examples the classifier of a run's message gets wrong."""
    problem = reload_problem(RunDirectory.open(path), Named(), "cpu", Silence())
    message, _ = decode((path / "message.bin").read_bytes(), problem.task)
    network = problem.classifier(problem.build_module(), torch.from_numpy(message.coordinates()))
    with torch.no_grad():
        logits = network(torch.from_numpy(arrays["x_test"])[:, None])
    return np.asarray(logits.argmax(1).numpy() != arrays["y_test"])


def test_what_is_not_looked_at_is_said(pactl: Call, certified: Path, agree: Call) -> None:
    lines = [json.loads(line) for line in (certified / "metrics.jsonl").read_text().splitlines()]
    forged = "".join(json.dumps(line | {"error": 0.0, "loss": 1e-9}) + "\n" for line in lines)
    agree(certified, "metrics.jsonl", forged, versions={"pactl": "9.9", "torch": "0"}, device="abacus")
    said = pactl("verify", certified)
    assert said.code == 0
    things = ["the training curves in metrics.jsonl", "the versions and the device in manifest.json"]
    things += ["program_version and made_with in bound.json"]
    assert f"  Not looked at: {'; '.join(things)}.\n" in said.out
    assert pactl("verify", certified, "--json").json()["not_looked_at"] == things
