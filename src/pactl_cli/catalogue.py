"""Every data set, network, projector and recipe by name: what help, settings and messages know of them.

One line each, and no torch: the things themselves are built in `data`, `models`,
`subspace` and `training`. The order of networks and projectors is part of the message
format: a place in these tables is what a message carries. New entries go to the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from pactl_cli.errors import PactlError

DEFAULT_SEED = 137
DEFAULT_CALIBRATION = 512
MAX_CALIBRATION_SHARE = 10
"""At most one example in ten is taken for calibration."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the pixels, one number each per channel."""


@dataclass(frozen=True)
class Model:
    """A network: `width` is its own base width, `batch_statistics` whether it has BatchNorm."""

    name: str
    summary: str
    width: int
    batch_statistics: bool = False
    alias: str = ""


@dataclass(frozen=True)
class Recipe:
    """An optimiser and a schedule of its learning rate."""

    name: str
    summary: str


@dataclass(frozen=True)
class Mode:
    """A projector."""

    name: str
    summary: str


@dataclass(frozen=True)
class Dataset:
    """A data set, or, where `name` ends in a colon, a kind of them: `npz:PATH`.

    `published` holds the constants that earlier work normalises with. They are statistics of the training set.
    """

    name: str
    summary: str
    model: str
    epochs: int
    lr: float
    batch_size: int = 128
    train_examples: int | None = None
    published: Statistics | None = None


MODELS = {
    entry.name: entry
    for entry in (
        Model("lenet5", "two 5x5 convolutions and two dense layers; 431,080 parameters on MNIST", 20, alias="LeNet5"),
        Model("fc", "two hidden layers; 199,210 parameters on MNIST", 200, alias="fc_784_10"),
        Model("layer13s", "nine 3x3 convolutions with BatchNorm; 63,738 parameters on CIFAR-10", 8, True, "Layer13s"),
    )
}

MODES = {
    entry.name: entry
    for entry in (
        Mode("rdkronqr", "Kronecker product of two orthonormal factors, rows permuted; any size"),
        Mode("dense", "random signs; small networks"),
        Mode("sparse", "few random signs; small networks"),
        Mode("fastfood", "diagonal and Hadamard matrices; any size"),
        Mode("rkron", "sum of two one-sided Gaussian factors, rows permuted; up to 2 sqrt(D) d = 2.7e9"),
        Mode("rdkron", "Kronecker product of two Gaussian factors, rows permuted; any size"),
        Mode("film", "random signs on normalisation layers and the head only"),
        Mode("filmrdkron", "rdkron and film together"),
        Mode("filmrdkronqr", "rdkronqr and film together"),
        Mode("stfilmkronqr", "normalisation parameters directly, rdkronqr on the others; networks with normalisation"),
    )
}

RECIPES = {
    entry.name: entry
    for entry in (
        Recipe("adam_cos", "Adam, cosine to 0"),
        Recipe("adam", "Adam, constant"),
        Recipe("adamw", "AdamW, cosine to lr/100"),
        Recipe("awsc", "Adam, warm-stable-cosine: linear from lr/100 for 1 %, constant to 15 %, cosine to lr/10"),
        Recipe("sgd", "SGD with momentum, cosine to lr/100"),
        Recipe("sgd_cos", "the same as sgd"),
        Recipe("sgd_cos10", "SGD with momentum, cosine to lr/10"),
        Recipe("sgd_only", "SGD with momentum, constant"),
        Recipe("ssc", "SGD, constant for a fifth, then cosine to lr/100"),
        Recipe("wsc", "SGD, linear from lr/100 for 1 %, constant to 15 %, cosine to lr/10"),
        Recipe("rmsprop", "RMSprop, cosine to 0"),
    )
}

DATASETS = {
    entry.name: entry
    for entry in (
        Dataset("digits", "1,437 + 360 images of 8x8, inside scikit-learn", "fc", 60, 1e-2, 32, 1437),
        Dataset("mnist", "60,000 + 10,000 handwritten digits", "lenet5", 10, 1e-2, 256, 60_000, ((0.1307,), (0.3081,))),
        Dataset(
            "imagenet",
            "1,281,167 + 50,000 photographs in 1,000 classes, streamed from their files",
            *("layer13s", 90, 1e-3, 256, 1_281_167),
            ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ),
        Dataset("npz:", "your own arrays x_train, y_train and optionally x_test, y_test", "fc", 20, 1e-2),
        Dataset(
            "folder:", "your own images in train/CLASS/ and optionally test/CLASS/ or val/CLASS/", "layer13s", 20, 1e-2
        ),
    )
}


def default_dim(train_examples: int) -> int:
    """The intrinsic dimension where none is given: one for every ten training examples, rounded down."""
    return max(dim for dim in ROUND_DIMS if dim <= max(1, train_examples // 10))


ROUND_DIMS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5),
    *(10, 15, 20, 25, 30, 40, 50, 60, 75, 80),
    *(mantissa * 10**power for power in (1, 2, 3, 4) for mantissa in (10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 75, 80)),
    1_000_000,
)
"""64 dimensions that a message names in six bits."""


def default_calibration(model_name: str, train_examples: int) -> int:
    """Calibration examples where no number is given: none for a network without batch statistics."""
    if not MODELS[model_name].batch_statistics:
        return 0
    return min(DEFAULT_CALIBRATION, train_examples // MAX_CALIBRATION_SHARE)


def resolve(option: str, name: str, names: Iterable[str]) -> str:
    """The catalogue's own spelling of `name`.

    Raises:
        PactlError: naming the option and the nearest name.
    """
    names = list(names)
    if name in names:
        return name
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise PactlError(f"{option} {name!r} is not known", f"{hint}choose from {', '.join(names)}")


def dataset_entry(name: str) -> Dataset:
    """The entry of a data set by name, or of its kind for `kind:PATH`.

    Raises:
        PactlError: if there is none.
    """
    kind, colon, path = name.partition(":")
    if colon and f"{kind}:" in DATASETS and not path:
        raise PactlError(f"--dataset {name!r} names no path", f"write {kind}:PATH")
    return DATASETS[resolve("--dataset", kind + colon, DATASETS)]


def model_name(name: str) -> str:
    """A network's own name, from that or from its published alias."""
    aliases = {entry.alias: entry.name for entry in MODELS.values() if entry.alias}
    return resolve("--model-name", aliases.get(name, name), MODELS)
