"""From settings to a subject: the data loaded and divided, every default resolved."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pactl_cli import catalogue
from pactl_cli.catalogue import is_brought
from pactl_cli.certificate.configuration import Brought, Configuration, Task, complete
from pactl_cli.data.adaptation import framed, with_channels
from pactl_cli.data.dataset import Dataset, LabelledImages
from pactl_cli.data.files.capacity import available_memory
from pactl_cli.data.files.workers import useful_workers
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.recognition import exact_fingerprints, image_fingerprints
from pactl_cli.data.splits import (
    Identities,
    Indices,
    Partition,
    draw_calibration,
    load_indices,
    partition,
    require_permutation,
)
from pactl_cli.errors import MissingError, PactlError, quoted
from pactl_cli.models.brought import describe
from pactl_cli.problem.consent import DataPlace
from pactl_cli.problem.display import Display
from pactl_cli.problem.fingerprints import Fingerprints
from pactl_cli.problem.machine import data_directory
from pactl_cli.problem.modesty import require_memory
from pactl_cli.problem.subject import Subject
from pactl_cli.processes.heap import keep_freed_memory
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings, option_name
from pactl_cli.runs.start import Start

_MODEST_FRAMES_BYTES, _FRAMES_FOR_EACH_BYTE = 1 << 29, 64
"""Weights, which may be a stranger's, decide how large frames are; so they must be large themselves."""


def load_subject(
    settings: TrainSettings,
    device: torch.device,
    display: Display,
    start: Start | None = None,
    world: World = ALONE,
    *,
    place: DataPlace | None = None,
    permutation: Indices | None = None,
) -> Subject:
    """Loads the data, resolves every default and divides the training set.

    Args:
        start: what a transfer starts from, or a prior that has been trained; None where there is none (yet).
        world: the processes that share the work, each of which calls this.
        place: where the data are read; None where the settings, which the user gave, say it.
        permutation: of the training set, which a run, perhaps a stranger's, has in the place of the file that its
            settings name; of no meaning where they name none.

    Raises:
        PactlError: if the data, or what is asked of it, is wrong.
    """
    keep_freed_memory()
    place = place or DataPlace(settings.dataset, data_directory(settings.data_dir))
    clean = _read(settings, place, display).with_workers(_workers(settings, world))
    permutation = _permutation(settings, permutation, len(clean.train))
    dataset, source = clean.with_label_noise(settings.label_noise), None
    if start is not None and isinstance(settings, TransferSettings):
        require_unrelated(start, settings)
        dataset = fit_images(dataset, start)
        start = source = start.for_classes(dataset.classes)
    pool, identities = _divided(settings, clean, dataset, source, permutation)
    task = _task(settings, dataset, pool, source)
    configuration = _configuration(settings, task, source)
    require_memory(configuration, dataset.classes, dataset.shape)
    parts, calibration = _with_calibration(pool, configuration, identities)
    dataset = dataset.to(device)
    sample = dataset.train if parts.is_trivial(len(clean.train)) else _taken(dataset, parts.bound)
    with display.progress("fingerprinting the examples") as progress:
        fingerprints = Fingerprints.of(sample, clean, parts, progress)
    resolved = _resolve(settings, configuration, place.directory)
    return Subject(
        settings=resolved.model_copy(update={"augment": _augments(settings, clean)}),
        dataset=dataset,
        task=task,
        configuration=configuration,
        partition=parts,
        permutation=permutation,
        repetitions=parts.repetitions(identities),
        sample=sample,
        fingerprints=fingerprints,
        calibration=_taken(dataset, calibration).resident(),
        pool=pool.bound,
        start=start,
        is_framed=dataset.shape[1:] != clean.shape[1:],
        world=world,
    )


def _read(settings: TrainSettings, place: DataPlace, display: Display) -> Dataset:
    """The data set, without label noise.

    Raises:
        PactlError: if it cannot be read, or its content is known and this is another.
    """
    with display.progress("reading images") as progress:
        try:
            dataset = load_dataset(place.dataset, place.directory, progress, may_write=place.may_write)
        except MissingError as error:
            raise MissingError(error.message, place.if_absent or error.hint) from error
    expected = catalogue.dataset_entry(settings.dataset).content
    if expected is not None and expected != tuple(part.sha256() for part in (dataset.train, dataset.test) if part):
        raise PactlError(f"{settings.dataset} in {place.directory} is not the published one", "restore its files")
    return dataset


def _permutation(settings: TrainSettings, recorded: Indices | None, examples: int) -> Indices | None:
    """The user's permutation, as it is recorded, else from the file that the settings name; None if they name none.

    Raises:
        PactlError: if it is not a permutation of the training set.
    """
    if settings.indices_path is None:
        return None
    if recorded is None:
        return load_indices(settings.indices_path, examples)
    require_permutation(recorded, examples, "the permutation that the run records")
    return recorded


def _divided(
    settings: TrainSettings, clean: Dataset, fitted: Dataset, source: Start | None, permutation: Indices | None
) -> tuple[Partition, Identities]:
    """The parts of the training set, calibration not yet drawn, and a fingerprint of each example in them.

    Args:
        clean, fitted: the images as they are, and as the network sees them.

    Raises:
        PactlError: if nothing is left to count, or there are copies and they are not wanted.
    """
    examples, has_prior = len(clean.train), isinstance(settings, PriorSettings)
    parts = partition(permutation, examples, share=settings.train_subset, has_prior=has_prior)
    identities = np.zeros(examples, dtype=np.uint64)
    identities[parts.whole()] = exact_fingerprints(clean.train[torch.from_numpy(parts.whole())])
    if source is not None and len(source.seen):
        own = torch.from_numpy(parts.bound)
        forms = seen_forms(clean.train[own], fitted.train[own])
        parts = parts.without_seen(np.atleast_1d(np.isin(forms, source.seen).any(axis=1)))
    parts = parts.without_copies(identities)
    if settings.duplicates == "drop":
        parts = parts.without_repetitions(identities)
    elif settings.duplicates == "refuse" and (copies := parts.repetitions(identities)):
        raise PactlError(
            f"--duplicates refuse: {copies:,} of {len(parts.bound):,} examples are exact copies of others",
            "remove them, or give --duplicates drop",
        )
    return parts, identities


def seen_forms(raw: LabelledImages, fitted: LabelledImages) -> NDArray[np.uint64]:
    """The fingerprints of images as they are and as a network sees them, shape (n, forms)."""
    own = image_fingerprints(raw)
    if fitted.image_shape == raw.image_shape:
        return own
    return np.concatenate([own, image_fingerprints(fitted)], axis=1)


def _task(settings: TrainSettings, dataset: Dataset, pool: Partition, source: Start | None) -> Task:
    """What sender and receiver know before the message."""
    return Task(
        settings.dataset,
        len(pool.bound),
        dataset.shape[0],
        _brought(settings, dataset, source),
        calibration_pool=len(pool.prior) if len(pool.prior) else None,
        defaults=_defaults(source, settings.dataset) if source else {},
    )


def _with_calibration(
    pool: Partition, configuration: Configuration, identities: Identities
) -> tuple[Partition, Indices]:
    """The parts once calibration examples are drawn, and which these are: the prior's own, or some taken out of S.

    Raises:
        PactlError: if they are too many, or nothing but copies of them is left.
    """
    drawn = configuration.calibration_examples, configuration.seed
    if len(pool.prior):
        return pool, pool.prior[draw_calibration(pool.prior, *drawn)]
    parts = pool.with_calibration(*drawn).without_copies(identities)
    return parts, parts.calibration


def _taken(dataset: Dataset, indices: Indices) -> LabelledImages:
    """Some of the training examples, on the data's device."""
    return dataset.train[torch.from_numpy(indices).to(dataset.train.labels.device)]


def _workers(settings: TrainSettings, world: World) -> int | None:
    """Decoding processes of each process; None for as many as are useful to one."""
    if settings.num_workers != "auto":
        return settings.num_workers
    return None if world.local_size == 1 else max(1, useful_workers() // world.local_size)


def _defaults(source: Start, dataset: str) -> dict[str, Any]:
    """What a message need not say because the source says it.

    Published constants are statistics of some training set, perhaps of this one under another name: they are free only
    where a package's network has them and this data set has others, and paid for where somebody chose them.
    """
    defaults = source.defaults()
    statistics, own = defaults["normalisation"], catalogue.dataset_entry(dataset).published
    is_of_package = bool(source.lineage) and source.lineage[-1].published
    if catalogue.is_published(statistics) and (statistics == own or not is_of_package):
        defaults["normalisation"] = None
    return defaults


def require_unrelated(source: Start, settings: TrainSettings) -> None:
    """Raises PactlError if the source's training and this data set have something in common that nobody could tell."""
    dataset = settings.dataset
    for training in source.lineage:
        is_all_of_it = training.published and training.dataset == dataset
        if is_all_of_it or training.dataset in catalogue.dataset_entry(dataset).resized:
            raise PactlError(
                f"--dataset {dataset}: {quoted(source.origin)} was trained on {training.dataset}, which has its "
                "pictures, and nobody could tell which of them",
                "transfer to other data, or from other weights",
            )
        if training.noisy and settings.label_noise:
            raise PactlError(
                f"--label-noise {settings.label_noise}: {quoted(source.origin)} was trained with label noise from the "
                "same stream of random numbers, and so on the labels that this run would get",
                "transfer from a source without label noise, or to labels without it",
            )


def fit_images(dataset: Dataset, source: Start) -> Dataset:
    """Images as the network of a transfer can take them: with its channels, and, where its weights have other shapes
    for another size, in a black frame of its size.

    Raises:
        PactlError: if they are too large for it, or its weights are of no size, or the frames too large for memory.
    """
    channels, height, width = source.shape
    if dataset.shape[0] != channels:
        dataset = dataset.with_images(lambda images: with_channels(images, channels))
    if dataset.shape == source.shape or source.fits(dataset.shape):
        return dataset
    if dataset.shape[1] > height or dataset.shape[2] > width:
        raise PactlError(
            f"--dataset {dataset.name} has images of {dataset.shape[1]} x {dataset.shape[2]}, and {source.model_name} "
            f"in {quoted(source.origin)} was trained on {height} x {width}: its weights have another shape for these",
            "transfer from a network with a mean over the image, such as layer13s, or from larger images",
        )
    if not source.fits(source.shape):
        raise PactlError(f"the weights of {quoted(source.origin)} do not fit {source.model_name} at any size known")
    need = sum(len(part) for part in (dataset.train, dataset.test) if part) * prod(source.shape)
    need *= dataset.train.dtype.itemsize
    weights = sum(tensor.nbytes for tensor in source.tensors.values())
    if need > min(available_memory() // 2, max(_MODEST_FRAMES_BYTES, _FRAMES_FOR_EACH_BYTE * weights)):
        raise PactlError(
            f"--dataset {dataset.name} in frames of {height} x {width} would take {need >> 20:,} MB or more",
            "transfer from a network for smaller images",
        )
    return dataset.with_images(lambda images: framed(images, height, width))


def _augments(settings: TrainSettings, dataset: Dataset) -> bool:
    """Whether training images are augmented: as asked, else where they are colour images.

    Raises:
        PactlError: if it was asked for and the data are no images of bytes.
    """
    if settings.augment is None:
        return dataset.train.dtype == torch.uint8 and dataset.shape[0] == 3
    if settings.augment and dataset.train.dtype != torch.uint8:
        raise PactlError("--augment needs images of type uint8, the data are floating-point numbers", "--no-augment")
    return settings.augment


def _brought(settings: TrainSettings, dataset: Dataset, source: Start | None) -> Brought | None:
    """The user's own network, if it is one."""
    name = source.model_name if source else settings.model_name
    if source and is_brought(source.model_name) and settings.model_name != source.model_name:
        raise MissingError(
            f"the network of the source is code, {source.model_name}, which is not loaded unasked",
            f"if you trust it: --model-name {source.model_name}",
        )
    return describe(name, classes=dataset.classes, channels=dataset.shape[0]) if name and is_brought(name) else None


def _configuration(settings: TrainSettings, task: Task, source: Start | None) -> Configuration:
    """The settings that a message carries, the rest of its fields at their defaults."""
    normalisation = None
    chosen: str = settings.normalise
    if chosen == "published":
        normalisation = catalogue.dataset_entry(settings.dataset).published
        if normalisation is None:
            raise PactlError(f"--normalise published: there are no published constants for {settings.dataset}")
        if len(normalisation[0]) != task.channels:
            raise PactlError(f"--normalise published: the constants are not for {task.channels} channels")
    elif chosen == "source" and source is not None:
        normalisation = source.statistics
    elif chosen == "fixed" and task.defaults.get("normalisation") is not None:
        normalisation = ((0.5,) * task.channels, (0.5,) * task.channels)
    given = settings.model_dump(include=set(Configuration.__dataclass_fields__) - {"normalisation"})
    if given["model_name"]:
        given["model_name"] = catalogue.model_name(given["model_name"])
    for name in ("model_name", "base_width"):
        if source is not None and given[name] not in (None, getattr(source, name)):
            raise PactlError(
                f"{option_name(name)} {given[name]}: the weights of {source.origin} are of {getattr(source, name)}",
                "leave it out",
            )
    configuration = complete(given | {"normalisation": normalisation}, task)
    if configuration.base_width is not None and task.model(configuration.model_name).width is None:
        raise PactlError(
            f"--base-width {configuration.base_width}: {configuration.model_name} has no base width", "leave it out"
        )
    return configuration


def _resolve(settings: TrainSettings, configuration: Configuration, directory: Path) -> TrainSettings:
    """The settings with nothing left to default, and every path absolute."""
    entry = catalogue.dataset_entry(settings.dataset)
    chosen = configuration.as_dict()
    chosen.pop("normalisation")
    defaults = {"epochs": entry.epochs, "batch_size": entry.batch_size, "lr": entry.lr}
    chosen |= {name: value for name, value in defaults.items() if getattr(settings, name) is None}
    if isinstance(settings, PriorSettings):
        chosen |= {
            "prior_epochs": settings.prior_epochs or settings.epochs or entry.epochs,
            "prior_lr": settings.prior_lr or settings.lr or entry.lr,
        }
    chosen |= {
        "data_dir": directory if os.path.isdir(directory) else None,
        "warmup_lr": settings.warmup_lr or settings.lr or entry.lr,
    }
    kind, colon, path = settings.dataset.partition(":")
    chosen["dataset"] = f"{kind}:{_absolute(Path(path))}" if colon else kind
    if isinstance(settings, TransferSettings):
        if catalogue.source_reference(settings.source).scheme == catalogue.RUN:
            chosen["source"] = str(_absolute(Path(settings.source)))
        chosen["weights"] = settings.weights and _absolute(settings.weights)
    chosen["indices_path"] = settings.indices_path and _absolute(settings.indices_path)
    return settings.model_copy(update=chosen)


def _absolute(path: Path) -> Path:
    """A path from the root, without a look at what lies there: a stranger may have named it."""
    return Path(os.path.abspath(path.expanduser()))
