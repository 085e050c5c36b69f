"""The table of data sets, and their names."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pactl_cli.catalogue.objects import is_handed
from pactl_cli.catalogue.references import CODE, parse_reference
from pactl_cli.catalogue.tables import Row, Table
from pactl_cli.errors import MissingError, PactlError, quoted

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""The means and the standard deviations of the pixels, one number per channel each."""

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Dataset(Row):
    """A data set; a kind of data sets such as `npz:PATH`, if the name ends in a colon; or the user's `module:function`.

    Attributes:
        made_by: a function of the name as the user wrote it, the data directory and a listener for progress; if it
            takes a path, also of a `Reading`, by name.
        model, epochs, lr, batch_size: defaults of training.
        train_examples: the number of training examples; None where only the data tell it.
        published: the constants that earlier work normalises with, which are statistics of the training set.
        view: the default view of training examples; None for `COLOUR_VIEW` for colour images of bytes, else `none`.
        content: the sha256 of the decoded training examples and of the test examples, where known.
        checked: whether every file is compared with a known checksum at every reading.
        siblings: data sets with the same pictures, recognisably so: weights that saw one have seen the other.
        is_source: whether its examples are not independent draws, so that it can only be a source.
        resized: data sets with the same pictures in a size or an encoding in which they are not recognised.
        package: the package that contains it; "" for files in a data directory.
        reads: the names of the settings that say how the data are read; its maker gets a `Reading` too.
        normalisation: the default normalisation: None for .5 and .5, or `calibration`.
        counted_by: a function of the name that counts training examples without these settings, if there is one.
        features: the default network for features; "" for `model`.
        assumes: the assumption, as a sentence, of a certificate whose theta0 was trained on it.
        tuned_on: the data sets that the program that draws it was tuned on.
    """

    model: str
    epochs: int
    lr: float = 1e-2
    batch_size: int = 128
    train_examples: int | None = None
    published: Statistics | None = None
    view: str | None = None
    content: tuple[str, str] | None = None
    checked: bool = False
    siblings: tuple[str, ...] = ()
    is_source: bool = False
    resized: tuple[str, ...] = ()
    package: str = ""
    reads: tuple[str, ...] = ()
    normalisation: str | None = None
    counted_by: str = ""
    features: str = ""
    assumes: str = ""
    tuned_on: tuple[str, ...] = ()

    @property
    def takes_path(self) -> bool:
        """True for the user's own data, which are named by a path or as code."""
        return self.name.endswith(":") or self.is_code

    @property
    def is_code(self) -> bool:
        """True for data that code returns, or that were handed over from Python as an object."""
        return self.name == CODE

    def for_inputs(self, kind: str) -> Dataset:
        """Return the row with the defaults for a kind of examples, as in `models.inputs`."""
        if kind == "tokens":
            return replace(self, model="bag", epochs=60, lr=3e-1, batch_size=128, normalisation=None)
        if kind == "mapping":
            return replace(self, normalisation=None)
        return replace(self, model=self.features) if kind == "features" and self.features else self


_DIGITS_CONTENT = (
    "3f6168b1b1b6ca74cec21f89ab06e548002105c84086ac9fe84e29d1d7b64065",
    "a8479c8f8fcd11d4f25855e0093ff983b2fac67373e56afe74990c25ec5de60f",
)
_MNIST_CONTENT = (
    "7260a7355c338e8392209e125b7d63c7ff7749e3d215d14dee1e731393040450",
    "6d4950903bed79dc6247602637e27e02668fc0eb6afefcdbc397c4d8ec8821de",
)

_SCHEMES = {"npz": "npz", "csv": "csv", "tsv": "csv", "parquet": "parquet"}
"""The kind of the user's own data, by the ending of a file."""

_FILES = "pactl_cli.data.published"
_TUNED = "The generator that drew {} was tuned on scikit-learn's digits, and not on the examples that are counted."

DATASETS = Table(
    "--dataset",
    "Data sets",
    (
        Dataset(
            "digits",
            "1,437 + 360 images of 8x8, inside scikit-learn",
            f"{_FILES}.digits:load_digits",
            *("fc", 60, 1e-2, 32, 1437),
            content=_DIGITS_CONTENT,
            checked=True,
            resized=("digits28",),
            package="scikit-learn",
        ),
        Dataset(
            "mnist",
            "60,000 + 10,000 handwritten digits",
            f"{_FILES}.idx_files:load_mnist",
            *("convnet", 6, 1e-2, 256, 60_000, ((0.1307,), (0.3081,))),
            content=_MNIST_CONTENT,
            checked=True,
        ),
        Dataset(
            "fmnist",
            "60,000 + 10,000 articles of clothing",
            f"{_FILES}.idx_files:load_fmnist",
            *("convnet", 6, 1e-2, 256, 60_000, ((0.5,), (0.5,))),
        ),
        Dataset(
            "svhn",
            "73,257 + 26,032 house numbers, 32x32 in colour",
            f"{_FILES}.svhn:load_svhn",
            *("layer13s", 10, 1e-2, 128, 73_257, ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))),
            checked=True,
            siblings=("svhn28",),
        ),
        Dataset(
            "svhn28",
            "the same in grey, cut to the inner 28x28: to transfer to mnist",
            f"{_FILES}.svhn:load_svhn28",
            *("lenet5", 10, 1e-2, 256, 73_257),
            checked=True,
            siblings=("svhn",),
        ),
        Dataset(
            "cifar10",
            "50,000 + 10,000 photographs in ten classes, 32x32",
            f"{_FILES}.cifar:load_cifar10",
            *("layer13s", 20, 1e-2, 128, 50_000, ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))),
            checked=True,
        ),
        Dataset(
            "cifar100",
            "50,000 + 10,000 photographs in a hundred classes, 32x32",
            f"{_FILES}.cifar:load_cifar100",
            *("layer13s", 20, 1e-2, 128, 50_000, ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))),
            checked=True,
        ),
        Dataset(
            "tiny-imagenet",
            "100,000 + 10,000 photographs in 200 classes, 64x64",
            f"{_FILES}.tiny_imagenet:load_tiny_imagenet",
            *("layer13s", 20, 1e-2, 128, 100_000, ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))),
            resized=("imagenet",),
        ),
        Dataset(
            "imagenet",
            "1,281,167 + 50,000 photographs in 1,000 classes, streamed from their files",
            f"{_FILES}.imagenet:load_imagenet",
            *("squeezenet1_0", 90, 1e-3, 256, 1_281_167, IMAGENET_STATISTICS),
            view="resized-crop",
            resized=("tiny-imagenet",),
        ),
        *(
            Dataset(
                name,
                f"60,000 + 10,000 {what} drawn by the program, 28x28 in grey: to start from",
                f"pactl_cli.data.glyphs.drawing:{maker}",
                *("convnet", 4, 4e-3, 128, 60_000),
                package="pactl",
                reads=("fonts",),
                resized=("glyphs", "glyphs:digits"),  # the same generator, with other fonts
                assumes=_TUNED.format(name),
                tuned_on=("digits",),
            )
            for name, what, maker in (
                ("glyphs", "letters and scribbles in 112 classes", "load_letters"),
                ("glyphs:digits", "digits", "load_digits"),
            )
        ),
        Dataset(
            "digits28",
            "60,000 + 10,000 drawings of scikit-learn's digits, 28x28 in grey: to start from",
            "pactl_cli.data.glyphs.drawing:load_digits_anew",
            *("convnet", 4, 4e-3, 128, 60_000),
            package="scikit-learn",
            resized=("digits",),
            is_source=True,
            assumes=_TUNED.format("digits28"),
        ),
        Dataset(
            "npz:",
            "your own arrays x_train, y_train and optionally x_test, y_test",
            "pactl_cli.data.given_arrays:load_npz",
            *("fc", 20),
            reads=("channels",),
        ),
        Dataset(
            "folder:",
            "your own images or texts in train/CLASS/ and optionally test/CLASS/ or val/CLASS/, or in CLASS/ alone",
            "pactl_cli.data.folders:load_folder",
            *("layer13s", 20),
            reads=("tokenizer", "sequence_length", "text_form"),
            features="fc",
        ),
        *(
            Dataset(
                f"{kind}:",
                f"your own table, or a directory with train.{kind} and optionally test.{kind} or val.{kind}",
                "pactl_cli.data.tables.loading:load_table",
                *("mlp", 100, 3e-2, 128),
                reads=("label", "text", "missing", "categories", "tokenizer", "sequence_length", "text_form"),
                normalisation="calibration",
                counted_by="pactl_cli.data.tables.loading:count_rows",
            )
            for kind in ("csv", "parquet")
        ),
        Dataset(
            CODE,
            "what your own function returns: (X, y), a PyTorch Dataset, ...",
            "pactl_cli.data.brought_data:load_brought",
            *("fc", 20),
            reads=("channels",),
        ),
    ),
)


MOST_JOINED = 16
"""The most data sets that one name may join."""


def dataset_entry(name: str) -> Dataset:
    """Return the row of a data set, by its name, `kind:PATH` or `module:function`.

    For several data sets joined by commas, this is the row of the first, without facts about its content.

    Raises:
        PactlError: if there is none, or more are joined than a stranger's run may have read, or one of them twice.
    """
    if len(parts := joined(name)) > 1:
        if len({*parts}) < len(parts) or len(parts) > MOST_JOINED:
            raise PactlError(f"--dataset joins at most {MOST_JOINED} data sets, and each only once")
        return replace(dataset_entry(parts[0]), content=None, train_examples=None, package="", counted_by="")
    kind, colon, path = name.partition(":")
    if name in DATASETS and path:  # in glyphs:digits, "digits" is not a path
        return DATASETS[name]
    if colon and f"{kind}:" in DATASETS and not path:
        raise PactlError(f"--dataset {name!r} names no path", f"write {kind}:PATH")
    if not {kind, f"{kind}:"} & set(DATASETS) and parse_reference(name, frozenset()).scheme == CODE:
        return DATASETS[CODE]
    try:
        for part in name.split(",") if "," in kind else ():
            dataset_entry(part)
        return DATASETS[DATASETS.resolve(kind + colon)]
    except PactlError as error:
        ending = name.lower().removesuffix(".gz").rpartition(".")[2]
        scheme = _SCHEMES.get(ending, "folder" if os.path.isdir(name) else "")
        if colon or not scheme:
            raise
        raise PactlError(
            error.message, f"write the kind of your own data before their path: --dataset {scheme}:{name}"
        ) from error


def joined(name: str) -> tuple[str, ...]:
    """Return the data sets that a name joins by commas, or the name alone if a part is not a data set, as in a path.

    >>> joined("digits,npz:a.npz"), joined("npz:a,b.npz")
    (('digits', 'npz:a.npz'), ('npz:a,b.npz',))
    """
    parts = tuple(name.split(","))
    are_names = all(part in DATASETS or (":" in part and part.partition(":")[0] + ":" in DATASETS) for part in parts)
    return parts if are_names else (name,)


def own_name(name: str) -> str:
    """Return the name of a data set in certificates: only the last part of a path, which may contain a user's name.

    >>> print(own_name("glyphs:digits"), own_name("npz:/home/jane/x.npz"), own_name("folder:/"))
    glyphs:digits npz:x.npz folder:/
    """
    if len(parts := joined(name)) > 1:
        return ",".join(map(own_name, parts))
    kind, colon, path = name.partition(":")
    if name in DATASETS:
        return name
    return f"{kind}:{os.path.basename(os.path.abspath(os.path.expanduser(path))) or path}" if colon else name


def require_named_data(needed: str | None, named: str | None, whose: str, option: str = "--dataset") -> None:
    """Raise MissingError if data are code, or come from Python, and the user has not named any data.

    Args:
        needed: the name of the data; None for no data.
        named: the data that the user has named.
        whose: whose data they are, for the message.
        option: the option that names them.
    """
    if needed is None or not dataset_entry(needed).is_code or named is not None:
        return
    if is_handed(needed):
        hint = f"hand them over again, or name a function that returns them: {option} MODULE:FUNCTION"
        raise MissingError(f"the data of {whose} were handed over from Python, as {needed}", hint)
    raise MissingError(
        f"the data of {whose} are code, {needed}, which is not run unasked", f"if you trust it: {option} {needed}"
    )


def dataset_in_words(name: str) -> str:
    """Return the name of a data set for a sentence: as it is if the catalogue has it, else in quotes.

    >>> print(dataset_in_words("mnist"), dataset_in_words("npz:x.npz"))
    mnist "npz:x.npz"
    """
    return name if name in DATASETS else quoted(name)


def is_published(statistics: Statistics | None) -> bool:
    """Return True if these are the published constants of one of the data sets."""
    return statistics is not None and any(row.published == statistics for row in DATASETS.values())
