"""The problem of a run: its data and their division, the classifier, and the processes that share the work."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor, nn

from pactl_cli import catalogue
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.certificate.task import Task
from pactl_cli.data.dataset import Dataset, Examples, LabelledExamples
from pactl_cli.data.splits import Indices, Partition
from pactl_cli.errors import printable
from pactl_cli.models.independence import EXAMPLES, require_function_of_one_example
from pactl_cli.models.normalisation import batch_norms, calibrate, running_statistics
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.blueprint import Blueprint
from pactl_cli.problem.fingerprints import Fingerprints
from pactl_cli.processes.world import ALONE, World
from pactl_cli.runs.calibrated import Calibrated
from pactl_cli.runs.kinds import Kind, kind_of
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Training
from pactl_cli.subspace.module import SubspaceModule, set_weights
from pactl_cli.training.precision import full_precision

PERMUTATION = "permutation"
"""The name of the user's permutation among the recorded indices."""


@dataclass(frozen=True)
class Problem:
    """Data on the device, their division, and all that rebuilds the classifier.

    Attributes:
        settings: the settings, with every default filled in.
        dataset: the data set as the network takes it, label noise included.
        task: what the receiver of a message knows beforehand.
        blueprint: the classifier's blueprint.
        partition: the parts of the training set.
        permutation: the user's permutation of the training set, if there is one.
        repetitions: the number of examples of S that are exact copies of others there.
        sample: S.
        fingerprints: the fingerprints of all the data.
        calibration: the calibration examples; may be empty.
        pool: the indices of S with the calibration examples that were taken out of it, in its order.
        file_channels: the channels of images in their files, before they are made to fit a source.
        is_sized_by_source: whether the weights of a source, not the data, decide the size of images.
        world: the processes that share the work; each has a problem like this one.
    """

    settings: TrainSettings
    dataset: Dataset
    task: Task
    blueprint: Blueprint
    partition: Partition
    permutation: Indices | None
    repetitions: int
    sample: LabelledExamples
    fingerprints: Fingerprints
    calibration: Examples
    pool: Indices
    file_channels: int
    is_sized_by_source: bool = False
    world: World = ALONE

    @property
    def kind(self) -> Kind:
        """The kind of run."""
        return kind_of(self.settings)

    @property
    def configuration(self) -> Configuration:
        """The configuration that a message carries."""
        return self.blueprint.configuration

    @property
    def device(self) -> torch.device:
        """The device of the data."""
        return self.sample.labels.device

    def abstaining(self, abstains: bool) -> Problem:
        """Return the same problem with messages that say when their classifier abstains, or do not."""
        return replace(self, task=replace(self.task, abstains=abstains))

    @property
    def has_indices(self) -> bool:
        """Whether S differs from the training set in its own order."""
        return self.permutation is not None or not self.partition.is_trivial(len(self.dataset.train))

    def indices(self) -> dict[str, Indices]:
        """Return the indices that a run directory records: the parts, and the user's permutation."""
        brought = {} if self.permutation is None else {PERMUTATION: self.permutation}
        return self.partition.arrays() | brought

    @property
    def calibration_pool_sha256(self) -> str | None:
        """The fingerprint of the indices that calibration examples are drawn from; None if there are none."""
        if not len(self.calibration):
            return None
        parts = self.partition
        pool = parts.prior if len(parts.prior) else self.pool
        return sha256(pool.astype("<i8").tobytes()).hexdigest()

    def population(self) -> tuple[str | None, ...]:
        """Return what identifies the data and theta0, which no message carries.

        It is the data set's name, the fingerprints of its examples, of their division and of theta0, and, in one
        string, how many classes and tokens there are and how tables and texts are written as numbers.
        """
        found, division, data = self.fingerprints, self.partition.division_sha256(), self.dataset
        columns = [known.name for known in data.encoding.fields] if data.encoding else None
        sizes = [data.classes, data.spec.vocabulary]
        told = [*sizes, data.tokenizer_sha256, columns, self.settings.missing, self.settings.categories]
        written = json.dumps(told, sort_keys=True)
        return self.task.dataset, found.train, found.test, division, self.blueprint.theta0_sha256, written

    def lineage(self) -> tuple[Training, ...]:
        """Return the trainings that led to this run's weights: its own first, one for each of its data sets."""
        settings, start = self.settings, self.blueprint.start
        names = map(printable, catalogue.joined(catalogue.own_name(settings.dataset)))
        permuted, noisy = settings.indices_path is not None, settings.label_noise > 0
        own = (Training(name, permuted, noisy=noisy) for name in names)
        return (*own, *(start.lineage if start else ()))

    def few_examples(self) -> Examples:
        """Return the first examples of S, on which a network is tried."""
        return self.sample[torch.arange(min(EXAMPLES, len(self.sample)), device=self.device)].resident()

    def build_module(self) -> SubspaceModule:
        """Return theta0 + P w at w = 0, on the data's device.

        Raises:
            PactlError: as `Blueprint.module` does.
        """
        return self.blueprint.module().to(self.device)

    def calibrated(self, network: Prepared) -> Calibrated:
        """Return what a network that `classifier` returned has taken from the data."""
        blueprint, count = self.blueprint, len(self.calibration)
        buffers = running_statistics(network.network) if count else {}
        return Calibrated(count, self.file_channels, blueprint.calibrated, blueprint.encoding, buffers)

    def calibrate(self, network: nn.Module) -> None:
        """Recompute a network's batch statistics at its present weights, and put it into evaluation mode.

        Every process computes them, then takes those of rank 0, so that all count one classifier.
        """
        calibrate(network, self.calibration.inputs)
        self.world.copy_first(
            buffer for layer in batch_norms(network) for buffer in layer.buffers() if buffer.is_floating_point()
        )

    def classifier(self, module: SubspaceModule, coordinates: Tensor) -> Prepared:
        """Return the network at theta0 + P w, its batch statistics recomputed: a function of one raw example.

        Raises:
            PactlError: if its logits depend on other examples or on chance.
        """
        with full_precision():
            network = self.blueprint.network_to_evaluate(module)
            assert isinstance(network, Prepared)
            set_weights(network, module.weights(coordinates.to(module.theta0.device)))
            self.calibrate(network)
            inputs, classes = self.few_examples().inputs, self.dataset.classes
            require_function_of_one_example(network, inputs, classes, self.configuration.model_name)
        return network
