"""From settings to a subject: the data loaded and divided, every default resolved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pactl_cli import catalogue
from pactl_cli.catalogue import is_brought
from pactl_cli.certificate.configuration import Configuration, Task, complete
from pactl_cli.data.adaptation import framed, image_fingerprints, with_channels
from pactl_cli.data.dataset import Dataset, LabelledImages
from pactl_cli.data.sources import load_dataset
from pactl_cli.data.splits import Indices, draw_calibration, load_indices, partition
from pactl_cli.data.workers import useful_workers
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import describe
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings, option_name
from pactl_cli.runs.start import Start
from pactl_cli.stages.display import Display
from pactl_cli.stages.machine import data_directory
from pactl_cli.stages.subject import Subject
from pactl_cli.training.memory import keep_freed_memory
from pactl_cli.training.processes import ALONE, World


def load_subject(
    settings: TrainSettings,
    device: torch.device,
    display: Display,
    start: Start | None = None,
    world: World = ALONE,
) -> Subject:
    """Loads the data, resolves every default and divides the training set.

    Args:
        start: what a transfer starts from, or a prior that has been trained; None where there is none (yet).
        world: the processes that share the work, each of which calls this.

    Raises:
        PactlError: if the data, or what is asked of it, is wrong.
    """
    keep_freed_memory()
    directory = data_directory(settings.data_dir)
    with display.progress("reading images") as progress:
        dataset = load_dataset(settings.dataset, directory, progress).with_label_noise(settings.label_noise)
    dataset = dataset.with_workers(_workers(settings, world))
    augment = _augments(settings, dataset)
    examples = len(dataset.train)
    has_prior = isinstance(settings, PriorSettings)
    excluded = np.zeros(0, dtype=np.int64)
    source = start if isinstance(settings, TransferSettings) else None
    if source is not None:
        excluded = np.flatnonzero(np.isin(image_fingerprints(dataset.train), source.seen))
        dataset = fit_images(dataset, source)
        start = source = source.for_classes(dataset.classes)
    order = load_indices(settings.indices_path, examples) if settings.indices_path else None
    parts = partition(order, examples, share=settings.train_subset, has_prior=has_prior, excluded=excluded)
    task = Task(
        settings.dataset,
        len(parts.bound),
        dataset.shape[0],
        _brought(settings, dataset, source),
        calibration_pool=len(parts.prior) if has_prior else None,
        defaults=_defaults(settings, source) if source else {},
    )
    configuration = _configuration(settings, task, source)
    drawn = configuration.calibration_examples, configuration.seed
    pool = parts.bound
    parts = parts if has_prior else parts.with_calibration(*drawn)
    calibration = parts.prior[draw_calibration(parts.prior, *drawn)] if has_prior else parts.calibration
    dataset = dataset.to(device)

    def take(indices: Indices) -> LabelledImages:
        return dataset.train[torch.from_numpy(indices).to(device)]

    sample = dataset.train if parts.is_trivial(examples) else take(parts.bound)
    with display.progress("fingerprinting the examples") as progress:
        data_sha256 = sample.sha256(progress)
    return Subject(
        settings=_resolve(settings, configuration, directory).model_copy(update={"augment": augment}),
        dataset=dataset,
        task=task,
        configuration=configuration,
        partition=parts,
        sample=sample,
        data_sha256=data_sha256,
        calibration=take(calibration).resident(),
        pool=pool,
        start=start,
        world=world,
    )


def _workers(settings: TrainSettings, world: World) -> int | None:
    """Decoding processes of each process; None for as many as are useful to one."""
    if settings.num_workers != "auto":
        return settings.num_workers
    return None if world.local_size == 1 else max(1, useful_workers() // world.local_size)


def _defaults(settings: TrainSettings, source: Start) -> dict[str, Any]:
    """What a message need not say because the source says it; never a normalisation that is statistics of this data."""
    defaults = source.defaults()
    if defaults["normalisation"] == catalogue.dataset_entry(settings.dataset).published:
        defaults["normalisation"] = None
    return defaults


def fit_images(dataset: Dataset, source: Start) -> Dataset:
    """Images as the network of a transfer can take them: with its channels, and, where its weights have other shapes
    for another size, in a black frame of its size.

    Raises:
        PactlError: if they are too large for it.
    """
    channels, height, width = source.shape
    if dataset.shape[0] != channels:
        dataset = dataset.with_images(lambda images: with_channels(images, channels))
    if dataset.shape == source.shape or source.fits(dataset.shape):
        return dataset
    if dataset.shape[1] > height or dataset.shape[2] > width:
        raise PactlError(
            f"--dataset {dataset.name} has images of {dataset.shape[1]} x {dataset.shape[2]}, and {source.model_name} "
            f"in {source.origin} was trained on {height} x {width}: its weights have another shape for these",
            "transfer from a network with a mean over the image, such as layer13s, or from larger images",
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


def _brought(settings: TrainSettings, dataset: Dataset, source: Start | None) -> catalogue.Model | None:
    """The user's own network, if it is one."""
    name = source.model_name if source else settings.model_name
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
    chosen["dataset"] = f"{kind}:{Path(path).expanduser().resolve()}" if colon else kind
    if isinstance(settings, TransferSettings):
        if not settings.source.startswith("torchvision:"):
            chosen["source"] = str(Path(settings.source).expanduser().resolve())
        chosen["weights"] = settings.weights and settings.weights.expanduser().resolve()
    chosen["indices_path"] = settings.indices_path and settings.indices_path.expanduser().resolve()
    return settings.model_copy(update=chosen)
