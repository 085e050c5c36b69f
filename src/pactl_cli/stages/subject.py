"""What a message is about: the data, the network and the subspace that sender and receiver both rebuild."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics, is_brought
from pactl_cli.certificate.configuration import Configuration, Task, complete
from pactl_cli.data.adaptation import framed, image_fingerprints, with_channels
from pactl_cli.data.dataset import FIXED_STATISTICS, Dataset, Examples, LabelledImages, normalise
from pactl_cli.data.sources import load_dataset
from pactl_cli.data.splits import Indices, Partition, draw_calibration, load_indices, partition
from pactl_cli.data.workers import useful_workers
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.brought import describe
from pactl_cli.models.independence import EXAMPLES, require_function_of_one_example
from pactl_cli.models.layers import head_names, parameter_layout
from pactl_cli.models.normalisation import batch_norms, calibrate, freeze_statistics
from pactl_cli.runs.settings import PriorSettings, TrainSettings, TransferSettings, option_name
from pactl_cli.runs.start import Start
from pactl_cli.stages.display import Display
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import full_precision
from pactl_cli.training.processes import ALONE, World


@dataclass(frozen=True)
class Subject:
    """Data on the device, and which of it is for what.

    Attributes:
        settings: with every default resolved.
        task: what the receiver of a message knows beforehand.
        sample: S.
        data_sha256: its fingerprint.
        calibration: examples for batch statistics; may be empty.
        pool: S with the calibration examples that were taken out of it, in its order.
        start: theta0, where the seed alone does not give it.
        world: the processes that share the work; each has a subject like this one.
    """

    settings: TrainSettings
    dataset: Dataset
    task: Task
    configuration: Configuration
    partition: Partition
    sample: LabelledImages
    data_sha256: str
    calibration: Examples
    pool: Indices
    start: Start | None = None
    world: World = ALONE

    @property
    def statistics(self) -> Statistics:
        """The normalisation of a network's inputs."""
        return self.configuration.normalisation or FIXED_STATISTICS

    @property
    def whole_sample(self) -> bool:
        """Whether S is the training set itself, in its own order."""
        return self.partition.is_trivial(len(self.dataset.train))

    @property
    def has_frozen_statistics(self) -> bool:
        """Whether batch statistics are the source's, for want of calibration examples."""
        return isinstance(self.settings, TransferSettings) and not len(self.calibration)

    @property
    def theta0_sha256(self) -> str | None:
        """A fingerprint of what training started from; None if the seed in the message gives it."""
        return None if self.start is None else self.start.sha256()

    @property
    def calibration_pool_sha256(self) -> str | None:
        """A fingerprint of what calibration examples are drawn from, in its order; None if none are."""
        if not len(self.calibration):
            return None
        parts = self.partition
        pool = parts.prior if len(parts.prior) else self.pool
        return sha256(pool.astype("<i8").tobytes()).hexdigest()

    def population(self) -> tuple[str, str, str | None]:
        """What no message carries: the data set's name, a fingerprint of S and what calibration took of it, theta0."""
        drawn = np.sort(np.concatenate([self.partition.calibration, self.partition.bound]))
        examples = self.dataset.train[torch.from_numpy(drawn)].sha256()
        return self.task.dataset, examples, self.theta0_sha256

    def initial_network(self) -> nn.Module:
        """The network at theta0, on the CPU: drawn from the seed, but for what training starts from.

        Raises:
            PactlError: if it does not fit the images, or the weights not it.
        """
        network = build_network(
            self.configuration.model_name,
            classes=self.dataset.classes,
            shape=self.dataset.shape,
            width=self.configuration.base_width,
            seed=self.configuration.seed,
        )
        if self.start is not None:
            self.start.place_into(network)
        if self.has_frozen_statistics:
            freeze_statistics(network)
        return network

    def build_module(self) -> SubspaceModule:
        """theta0 + P w at w = 0, on the data's device.

        Raises:
            PactlError: if the network does not fit the images, or the subspace the network.
        """
        configuration, network = self.configuration, self.initial_network()
        if batch_norms(network) and len(self.calibration) < 2 and not self.has_frozen_statistics:
            raise PactlError(
                f"--calibration-examples {len(self.calibration)} is too few: {configuration.model_name} has BatchNorm",
                "give at least 2, and enough training examples: at most a tenth of them is taken",
            )
        projector = build_projector(
            configuration.intrinsic_mode, parameter_layout(network), configuration.intrinsic_dim, configuration.seed
        )
        return SubspaceModule(network, projector).to(self.sample.labels.device)

    def network_to_evaluate(self, module: SubspaceModule) -> nn.Module:
        """A network in which training can have left nothing: the module's own, or, of the user's code, a new one."""
        if not self.task.brought:
            return module.network
        return self.initial_network().to(module.theta0.device)

    def start_from(self, network: nn.Module, *, seen: NDArray[np.uint64], seen_is_complete: bool, origin: str) -> Start:
        """What another training can start from: the network as it is, and what of this one goes with it.

        Args:
            network: of this subject's configuration.
            seen, seen_is_complete, origin: as in `Start`.
        """
        return Start(
            tensors={name: tensor.cpu() for name, tensor in network.state_dict().items()},
            seen=seen,
            model_name=self.configuration.model_name,
            base_width=self.configuration.base_width,
            classes=self.dataset.classes,
            head=head_names(network),
            shape=self.dataset.shape,
            statistics=self.configuration.normalisation,
            seen_is_complete=seen_is_complete,
            origin=origin,
        )

    def few_examples(self) -> Examples:
        """The first of S, on which a network is tried."""
        return self.sample[torch.arange(min(EXAMPLES, len(self.sample)), device=self.sample.labels.device)].resident()

    def calibrate(self, network: nn.Module) -> None:
        """Recomputes a network's batch statistics at its present weights, and puts it into evaluation mode.

        Every process computes them alike; then all take rank 0's, so that what they count is one classifier.
        """
        calibrate(network, normalise(self.calibration.images, self.statistics))
        self.world.copy_first(
            buffer for layer in batch_norms(network) for buffer in layer.buffers() if buffer.is_floating_point()
        )

    def classifier(self, module: SubspaceModule, coordinates: Tensor) -> nn.Module:
        """The network at theta0 + P w with its batch statistics recomputed: a function of one example.

        Raises:
            PactlError: if it is none.
        """
        with full_precision():
            network = module.decoded(coordinates.to(module.theta0.device), self.network_to_evaluate(module))
            self.calibrate(network)
            inputs = normalise(self.few_examples().images, self.statistics)
            require_function_of_one_example(network, inputs, self.dataset.classes, self.configuration.model_name)
        return network


def data_directory(given: Path | None) -> Path:
    """Where named data sets lie: as given, else $PACTL_DATA_DIR, else the platform's cache directory.

    Raises:
        PactlError: if a directory that was named does not exist.
    """
    if given is None and not os.environ.get("PACTL_DATA_DIR"):
        return platformdirs.user_cache_path("pactl", appauthor=False, ensure_exists=False)
    option, path = ("--data-dir", given) if given else ("PACTL_DATA_DIR", Path(os.environ["PACTL_DATA_DIR"]))
    path = path.expanduser()
    if not os.path.isdir(path):
        raise PactlError(f"{option} {path} is not a directory", "name the directory that holds the data sets")
    return path.resolve()


def find_device(name: str, world: World = ALONE) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one. Each process of several has a GPU of its own.

    Raises:
        PactlError: if this machine has no such device, or not one for every process.
    """
    if world.joined and name in ("auto", "cuda") and torch.cuda.is_available():
        return _own_gpu(world)
    if world.size > 1 and name.startswith("cuda:"):
        raise PactlError(f"--device {name} is one GPU, for {world.size} processes", "use --device cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    present = {
        "cpu": True,
        "mps": torch.backends.mps.is_available(),
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
    }
    if not present[device.type]:
        raise PactlError(f"--device {name} is not available on this machine", "use --device cpu")
    return device


def _own_gpu(world: World) -> torch.device:
    """The GPU of a process's place among those of its machine."""
    if world.local_rank >= torch.cuda.device_count():
        raise PactlError(
            f"{world.local_size} processes need as many GPUs, and this machine shows {torch.cuda.device_count()}",
            "start fewer, or look at CUDA_VISIBLE_DEVICES",
        )
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device


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
