"""Checks that a data set shares nothing with a source's training, and inputs that fit a source's network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.data.adaptation import recoloured
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.recognition import image_fingerprints
from pactl_cli.data.resizing import resized
from pactl_cli.data.vocabulary import widened
from pactl_cli.errors import PactlError, quoted
from pactl_cli.models.inputs import IMAGE
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start

_LARGEST_SIDE = 640
"""The largest images that a source, which may be a stranger's, gets unasked."""


def size_for(dataset: Dataset, source: Start) -> int | None:
    """Return the side to which images are scaled for a source if the user names none: that of its training.

    It follows from the source alone, so the message does not encode it. None leaves images as they are: the source has
    no such size, or one that is too large.
    """
    if source.takes_any or not source.spec.kind == dataset.spec.kind == IMAGE:
        return None
    _, height, width = source.spec.image_shape
    return height if height == width and height <= _LARGEST_SIDE else None


def require_unrelated(source: Start, settings: TrainSettings) -> None:
    """Raise PactlError if the source's training and this data set share examples or noise that cannot be recognised."""
    dataset = settings.dataset
    for training in source.lineage:
        is_all_of_it = training.published and training.dataset == dataset
        names = training.dataset.split(",")
        if is_all_of_it or not set(names).isdisjoint(catalogue.dataset_entry(dataset).resized):
            raise PactlError(
                f"--dataset {dataset}: {quoted(source.origin)} was trained on {training.dataset}, which has some of "
                "its images, and nothing can tell which",
                "transfer to other data, or from other weights",
            )
        rows = (catalogue.DATASETS.get(name) for name in names)
        if drawn := next((row.name for row in rows if row and dataset in row.tuned_on), None):
            raise PactlError(
                f"--dataset {dataset}: {quoted(source.origin)} was trained on {drawn}, and the program that draws it "
                f"was tuned on {dataset}",
                "transfer to other data, or from other weights",
            )
        if training.noisy and settings.label_noise:
            raise PactlError(
                f"--label-noise {settings.label_noise}: {quoted(source.origin)} was trained with label noise from the "
                "same stream of random numbers, and so on the labels that this run would get",
                "transfer from a source without label noise, or to labels without it",
            )


def require_own_head(source: Start, settings: TrainSettings, classes: int) -> None:
    """Raise PactlError if a source is to be certified as it is, but its head would be drawn anew."""
    is_certified = settings.intrinsic_dim == 0 and not kind_of(settings).has_prior
    if is_certified and source.classes != classes:
        raise PactlError(
            f"{quoted(source.origin)} has {source.classes} classes, and --dataset {settings.dataset} has {classes}: "
            "its head would be drawn anew and stay untrained",
            "train a head first: pactl transfer SOURCE without --intrinsic-dim 0, or pactl prior --source SOURCE",
        )


def fit_inputs(dataset: Dataset, source: Start) -> Dataset:
    """Return a data set whose inputs fit a source's network: images get its channels, tables its encoding.

    Raises:
        PactlError: if they cannot fit, or the weights have other shapes for images of this size.
    """
    if source.spec.kind == dataset.spec.kind == IMAGE:
        return _fit_images(dataset, source)
    if source.takes_any:
        return dataset
    if dataset.encoding or source.encoding:
        dataset = _encoded_as(dataset, source)
    is_code = catalogue.is_brought(source.model_name)
    dataset = _with_vocabulary_of(dataset, source)
    known = replace(source.spec, vocabulary=dataset.spec.vocabulary) if is_code else source.spec
    same_numbers = not is_code and dataset.spec.channels == source.spec.channels
    if dataset.spec == known or (same_numbers and source.fits(dataset.spec)):
        return dataset
    raise PactlError(
        f"--dataset {dataset.name}: the data are {dataset.spec}, and {quoted(source.origin)} was trained on "
        f"{source.spec}",
        "transfer to data of the same names, shapes and types",
    )


def _encoded_as(dataset: Dataset, source: Start) -> Dataset:
    """Return a table written as numbers as the source's was; columns are found by their names.

    Raises:
        PactlError: if the columns differ, or one of the two is no table with names.
    """
    if dataset.encoding is None or source.encoding is None:
        difference = "only one of the two is a table, whose columns have names"
    elif not (difference := dataset.encoding.difference(source.encoding)):
        return dataset.encoded(source.encoding)
    raise PactlError(
        f"--dataset {dataset.name} cannot be written as numbers like the data that {quoted(source.origin)} was trained "
        f"on: {difference}",
        "transfer between tables with the same columns, --missing and --categories",
    )


def _with_vocabulary_of(dataset: Dataset, source: Start) -> Dataset:
    """Return tokens with the vocabulary of a source, if it has all of them; anything else as it is."""
    known, own = source.spec.vocabulary, dataset.spec.vocabulary
    return dataset if known is None or own is None or own > known else widened(dataset, known)


def _fit_images(dataset: Dataset, source: Start) -> Dataset:
    """Return images with the channels of a source's network; raise PactlError if it cannot take their size."""
    channels, height, width = source.spec.image_shape
    dataset = recoloured(dataset, channels)
    if source.takes_any or dataset.spec.sides == (height, width) or source.fits(dataset.spec):
        return dataset
    own = " x ".join(map(str, dataset.spec.sides))
    raise PactlError(
        f"--dataset {dataset.name} has images of {own}, and {source.model_name} in {quoted(source.origin)} was trained "
        f"on {height} x {width}: its weights have another shape for these",
        f"--image-size {height}" if height == width else "transfer from a network with a mean over the image",
    )


def adaptations(original: Dataset, fitted: Dataset, source: Start) -> Iterator[str]:
    """Yield a line for each thing that was done to make the data fit a source, or its network fit the data."""
    if (size := size_for(fitted, source)) and (original.spec.sides, fitted.spec.sides) != ((size, size),) * 2:
        own, whose = " x ".join(map(str, fitted.spec.sides)), f"those of {quoted(source.origin)} were"
        if fitted.spec.sides == (size, size):
            yield f"Images are scaled to {own}, as {whose}; a smaller --image-size is faster."
        else:
            yield f"Images are {own}; {whose} {size} x {size}."
    if fitted.classes != source.classes:
        yield (
            f"The head is drawn from the seed: {quoted(source.origin)} has {source.classes:,} classes, the data have "
            f"{fitted.classes:,}."
        )


def seen_forms(original: Dataset, fitted: Dataset, source: Start, where: DataDirectory) -> NDArray[np.uint64]:
    """Return fingerprints of training images in each form that the source may have seen, shape (n, forms).

    The forms are the images as they are, as the network takes them, and in the size of the source's own.

    Args:
        where: the directory of named data sets.
    """
    forms = [image_fingerprints(original.train)]
    if fitted.train.spec != original.train.spec:
        forms.append(image_fingerprints(fitted.train))
    size = size_for(original, source)
    if size and (size, size) not in (original.train.spec.sides, fitted.train.spec.sides):
        forms.append(image_fingerprints(resized(original, size, where).train))
    return np.concatenate(forms, axis=1)
