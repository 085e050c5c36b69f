"""What a message is about: the data, the network and the subspace that sender and receiver both rebuild."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics, is_brought
from pactl_cli.certificate.configuration import Configuration, Task, complete
from pactl_cli.data.dataset import FIXED_STATISTICS, Dataset, Examples, normalise
from pactl_cli.data.sources import load_dataset
from pactl_cli.data.splits import Partition, load_indices, partition, share_size
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.brought import describe
from pactl_cli.models.independence import EXAMPLES, require_function_of_one_example
from pactl_cli.models.layers import parameter_layout
from pactl_cli.models.normalisation import batch_norms, calibrate
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.display import Display
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import full_precision


@dataclass(frozen=True)
class Subject:
    """Data on the device, and which of it is for what.

    Attributes:
        settings: with every default resolved.
        task: what the receiver of a message knows beforehand.
        sample: S.
        calibration: examples for batch statistics; may be empty.
    """

    settings: TrainSettings
    dataset: Dataset
    task: Task
    configuration: Configuration
    partition: Partition
    sample: Examples
    calibration: Examples

    @property
    def statistics(self) -> Statistics:
        """The normalisation of a network's inputs."""
        return self.configuration.normalisation or FIXED_STATISTICS

    @property
    def whole_sample(self) -> bool:
        """Whether S is the training set itself, in its own order."""
        return self.partition.is_trivial(len(self.dataset.train))

    def population(self) -> tuple[str, str]:
        """The data set's name and a fingerprint of S and the calibration examples together: what no message carries."""
        drawn = np.sort(np.concatenate([self.partition.calibration, self.partition.bound]))
        return self.task.dataset, self.dataset.train[torch.from_numpy(drawn)].sha256()

    def build_module(self) -> SubspaceModule:
        """theta0 + P w at w = 0, from the configuration alone, on the data's device.

        Raises:
            PactlError: if the network does not fit the images, or the subspace the network.
        """
        configuration, network = self.configuration, self.initial_network()
        if batch_norms(network) and len(self.calibration) < 2:
            raise PactlError(
                f"--calibration-examples {len(self.calibration)} is too few: {configuration.model_name} has BatchNorm",
                "give at least 2, and enough training examples: at most a tenth of them is taken",
            )
        projector = build_projector(
            configuration.intrinsic_mode, parameter_layout(network), configuration.intrinsic_dim, configuration.seed
        )
        return SubspaceModule(network, projector).to(self.sample.labels.device)

    def initial_network(self) -> nn.Module:
        """The network at theta0, on the CPU.

        Raises:
            PactlError: if it does not fit the images.
        """
        return build_network(
            self.configuration.model_name,
            classes=self.dataset.classes,
            shape=self.dataset.shape,
            width=self.configuration.base_width,
            seed=self.configuration.seed,
        )

    def network_to_evaluate(self, module: SubspaceModule) -> nn.Module:
        """A network in which training can have left nothing: the module's own, or, of the user's code, a new one."""
        if not self.task.brought:
            return module.network
        return self.initial_network().to(module.theta0.device)

    def calibrate(self, network: nn.Module) -> None:
        """Recomputes a network's batch statistics at its present weights, and puts it into evaluation mode."""
        calibrate(network, normalise(self.calibration.images, self.statistics))

    def few_examples(self) -> Examples:
        """The first examples of S, on which a network is tried."""
        return self.sample[torch.arange(min(EXAMPLES, len(self.sample)), device=self.sample.labels.device)]

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


def find_device(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one.

    Raises:
        PactlError: if this machine has no such device.
    """
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


def load_subject(settings: TrainSettings, device: torch.device, display: Display) -> Subject:
    """Loads the data, resolves every default and divides the training set.

    Raises:
        PactlError: if the data, or what is asked of it, is wrong.
    """
    directory = data_directory(settings.data_dir)
    with display.progress("reading images") as progress:
        dataset = load_dataset(settings.dataset, directory, progress).with_label_noise(settings.label_noise)
    examples = len(dataset.train)
    name, channels = settings.model_name, dataset.shape[0]
    brought = describe(name, classes=dataset.classes, channels=channels) if name and is_brought(name) else None
    task = Task(settings.dataset, share_size(examples, settings.train_subset), channels, brought)
    configuration = _configuration(settings, task)
    parts = partition(
        load_indices(settings.indices_path, examples) if settings.indices_path else None,
        examples,
        share=settings.train_subset,
        calibration=configuration.calibration_examples,
        seed=configuration.seed,
    )
    dataset = dataset.to(device)

    def take(indices: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Examples:
        return dataset.train[torch.from_numpy(indices).to(device)]

    return Subject(
        settings=_resolve(settings, configuration, directory),
        dataset=dataset,
        task=task,
        configuration=configuration,
        partition=parts,
        sample=dataset.train if parts.is_trivial(examples) else take(parts.bound),
        calibration=take(parts.calibration),
    )


def _configuration(settings: TrainSettings, task: Task) -> Configuration:
    """The settings that a message carries, the rest of its fields at their defaults."""
    published = None
    if settings.normalise == "published":
        published = catalogue.dataset_entry(settings.dataset).published
        if published is None:
            raise PactlError(f"--normalise published: there are no published constants for {settings.dataset}")
    given = settings.model_dump(include=set(Configuration.__dataclass_fields__) - {"normalisation"})
    if given["model_name"]:
        given["model_name"] = catalogue.model_name(given["model_name"])
    configuration = complete(given | {"normalisation": published}, task)
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
    chosen |= {
        "data_dir": directory if os.path.isdir(directory) else None,
        "warmup_lr": settings.warmup_lr or settings.lr or entry.lr,
    }
    kind, colon, path = settings.dataset.partition(":")
    chosen["dataset"] = f"{kind}:{Path(path).expanduser().resolve()}" if colon else kind
    chosen["indices_path"] = settings.indices_path and settings.indices_path.expanduser().resolve()
    return settings.model_copy(update=chosen)
