"""From settings to a problem: data are loaded and divided, defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pactl_cli import catalogue
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.data.dataset import Dataset, LabelledExamples
from pactl_cli.data.files.data_directory import DataDirectory
from pactl_cli.data.files.workers import useful_workers
from pactl_cli.data.loading import load_dataset
from pactl_cli.data.recognition import exact_fingerprints
from pactl_cli.data.resizing import resized
from pactl_cli.data.splits import (
    Identities,
    Indices,
    Partition,
    draw_calibration,
    load_indices,
    partition,
    require_permutation,
)
from pactl_cli.errors import MissingError, PactlError
from pactl_cli.problem.blueprint import Blueprint
from pactl_cli.problem.calibrating import calibrated_statistics, encoded_by
from pactl_cli.problem.configuring import configuration_of, reading_of, resolved, task_of, view_of
from pactl_cli.problem.consent import DataPlace
from pactl_cli.problem.display import Display
from pactl_cli.problem.fingerprints import Fingerprints
from pactl_cli.problem.fitting import (
    adaptations,
    fit_inputs,
    require_own_head,
    require_unrelated,
    seen_forms,
    size_for,
)
from pactl_cli.problem.machine import data_directory
from pactl_cli.problem.memory import within_memory
from pactl_cli.problem.problem import Problem
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start


@dataclass(frozen=True)
class Request:
    """A request to load a problem: settings, and what else is known.

    Attributes:
        settings: the settings that the user gave, or those of a run.
        device: the device of the data.
        display: the receiver of progress.
        world: the processes that share the work, each of which has a request like this one.
        start: what a transfer starts from, or a prior that has been trained; None if there is none (yet).
        place: where the data are read; None if the user gave the settings, which then say it.
        permutation: the permutation of the training set that a run, perhaps a stranger's, has recorded; it is used only
            if the settings name a file of one.
    """

    settings: TrainSettings
    device: torch.device
    display: Display
    world: World = ALONE
    start: Start | None = None
    place: DataPlace | None = None
    permutation: Indices | None = None


def load_problem(request: Request) -> Problem:
    """Load and divide the data of a problem, and fill in its defaults; raise PactlError if something is wrong."""
    settings = request.settings
    place = request.place or DataPlace(settings.dataset, data_directory(settings.data_dir))
    original, clean = _read(request, place)
    permutation = _permutation(settings, request.permutation, len(clean.train))
    dataset, start = _fitted(request, original, clean)
    source, where = start if settings.has_source else None, DataDirectory(place.directory, may_write=False)
    pool, identities = _divided(settings, (original, clean, dataset), source, permutation, where)
    task = task_of(settings, dataset, pool, start)
    configuration = configuration_of(settings, task, source)
    parts, calibration = _with_calibration(pool, configuration, identities, kind_of(settings).certifies(settings))
    dataset, is_given = encoded_by(dataset, calibration), settings.intrinsic_dim is not None
    configuration = within_memory(configuration, dataset.classes, dataset.spec, given_dim=is_given)
    dataset = dataset.to(request.device)
    given = _taken(dataset, calibration).resident()
    statistics, keeps = calibrated_statistics(configuration, given), settings.has_source and not len(calibration)
    blueprint = Blueprint(configuration, dataset.classes, dataset.spec, start, keeps, statistics, dataset.encoding)
    sample = dataset.train if parts.is_trivial(len(clean.train)) else _taken(dataset, parts.bound)
    with request.display.progress("fingerprinting the examples") as progress:
        fingerprints = Fingerprints.of(sample, original, parts, progress)
    return Problem(
        settings=resolved(settings, configuration, place.directory, view_of(settings, clean), clean),
        dataset=dataset,
        task=task,
        blueprint=blueprint,
        partition=parts,
        permutation=permutation,
        repetitions=parts.repetitions(identities),
        sample=sample,
        fingerprints=fingerprints,
        calibration=given,
        pool=pool.bound,
        file_channels=original.spec.channels,
        is_sized_by_source=settings.image_size is None and dataset.spec.sides != original.spec.sides,
        world=request.world,
    )


def _fitted(request: Request, original: Dataset, clean: Dataset) -> tuple[Dataset, Start | None]:
    """Return the data as the network takes them, and the start for their classes; tell the user what was adapted.

    Raises:
        PactlError: if they do not fit the source's network, or are to be certified and it may have seen them.
    """
    settings, start = request.settings, request.start
    dataset = clean.with_label_noise(settings.label_noise)
    if start is None or not settings.has_source:
        return dataset, start
    if kind_of(settings).certifies(settings):
        require_unrelated(start, settings)
        require_own_head(start, settings, dataset.classes)
    dataset = fit_inputs(dataset, start)
    for note in () if request.place else adaptations(original, dataset, start):
        request.display.say(note)
    return dataset, start.for_classes(dataset.classes)


def _read(request: Request, place: DataPlace) -> tuple[Dataset, Dataset]:
    """Return the data set as its files have it, and with its images scaled, both without label noise.

    Raises:
        PactlError: if it cannot be read, or does not have the content that pactl knows.
    """
    settings = request.settings
    with request.display.progress("reading the data") as progress:
        try:
            dataset = load_dataset(
                place.dataset,
                place.directory,
                progress,
                may_write=place.may_write,
                reading=reading_of(settings, place.tokenizer),
                original=True,
            )
        except MissingError as error:
            raise MissingError(error.message, place.if_absent or error.hint) from error
        where = DataDirectory(place.directory, place.may_write)
        size = settings.image_size
        if size is None and request.start and settings.has_source:
            size = size_for(dataset, request.start)
        sized = resized(dataset, size, where, progress)
    for note in () if request.place else dataset.notes:
        request.display.warn(f"--dataset {settings.dataset}: {note}")
    expected = catalogue.dataset_entry(settings.dataset).content
    if expected is not None and expected != tuple(part.sha256() for part in dataset.parts):
        raise PactlError(f"{settings.dataset} in {place.directory} is not the published one", "restore its files")
    workers = _workers(settings, request.world)
    return dataset.with_workers(workers), sized.with_workers(workers)


def _permutation(settings: TrainSettings, recorded: Indices | None, examples: int) -> Indices | None:
    """Return the user's permutation, as recorded or from the file that the settings name; None if they name none.

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
    settings: TrainSettings,
    seen_as: tuple[Dataset, Dataset, Dataset],
    source: Start | None,
    permutation: Indices | None,
    where: DataDirectory,
) -> tuple[Partition, Identities]:
    """Return the parts of the training set, calibration not yet drawn, and a fingerprint of each example in them.

    Examples that the source has seen are left out of S if S is to be counted. They stay in a prior's share, which is
    never counted.

    Args:
        seen_as: the data as their files have them, in one size, and as the network takes them.
        where: the directory of named data sets.

    Raises:
        PactlError: if nothing is left to count, or there are copies and they are refused.
    """
    original, sized, fitted = seen_as
    examples, kind = len(original.train), kind_of(settings)
    parts = partition(permutation, examples, share=settings.train_subset, has_prior=kind.has_prior)
    identities = np.zeros(examples, dtype=np.uint64)
    whole = torch.from_numpy(parts.whole())
    identities[parts.whole()] = exact_fingerprints(original.train[whole], lambda: sized.train[whole])
    if source is not None and len(source.seen) and kind.certifies(settings):
        own = torch.from_numpy(parts.bound)
        raw, seen = (replace(data, train=data.train[own], test=None) for data in (original, fitted))
        forms = seen_forms(raw, seen, source, where)
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


def _with_calibration(
    pool: Partition, configuration: Configuration, identities: Identities, is_certified: bool
) -> tuple[Partition, Indices]:
    """Return the parts once calibration examples are drawn, and these examples.

    They are some of the prior's, or are taken out of S together with their copies, if S is to be counted.

    Raises:
        PactlError: if they are too many, or nothing but copies of them is left.
    """
    drawn = configuration.calibration_examples, configuration.seed
    if len(pool.prior):
        return pool, pool.prior[draw_calibration(pool.prior, *drawn, of_prior=True)]
    parts = pool.with_calibration(*drawn)
    parts = parts.without_copies(identities) if is_certified else parts
    return parts, parts.calibration


def _taken(dataset: Dataset, indices: Indices) -> LabelledExamples:
    """Return some of the training examples, on the data's device."""
    return dataset.train[torch.from_numpy(indices).to(dataset.train.labels.device)]


def _workers(settings: TrainSettings, world: World) -> int | None:
    """Return the number of decoding processes of each process; None for as many as are useful to one."""
    if settings.num_workers != "auto":
        return settings.num_workers
    return None if world.local_size == 1 else max(1, useful_workers() // world.local_size)
