"""Examples that a source has seen, and copies of examples that shaped the classifier, are not counted unsaid.

Labels are fair coins, so every classifier errs on half of new examples, and a certificate below one half is false. Each
attack has a twin that behaves like version 0.1.0.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pactl_cli.certificate.certificate import Certificate
from pactl_cli.data.dataset import Examples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.resizing import resized
from pactl_cli.data.splits import Partition
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.problem import fitting
from pactl_cli.problem.consent import Named
from pactl_cli.problem.display import Silence
from pactl_cli.runs.settings import BoundSettings, PriorSettings, TrainSettings, TransferSettings
from pactl_cli.stages.bound import bound
from pactl_cli.stages.prior import prior
from pactl_cli.stages.train import Destination, train
from pactl_cli.stages.verify import verify

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

NOTHING_LEARNED = {"epochs": 1, "lr": 1e-9, "device": "cpu"}


def coins(examples: int, seed: int = 0) -> tuple[Images, Labels]:
    """Return images of 8 x 8 noise with random labels."""
    random = np.random.default_rng(seed)
    return random.integers(256, size=(examples, 8, 8), dtype=np.uint8), random.integers(2, size=examples)


def written(path: Path, images: NDArray[Any], labels: Labels) -> str:
    """Write a data set and return its name for --dataset."""
    np.savez(path, x_train=images, y_train=labels)
    return f"npz:{path}"


def start(place: Path, dataset: str, **options: Any) -> None:
    """Train all weights of a source."""
    settings = TrainSettings.parse({"dataset": dataset, "intrinsic_dim": 0, "device": "cpu", **options})
    train(settings, Destination(place / "source", force=True), Silence())


def transferred(place: Path, dataset: str, **options: Any) -> Certificate:
    """Return the certificate of a transfer that learns nothing more."""
    settings = {"source": str(place / "source"), "dataset": dataset, "intrinsic_dim": 1, **NOTHING_LEARNED, **options}
    train(TransferSettings.parse(settings), Destination(place / "run", force=True), Silence())
    return certified(place)


def certified(place: Path) -> Certificate:
    tuning = BoundSettings(quant_epochs=0, codebook="kmeans", levels="1", device="cpu")
    certificate = bound([place / "run"], tuning, Silence())[0][1]
    assert verify(place / "run", Named(), "cpu", Silence()).certificate == certificate
    return certificate


# --- A source that was trained on the errors --------------------------------------------------------------------------


def errors_first(images: Images, labels: Labels) -> tuple[Labels, float]:
    """Return all indices, the errors of the untrained network of seed 137 first, and the share of these errors."""
    network = build_network("fc", classes=2, inputs=InputSpec.image(1, 8, 8), width=200, seed=137).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(images)[:, None] / 255 * 2 - 1).numpy()
    own, other = np.take_along_axis(logits, labels[:, None], 1), np.take_along_axis(logits, 1 - labels[:, None], 1)
    wrong = ((own - other)[:, 0]) <= 1e-2 * np.abs(logits).max(1)
    return np.argsort(~wrong, kind="stable"), wrong.mean()


@pytest.mark.usefixtures("_no_fsync")
def test_a_source_that_was_trained_on_the_errors(tmp_path: Path) -> None:
    """No check can find such a choice, so the sentence tells what was left out, and the assumptions tell why."""
    images, labels = coins(2000)
    dataset = written(tmp_path / "coins.npz", images, labels)
    order, share = errors_first(images, labels)
    np.save(tmp_path / "order.npy", order)
    options = {"indices_path": tmp_path / "order.npy", "train_subset": float(share), "batch_size": 500}
    start(tmp_path, dataset, **options | NOTHING_LEARNED)
    certificate = transferred(tmp_path, dataset)
    left_out = certificate.side_information["excluded_examples"]
    assert left_out == round(share * 2000)
    assert certificate.error_bound < 0.1, "about half of the examples"
    assert f"{left_out:,} were left out: the classifier was made from them" in certificate.statement
    assert "of new examples other than those left out" in certificate.statement
    assert any("The data that theta0 was trained on" in line for line in certificate.assumptions)
    assert any("The permutation that selected examples" in line for line in certificate.assumptions)


@pytest.mark.usefixtures("_no_fsync")
def test_a_source_that_was_trained_on_a_share(tmp_path: Path) -> None:
    dataset = written(tmp_path / "coins.npz", *coins(600))
    start(tmp_path, dataset, train_subset=0.5, epochs=20, lr=3e-3)
    certificate = transferred(tmp_path, dataset)
    assert certificate.error_bound >= 0.5
    assert certificate.bound_examples == certificate.side_information["excluded_examples"] == 300
    assert not any("permutation" in line for line in certificate.assumptions)


# --- A source that has seen the same images in another form -----------------------------------------------------------


def exact_bytes_only(examples: Examples) -> NDArray[np.uint64]:
    """Return the fingerprints by which version 0.1.0 recognised images."""
    images = examples.images.numpy()
    kind = f"{images.dtype.newbyteorder('<').str}{images.shape[1:]}".encode()
    hashes = [blake2b(kind + image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)[:, None]


FORMS = {
    "floating point": lambda x: (x / 127.5 - 1).astype(np.float32),
    "standardised": lambda x: ((x / 255 - 0.1307) / 0.3081).astype(np.float32),
    "inverted": lambda x: 255 - x,
    "in colour": lambda x: np.repeat(x[..., None], 3, -1),
    "flattened": lambda x: x.reshape(len(x), -1),
    "the same": lambda x: x.copy(),
}


@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize("form", FORMS)
def test_memorised_images_in_another_form(tmp_path: Path, form: str) -> None:
    images, labels = coins(300, seed=1)
    start(tmp_path, written(tmp_path / "seen.npz", images, labels), epochs=5)
    again = written(tmp_path / "again.npz", FORMS[form](images), labels)
    with pytest.raises(PactlError, match="none left to count"):
        transferred(tmp_path, again)
    others, coins_of_others = coins(300, seed=2)
    mixed = written(
        tmp_path / "mixed.npz", FORMS[form](np.concatenate([images, others])), np.r_[labels, coins_of_others]
    )
    certificate = transferred(tmp_path, mixed)
    assert certificate.bound_examples == certificate.side_information["excluded_examples"] == 300
    assert certificate.error_bound >= 0.5


@pytest.mark.usefixtures("_no_fsync")
def test_what_exact_bytes_would_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = coins(300, seed=1)
    start(tmp_path, written(tmp_path / "seen.npz", images, labels), epochs=60, lr=3e-3)
    again = written(tmp_path / "again.npz", FORMS["floating point"](images), labels)
    monkeypatch.setattr(fitting, "image_fingerprints", exact_bytes_only)
    assert transferred(tmp_path, again).error_bound < 0.5, "a false certificate"


@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize("side", [5, 13])
def test_images_that_the_program_itself_brings_to_another_size(tmp_path: Path, side: int) -> None:
    """The source has seen the images in the size that they get here."""
    images, labels = coins(200, seed=7)
    dataset = load_dataset(written(tmp_path / "bare.npz", images, labels), tmp_path)
    sized = resized(dataset, side, DataDirectory(tmp_path)).train.resident().images[:, 0].numpy()
    start(tmp_path, written(tmp_path / "sized.npz", sized, labels), epochs=5)
    with pytest.raises(PactlError, match="none left to count"):
        transferred(tmp_path, f"npz:{tmp_path / 'bare.npz'}")


@pytest.mark.usefixtures("_no_fsync")
def test_other_images_of_few_forms_are_not_taken_for_the_sources(tmp_path: Path) -> None:
    """Tiles of one colour, and rising curves, are similar but no copies."""
    random = np.random.default_rng(8)
    labels = random.integers(2, size=400)
    tiles = np.broadcast_to(random.integers(256, size=(400, 1, 1, 3)), (400, 8, 8, 3)).astype(np.uint8)
    curves = random.random((400, 100)).cumsum(1).astype(np.float32)
    for inputs in (tiles, curves):
        start(tmp_path, written(tmp_path / "first.npz", inputs[:200], labels[:200]), epochs=5)
        certificate = transferred(tmp_path, written(tmp_path / "second.npz", inputs[200:], labels[200:]))
        assert (certificate.side_information["excluded_examples"], certificate.bound_examples) == (0, 200)


@pytest.mark.usefixtures("_no_fsync")
def test_a_source_with_label_noise_of_the_same_stream(tmp_path: Path) -> None:
    """The stream would give the same random labels to two views of the same subjects, row by row."""
    images, labels = coins(200, seed=9)
    first = written(tmp_path / "first.npz", images, labels)
    second = written(tmp_path / "second.npz", np.sqrt(images).astype(np.float32), labels)
    start(tmp_path, first, label_noise=1.0, epochs=2)
    with pytest.raises(PactlError, match="the same stream"):
        transferred(tmp_path, second, label_noise=0.5)
    start(tmp_path, first, epochs=2)
    assert transferred(tmp_path, second, label_noise=1.0).error_bound >= 0.5


# --- Copies -----------------------------------------------------------------------------------------------------------


def certify_prior(place: Path, copies: int, **options: Any) -> Certificate:
    """Return the certificate of a prior on noise, with each image `copies` times in a random order."""
    images, labels = coins(250, seed=3)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(250), copies))
    settings = {
        "dataset": written(place / "copies.npz", images[order], labels[order]),
        "prior_epochs": 30,
        "epochs": 1,
        "intrinsic_dim": 10,
        "device": "cpu",
        **options,
    }
    prior(PriorSettings.parse(settings), Destination(place / "run", force=True), Silence())
    return certified(place)


@pytest.mark.usefixtures("_no_fsync")
def test_copies_of_the_priors_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certify_prior(tmp_path, 3)
    left_out = certificate.side_information["copies_left_out"]
    assert left_out > 200
    assert certificate.bound_examples == 375 - left_out
    assert certificate.error_bound >= 0.5
    assert f"{left_out:,} were left out" in certificate.statement
    monkeypatch.setattr(Partition, "without_copies", lambda parts, identities: parts)
    assert certify_prior(tmp_path, 3).error_bound < 0.5, "a false certificate"


@pytest.mark.usefixtures("_no_fsync")
def test_a_prior_without_copies(tmp_path: Path) -> None:
    certificate = certify_prior(tmp_path, 1)
    assert certificate.bound_examples == 125
    assert "left out" not in certificate.statement
    assert certificate.error_bound >= 0.5


@pytest.mark.usefixtures("_no_fsync")
def test_copies_of_calibration_images(tmp_path: Path) -> None:
    images, labels = coins(150, seed=4)
    dataset = written(tmp_path / "coins.npz", np.repeat(images, 2, 0), np.repeat(labels, 2))
    settings = {"dataset": dataset, "model_name": "layer13s", "base_width": 1, "intrinsic_dim": 2, **NOTHING_LEARNED}
    train(TrainSettings.parse(settings), Destination(tmp_path / "run", force=True), Silence())
    certificate = certified(tmp_path)
    left_out = certificate.side_information["copies_left_out"]
    assert 20 < left_out <= 30
    assert certificate.bound_examples == 270 - left_out


def certify_repeated(place: Path, duplicates: str) -> Certificate:
    """Return the certificate of training on noise, with each image five times."""
    images, labels = coins(60, seed=5)
    dataset = written(place / "repeated.npz", np.repeat(images, 5, 0), np.repeat(labels, 5))
    settings = {
        "dataset": dataset,
        "epochs": 60,
        "lr": 0.1,
        "intrinsic_dim": 40,
        "device": "cpu",
        "duplicates": duplicates,
    }
    train(TrainSettings.parse(settings), Destination(place / "run", force=True), Silence())
    return certified(place)


@pytest.mark.usefixtures("_no_fsync")
def test_copies_within_the_sample(tmp_path: Path) -> None:
    kept = certify_repeated(tmp_path, "keep")
    assert (kept.bound_examples, kept.side_information["repetitions_counted"]) == (300, 240)
    assert any("240 of the counted examples are exact copies of other" in line for line in kept.assumptions)
    dropped = certify_repeated(tmp_path, "drop")
    assert (dropped.bound_examples, dropped.side_information["repetitions_dropped"]) == (60, 240)
    assert dropped.error_bound >= 0.5
    assert any("240 exact copies of counted examples were dropped" in line for line in dropped.assumptions)
    with pytest.raises(PactlError, match="240 of 300 examples are exact copies"):
        certify_repeated(tmp_path, "refuse")


# --- Runs that are compared -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_fsync")
def test_priors_that_learn_nothing_do_not_choose_the_sample(tmp_path: Path) -> None:
    """The runs have the same theta0, the initial weights, and the same examples, but count different halves of them."""
    dataset = written(tmp_path / "coins.npz", *coins(120, seed=6))
    for run, share in (("one", 0.5), ("two", -0.5)):
        settings = {"dataset": dataset, "train_subset": share, "prior_epochs": 1, "prior_lr": 1e-50, "intrinsic_dim": 2}
        prior(PriorSettings.parse(settings | NOTHING_LEARNED), Destination(tmp_path / run), Silence())
    with pytest.raises(PactlError, match="trained on different examples"):
        bound([tmp_path / "one", tmp_path / "two"], BoundSettings(quant_epochs=0, device="cpu"), Silence())


# --- What nothing can find --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_fsync")
def test_a_source_that_hides_what_it_has_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may write a source that has memorised S without a trace: this breaks an assumption."""
    dataset = written(tmp_path / "coins.npz", *coins(300, seed=1))
    start(tmp_path, dataset, epochs=60, lr=3e-3)
    monkeypatch.setattr("pactl_cli.sources.trained_run._seen", lambda subject, place: np.zeros(0, dtype=np.uint64))
    certificate = transferred(tmp_path, dataset)
    assert certificate.error_bound < 0.5, "a false certificate"
    assert any("were not chosen by looking at the 300 examples" in line for line in certificate.assumptions)
    assert any("They are also independent of what theta0 was trained on" in line for line in certificate.assumptions)
