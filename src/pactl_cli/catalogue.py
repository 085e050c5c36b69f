"""Every data set, network, projector and recipe by name: what help, settings and messages know of them.

One line each, and no torch: the things themselves are built in `data`, `models`,
`subspace` and `training`. The order of networks and projectors is part of the message
format: a place in these tables is what a message carries. New entries go to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from pactl_cli.errors import PactlError, quoted

DEFAULT_SEED = 137
DEFAULT_CALIBRATION = 512
MAX_CALIBRATION_SHARE = 10
"""At most one example in ten is taken for calibration."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the pixels, one number each per channel."""


IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Model:
    """A network: `width` is its own base width, None where that has no meaning; `aliases` are its published names."""

    name: str
    summary: str
    width: int | None = None
    batch_statistics: bool = False
    aliases: tuple[str, ...] = ()


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

    Attributes:
        published: the constants that earlier work normalises with. They are statistics of the training set.
        content: sha256 of the decoded training and test examples, where they are known.
        checked: whether each of its files has a checksum that is known, and is compared with it at every reading.
        siblings: data sets with the same pictures, which are recognised: weights that saw one have seen the other.
        resized: data sets with the same pictures, in a size or an encoding in which they are not recognised.
    """

    name: str
    summary: str
    model: str
    epochs: int
    lr: float
    batch_size: int = 128
    train_examples: int | None = None
    published: Statistics | None = None
    content: tuple[str, str] | None = None
    checked: bool = False
    siblings: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()


OWN_MODELS = (
    Model("lenet5", "two 5x5 convolutions and two dense layers; 431,080 parameters on MNIST", 20, aliases=("LeNet5",)),
    Model("fc", "two hidden layers; 199,210 parameters on MNIST", 200, aliases=("fc_784_10",)),
    Model("layer13s", "nine 3x3 convolutions with BatchNorm; 63,738 parameters on CIFAR-10", 8, True, ("Layer13s",)),
    Model("lenet", "two 5x5 convolutions and three dense layers; 44,426 parameters on MNIST", 6, aliases=("LeNet",)),
    Model("resnet20", "nine residual blocks, shortcuts without weights; 269,818 parameters on CIFAR-10", 16, True),
    Model("resnet18k", "ResNet-18 for small images; 11,173,962 parameters on CIFAR-10", 64, True),
)

_TORCHVISION = """
squeezenet1_0 1248424 | efficientnet_b0 5288548 bn | efficientnet_b1 7794184 bn | alexnet 61100840
convnext_base 88591464 | convnext_large 197767336 | convnext_small 50223688 | convnext_tiny 28589128
densenet121 7978856 bn | densenet161 28681000 bn | densenet169 14149480 bn | densenet201 20013928 bn
efficientnet_b2 9109994 bn | efficientnet_b3 12233232 bn | efficientnet_b4 19341616 bn | efficientnet_b5 30389784 bn
efficientnet_b6 43040704 bn | efficientnet_b7 66347960 bn | efficientnet_v2_l 118515272 bn
efficientnet_v2_m 54139356 bn | efficientnet_v2_s 21458488 bn | googlenet 6624904 bn | inception_v3 23834568 bn
maxvit_t 30919624 bn | mnasnet0_5 2218512 bn | mnasnet0_75 3170208 bn | mnasnet1_0 4383312 bn | mnasnet1_3 6282256 bn
mobilenet_v2 3504872 bn | mobilenet_v3_large 5483032 bn | mobilenet_v3_small 2542856 bn
regnet_x_16gf 54278536 bn | regnet_x_1_6gf 9190136 bn | regnet_x_32gf 107811560 bn | regnet_x_3_2gf 15296552 bn
regnet_x_400mf 5495976 bn | regnet_x_800mf 7259656 bn | regnet_x_8gf 39572648 bn | regnet_y_128gf 644812894 bn
regnet_y_16gf 83590140 bn | regnet_y_1_6gf 11202430 bn | regnet_y_32gf 145046770 bn | regnet_y_3_2gf 19436338 bn
regnet_y_400mf 4344144 bn | regnet_y_800mf 6432512 bn | regnet_y_8gf 39381472 bn
resnet101 44549160 bn | resnet152 60192808 bn | resnet18 11689512 bn | resnet34 21797672 bn | resnet50 25557032 bn
resnext101_32x8d 88791336 bn | resnext101_64x4d 83455272 bn | resnext50_32x4d 25028904 bn
shufflenet_v2_x0_5 1366792 bn | shufflenet_v2_x1_0 2278604 bn | shufflenet_v2_x1_5 3503624 bn
shufflenet_v2_x2_0 7393996 bn | squeezenet1_1 1235496
swin_b 87768224 | swin_s 49606258 | swin_t 28288354 | swin_v2_b 87930848 | swin_v2_s 49737442 | swin_v2_t 28351570
vgg11 132863336 | vgg11_bn 132868840 bn | vgg13 133047848 | vgg13_bn 133053736 bn
vgg16 138357544 | vgg16_bn 138365992 bn | vgg19 143667240 | vgg19_bn 143678248 bn
vit_b_16 86567656 | vit_b_32 88224232 | vit_h_14 632045800 | vit_l_16 304326632 | vit_l_32 306535400
wide_resnet101_2 126886696 bn | wide_resnet50_2 68883240 bn
"""
"""torchvision's classification models: name, parameters for 1,000 classes in colour, `bn` where there is BatchNorm."""

_TORCHVISION_ALIASES = {
    "squeezenet1_0": ("squeezenet", "SqueezeNet"),
    "efficientnet_b0": ("surgery_efficientnet_b0",),
}


def _torchvision_models() -> Iterator[Model]:
    """An entry for each line's each entry of the table above."""
    for entry in _TORCHVISION.replace("\n", "|").strip("|").split("|"):
        name, parameters, *mark = entry.split()
        summary = f"torchvision's; {int(parameters):,} parameters for 1,000 classes in colour"
        yield Model(name, summary, batch_statistics=bool(mark), aliases=_TORCHVISION_ALIASES.get(name, ()))


MODELS = {entry.name: entry for entry in (*OWN_MODELS, *_torchvision_models())}

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

_DIGITS_CONTENT = (
    "3f6168b1b1b6ca74cec21f89ab06e548002105c84086ac9fe84e29d1d7b64065",
    "a8479c8f8fcd11d4f25855e0093ff983b2fac67373e56afe74990c25ec5de60f",
)
_MNIST_CONTENT = (
    "7260a7355c338e8392209e125b7d63c7ff7749e3d215d14dee1e731393040450",
    "6d4950903bed79dc6247602637e27e02668fc0eb6afefcdbc397c4d8ec8821de",
)

DATASETS = {
    entry.name: entry
    for entry in (
        Dataset(
            "digits",
            "1,437 + 360 images of 8x8, inside scikit-learn",
            *("fc", 60, 1e-2, 32, 1437),
            content=_DIGITS_CONTENT,
            checked=True,
        ),
        Dataset(
            "mnist",
            "60,000 + 10,000 handwritten digits",
            *("lenet5", 10, 1e-2, 256, 60_000, ((0.1307,), (0.3081,))),
            content=_MNIST_CONTENT,
            checked=True,
        ),
        Dataset("fmnist", "60,000 + 10,000 articles of clothing", "lenet5", 10, 1e-2, 256, 60_000, ((0.5,), (0.5,))),
        Dataset(
            "svhn",
            "73,257 + 26,032 house numbers, 32x32 in colour",
            *("layer13s", 10, 1e-2, 128, 73_257, ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))),
            checked=True,
            siblings=("svhn28",),
        ),
        Dataset(
            "svhn28",
            "the same in grey, their inner 28x28: to transfer to mnist",
            *("lenet5", 10, 1e-2, 256, 73_257),
            checked=True,
            siblings=("svhn",),
        ),
        Dataset(
            "cifar10",
            "50,000 + 10,000 photographs in ten classes, 32x32",
            *("layer13s", 20, 1e-2, 128, 50_000, ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))),
            checked=True,
        ),
        Dataset(
            "cifar100",
            "50,000 + 10,000 photographs in a hundred classes, 32x32",
            *("layer13s", 20, 1e-2, 128, 50_000, ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))),
            checked=True,
        ),
        Dataset(
            "tiny-imagenet",
            "100,000 + 10,000 photographs in 200 classes, 64x64",
            *("layer13s", 20, 1e-2, 128, 100_000, ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))),
            resized=("imagenet",),
        ),
        Dataset(
            "imagenet",
            "1,281,167 + 50,000 photographs in 1,000 classes, streamed from their files",
            *("squeezenet1_0", 90, 1e-3, 256, 1_281_167, IMAGENET_STATISTICS),
            resized=("tiny-imagenet",),
        ),
        Dataset("npz:", "your own arrays x_train, y_train and optionally x_test, y_test", "fc", 20, 1e-2),
        Dataset(
            "folder:", "your own images in train/CLASS/ and optionally test/CLASS/ or val/CLASS/", "layer13s", 20, 1e-2
        ),
    )
}


def dataset_in_words(name: str) -> str:
    """A data set as a sentence names it: a name of the catalogue as it is, anything else as a quotation.

    >>> print(dataset_in_words("mnist"), dataset_in_words("npz:/here/x.npz"))
    mnist "npz:/here/x.npz"
    """
    return name if name in DATASETS else quoted(name)


def is_published(statistics: Statistics | None) -> bool:
    """Whether these constants are those that somebody published for one of the data sets."""
    return statistics is not None and any(entry.published == statistics for entry in DATASETS.values())


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


def default_calibration(model: Model, train_examples: int) -> int:
    """Calibration examples where no number is given: none for a network without batch statistics."""
    if not model.batch_statistics:
        return 0
    return min(DEFAULT_CALIBRATION, train_examples // MAX_CALIBRATION_SHARE)


def resolve(option: str, name: str, names: Iterable[str], choices: str = "") -> str:
    """The catalogue's own spelling of `name`.

    Args:
        choices: what to say there is; all names where nothing is given.

    Raises:
        PactlError: naming the option and the nearest name.
    """
    names = list(names)
    if name in names:
        return name
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise PactlError(f"{option} {name!r} is not known", f"{hint}choose from {choices or ', '.join(names)}")


def dataset_entry(name: str) -> Dataset:
    """The entry of a data set by name, or of its kind for `kind:PATH`.

    Raises:
        PactlError: if there is none.
    """
    kind, colon, path = name.partition(":")
    if colon and f"{kind}:" in DATASETS and not path:
        raise PactlError(f"--dataset {name!r} names no path", f"write {kind}:PATH")
    return DATASETS[resolve("--dataset", kind + colon, DATASETS)]


MODEL_CHOICES = (
    f"{', '.join(entry.name for entry in OWN_MODELS)}, a torchvision classification model, or your own MODULE:FUNCTION"
)


def model_name(name: str) -> str:
    """A network's own name, from that or from a published alias; `module:function` is what the user brings.

    Raises:
        PactlError: if there is none.
    """
    if is_brought(name):
        *_, function = parts = name.replace(":", ".").split(".")
        if name.count(":") > 1 or not name.endswith(f":{function}") or not all(part.isidentifier() for part in parts):
            raise PactlError(f"--model-name {name!r} is not a module and a function", "write MODULE:FUNCTION")
        return name
    aliases = {alias: entry.name for entry in MODELS.values() for alias in entry.aliases}
    return resolve("--model-name", aliases.get(name, name), MODELS, MODEL_CHOICES)


def is_brought(name: str) -> bool:
    """Whether a network's name stands for code that the user brings."""
    return ":" in name
