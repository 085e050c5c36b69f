"""The data sets."""

from __future__ import annotations

from dataclasses import dataclass

from pactl_cli.catalogue.tables import Row, Table
from pactl_cli.errors import PactlError, quoted

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the pixels, one number each per channel."""

IMAGENET_STATISTICS: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Dataset(Row):
    """A data set, or, where `name` ends in a colon, a kind of them: `npz:PATH`.

    Attributes:
        made_by: a function of the name as the user wrote it, the data directory, and a listener for progress.
        model, epochs, lr, batch_size: defaults of training.
        train_examples: how many there are; None where the data say it.
        published: the constants that earlier work normalises with. They are statistics of the training set.
        view: of a training example; None for `crop-mirror` where they are colour images of bytes, else `none`.
        content: sha256 of the decoded training and test examples, where they are known.
        checked: whether each of its files has a checksum that is known, and is compared with it at every reading.
        siblings: data sets with the same pictures, which are recognised: weights that saw one have seen the other.
        resized: data sets with the same pictures, in a size or an encoding in which they are not recognised.
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
    resized: tuple[str, ...] = ()

    @property
    def takes_path(self) -> bool:
        """Whether it is a kind of data sets, each named by a path: the user's own."""
        return self.name.endswith(":")


_DIGITS_CONTENT = (
    "3f6168b1b1b6ca74cec21f89ab06e548002105c84086ac9fe84e29d1d7b64065",
    "a8479c8f8fcd11d4f25855e0093ff983b2fac67373e56afe74990c25ec5de60f",
)
_MNIST_CONTENT = (
    "7260a7355c338e8392209e125b7d63c7ff7749e3d215d14dee1e731393040450",
    "6d4950903bed79dc6247602637e27e02668fc0eb6afefcdbc397c4d8ec8821de",
)

DATASETS = Table(
    "--dataset",
    "Data sets",
    (
        Dataset(
            name="digits",
            summary="1,437 + 360 images of 8x8, inside scikit-learn",
            made_by="pactl_cli.data.published.digits:load_digits",
            model="fc",
            epochs=60,
            batch_size=32,
            train_examples=1437,
            content=_DIGITS_CONTENT,
            checked=True,
        ),
        Dataset(
            name="mnist",
            summary="60,000 + 10,000 handwritten digits",
            made_by="pactl_cli.data.published.idx_files:load_mnist",
            model="lenet5",
            epochs=10,
            batch_size=256,
            train_examples=60_000,
            published=((0.1307,), (0.3081,)),
            content=_MNIST_CONTENT,
            checked=True,
        ),
        Dataset(
            name="fmnist",
            summary="60,000 + 10,000 articles of clothing",
            made_by="pactl_cli.data.published.idx_files:load_fmnist",
            model="lenet5",
            epochs=10,
            batch_size=256,
            train_examples=60_000,
            published=((0.5,), (0.5,)),
        ),
        Dataset(
            name="svhn",
            summary="73,257 + 26,032 house numbers, 32x32 in colour",
            made_by="pactl_cli.data.published.svhn:load_svhn",
            model="layer13s",
            epochs=10,
            train_examples=73_257,
            published=((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
            checked=True,
            siblings=("svhn28",),
        ),
        Dataset(
            name="svhn28",
            summary="the same in grey, their inner 28x28: to transfer to mnist",
            made_by="pactl_cli.data.published.svhn:load_svhn28",
            model="lenet5",
            epochs=10,
            batch_size=256,
            train_examples=73_257,
            checked=True,
            siblings=("svhn",),
        ),
        Dataset(
            name="cifar10",
            summary="50,000 + 10,000 photographs in ten classes, 32x32",
            made_by="pactl_cli.data.published.cifar:load_cifar10",
            model="layer13s",
            epochs=20,
            train_examples=50_000,
            published=((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
            checked=True,
        ),
        Dataset(
            name="cifar100",
            summary="50,000 + 10,000 photographs in a hundred classes, 32x32",
            made_by="pactl_cli.data.published.cifar:load_cifar100",
            model="layer13s",
            epochs=20,
            train_examples=50_000,
            published=((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
            checked=True,
        ),
        Dataset(
            name="tiny-imagenet",
            summary="100,000 + 10,000 photographs in 200 classes, 64x64",
            made_by="pactl_cli.data.published.tiny_imagenet:load_tiny_imagenet",
            model="layer13s",
            epochs=20,
            train_examples=100_000,
            published=((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
            resized=("imagenet",),
        ),
        Dataset(
            name="imagenet",
            summary="1,281,167 + 50,000 photographs in 1,000 classes, streamed from their files",
            made_by="pactl_cli.data.published.imagenet:load_imagenet",
            model="squeezenet1_0",
            epochs=90,
            lr=1e-3,
            batch_size=256,
            train_examples=1_281_167,
            published=IMAGENET_STATISTICS,
            view="resized-crop",
            resized=("tiny-imagenet",),
        ),
        Dataset(
            name="npz:",
            summary="your own arrays x_train, y_train and optionally x_test, y_test",
            made_by="pactl_cli.data.given_arrays:load_npz",
            model="fc",
            epochs=20,
        ),
        Dataset(
            name="folder:",
            summary="your own images in train/CLASS/ and optionally test/CLASS/ or val/CLASS/",
            made_by="pactl_cli.data.folders:load_folder",
            model="layer13s",
            epochs=20,
        ),
    ),
)


def dataset_entry(name: str) -> Dataset:
    """Return the row of a data set by name, or of its kind for `kind:PATH`.

    Raises:
        PactlError: if there is none.
    """
    kind, colon, path = name.partition(":")
    if colon and f"{kind}:" in DATASETS and not path:
        raise PactlError(f"--dataset {name!r} names no path", f"write {kind}:PATH")
    return DATASETS[DATASETS.resolve(kind + colon)]


def dataset_in_words(name: str) -> str:
    """Return a data set as a sentence names it: a name of the catalogue as it is, anything else as a quotation.

    >>> print(dataset_in_words("mnist"), dataset_in_words("npz:/here/x.npz"))
    mnist "npz:/here/x.npz"
    """
    return name if name in DATASETS else quoted(name)


def is_published(statistics: Statistics | None) -> bool:
    """Return whether these constants are those that somebody published for one of the data sets."""
    return statistics is not None and any(row.published == statistics for row in DATASETS.values())
