"""What a source's training and a data set have in common, and inputs that fit a source's network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.data.adaptation import framed, with_channels
from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.recognition import image_fingerprints
from pactl_cli.data.vocabulary import widened
from pactl_cli.errors import PactlError, quoted
from pactl_cli.models.inputs import IMAGE
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start

_MODEST_FRAMES_BYTES, _FRAMES_FOR_EACH_BYTE = 1 << 29, 64
"""Weights, which may be a stranger's, decide how large frames are; so they must be large themselves."""


def require_unrelated(source: Start, settings: TrainSettings) -> None:
    """Raise PactlError if the source's training and this data set share examples or noise that cannot be recognised."""
    dataset = settings.dataset
    for training in source.lineage:
        is_all_of_it = training.published and training.dataset == dataset
        if is_all_of_it or training.dataset in catalogue.dataset_entry(dataset).resized:
            raise PactlError(
                f"--dataset {dataset}: {quoted(source.origin)} was trained on {training.dataset}, which has its "
                "pictures, and nobody could tell which of them",
                "transfer to other data, or from other weights",
            )
        rows = (catalogue.DATASETS.get(name) for name in training.dataset.split(","))
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


def fit_inputs(dataset: Dataset, source: Start) -> Dataset:
    """Inputs as the network of a transfer can take them: images with its channels, and, where its weights have other
    shapes for another size, in a black frame of its size; anything else as it is.

    Raises:
        PactlError: if they are not what it takes, or images too large for it, or its weights are of no size, or the
            frames too large for memory.
    """
    if source.spec.kind == dataset.spec.kind == IMAGE:
        return _fit_images(dataset, source)
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
    """Return the rows of a table written as numbers as the source's were: columns are found by their names.

    Raises:
        PactlError: if the columns are others, or one of the two is no table with names.
    """
    if dataset.encoding is None or source.encoding is None:
        difference = "only one of the two is a table, whose columns have names"
    elif not (difference := dataset.encoding.difference(source.encoding)):
        return dataset.encoded(source.encoding)
    raise PactlError(
        f"--dataset {dataset.name} is not written as numbers like what {quoted(source.origin)} was trained on: "
        f"{difference}",
        "transfer between tables with the same columns, --missing and --categories",
    )


def _with_vocabulary_of(dataset: Dataset, source: Start) -> Dataset:
    """Return tokens with the vocabulary of a transfer's source, if that has all of them; anything else as it is."""
    known, own = source.spec.vocabulary, dataset.spec.vocabulary
    if known is None or own is None or own > known:
        return dataset
    return widened(dataset, known)


def _fit_images(dataset: Dataset, source: Start) -> Dataset:
    """Return images as the network of a transfer can take them."""
    channels, height, width = source.spec.image_shape
    if dataset.spec.channels != channels:
        dataset = dataset.with_images(lambda images: with_channels(images, channels))
    _, own_height, own_width = dataset.spec.image_shape
    if (own_height, own_width) == (height, width) or source.fits(dataset.spec):
        return dataset
    if own_height > height or own_width > width:
        raise PactlError(
            f"--dataset {dataset.name} has images of {own_height} x {own_width}, and {source.model_name} "
            f"in {quoted(source.origin)} was trained on {height} x {width}: its weights have another shape for these",
            f"give --image-size {min(height, width)}, or transfer from a network with a mean over the image, such as "
            "layer13s, or from larger images",
        )
    if not source.fits(source.spec):
        raise PactlError(f"the weights of {quoted(source.origin)} do not fit {source.model_name} at any size known")
    need = sum(len(part) for part in (dataset.train, dataset.test) if part)
    need *= source.spec.values * dataset.spec.size_bytes // dataset.spec.values
    weights = sum(tensor.nbytes for tensor in source.tensors.values())
    if need > min(available_memory() // 2, max(_MODEST_FRAMES_BYTES, _FRAMES_FOR_EACH_BYTE * weights)):
        raise PactlError(
            f"--dataset {dataset.name} in frames of {height} x {width} would take {need >> 20:,} MB or more",
            "transfer from a network for smaller images",
        )
    return dataset.with_images(lambda images: framed(images, height, width))


def seen_forms(raw: LabelledExamples, fitted: LabelledExamples) -> NDArray[np.uint64]:
    """Return the fingerprints of images as they are and as a network sees them, shape (n, forms)."""
    own = image_fingerprints(raw)
    if fitted.spec == raw.spec:
        return own
    return np.concatenate([own, image_fingerprints(fitted)], axis=1)
