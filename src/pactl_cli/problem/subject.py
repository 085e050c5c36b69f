"""What a message is about: the data, the network and the subspace that sender and receiver both rebuild."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.configuration import Configuration, Task
from pactl_cli.data.dataset import FIXED_STATISTICS, Dataset, Examples, LabelledExamples, normalise
from pactl_cli.data.splits import Indices, Partition, require_same_indices
from pactl_cli.errors import PactlError, printable
from pactl_cli.models import build_network
from pactl_cli.models.independence import EXAMPLES, require_function_of_one_example
from pactl_cli.models.layers import head_names, parameter_layout
from pactl_cli.models.normalisation import batch_norms, calibrate, freeze_statistics
from pactl_cli.problem.fingerprints import Fingerprints
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.settings import TrainSettings, TransferSettings
from pactl_cli.runs.start import Start, Training
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule
from pactl_cli.training.counting import full_precision

PERMUTATION = "permutation"
"""The name of the user's own permutation among the recorded indices."""


@dataclass(frozen=True)
class Subject:
    """Data on the device, and which of it is for what.

    Attributes:
        settings: with every default resolved.
        task: what the receiver of a message knows beforehand.
        permutation: of the training set, where the user brought one.
        repetitions: how many examples of S are exact copies of others there.
        sample: S.
        fingerprints: of all the data.
        calibration: examples for batch statistics; may be empty.
        pool: S with the calibration examples that were taken out of it, in its order.
        start: theta0, where the seed alone does not give it.
        is_framed: whether its weights, not the data, say how large the images are.
        world: the processes that share the work; each has a subject like this one.
    """

    settings: TrainSettings
    dataset: Dataset
    task: Task
    configuration: Configuration
    partition: Partition
    permutation: Indices | None
    repetitions: int
    sample: LabelledExamples
    fingerprints: Fingerprints
    calibration: Examples
    pool: Indices
    start: Start | None = None
    is_framed: bool = False
    world: World = ALONE

    @property
    def statistics(self) -> Statistics:
        """The normalisation of a network's inputs."""
        return self.configuration.normalisation or FIXED_STATISTICS

    @property
    def has_indices(self) -> bool:
        """Whether S is not simply the training set itself, in its own order."""
        return self.permutation is not None or not self.partition.is_trivial(len(self.dataset.train))

    def indices(self) -> dict[str, Indices]:
        """What a run directory records of the division: its parts, and the permutation that the user brought."""
        brought = {} if self.permutation is None else {PERMUTATION: self.permutation}
        return self.partition.arrays() | brought

    def require_indices(self, recorded: dict[str, Indices], path: Path) -> None:
        """Raises PactlError unless the arrays recorded in a file are these."""
        require_same_indices(self.indices(), recorded, path)

    @cached_property
    def network_facts(self) -> NetworkFacts:
        """What the network is at theta0."""
        name, classes = self.configuration.model_name, self.dataset.classes
        return NetworkFacts.of(self.initial_network(), name, classes, self.dataset.spec)

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

    def population(self) -> tuple[str | None, ...]:
        """What no message carries: the data set's name, fingerprints of its examples and of their division, theta0."""
        found = self.fingerprints
        return self.task.dataset, found.train, found.test, self.partition.division_sha256(), self.theta0_sha256

    def initial_network(self) -> nn.Module:
        """The network at theta0, on the CPU: drawn from the seed, but for what training starts from.

        Raises:
            PactlError: if it does not fit the inputs, or the weights not it.
        """
        network = build_network(
            self.configuration.model_name,
            classes=self.dataset.classes,
            inputs=self.dataset.spec,
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
            PactlError: if the network does not fit the inputs, or the subspace the network.
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

    def start_from(
        self,
        network: nn.Module,
        *,
        seen: NDArray[np.uint64],
        seen_is_complete: bool,
        origin: str,
        lineage: tuple[Training, ...] = (),
    ) -> Start:
        """What another training can start from: the network as it is, and what of this one goes with it.

        Args:
            network: of this subject's configuration.
            seen, seen_is_complete, origin, lineage: as in `Start`.
        """
        return Start(
            tensors={name: tensor.cpu() for name, tensor in network.state_dict().items()},
            seen=seen,
            model_name=self.configuration.model_name,
            base_width=self.configuration.base_width,
            classes=self.dataset.classes,
            head=head_names(network),
            spec=self.dataset.spec,
            statistics=self.configuration.normalisation,
            seen_is_complete=seen_is_complete,
            origin=origin,
            lineage=lineage,
        )

    def lineage(self) -> tuple[Training, ...]:
        """The trainings that led to this run's weights, its own first."""
        settings = self.settings
        own = Training(printable(settings.dataset), settings.indices_path is not None, noisy=settings.label_noise > 0)
        return (own, *(self.start.lineage if self.start else ()))

    def few_examples(self) -> Examples:
        """The first of S, on which a network is tried."""
        return self.sample[torch.arange(min(EXAMPLES, len(self.sample)), device=self.sample.labels.device)].resident()

    def calibrate(self, network: nn.Module) -> None:
        """Recomputes a network's batch statistics at its present weights, and puts it into evaluation mode.

        Every process computes them alike; then all take rank 0's, so that what they count is one classifier.
        """
        calibrate(network, normalise(self.calibration.inputs, self.statistics))
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
            inputs = normalise(self.few_examples().inputs, self.statistics)
            require_function_of_one_example(network, inputs, self.dataset.classes, self.configuration.model_name)
        return network
