"""The blueprint of a classifier, a configuration and theta0: it rebuilds the classifier without data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.configuration import Configuration
from pactl_cli.certificate.format import CALIBRATION, FIXED_STATISTICS
from pactl_cli.data.tables.encoding import Encoding
from pactl_cli.errors import PactlError
from pactl_cli.models import build_network
from pactl_cli.models.inputs import InputSpec
from pactl_cli.models.layers import Layout, freeze_all_but_head, freeze_matching, head_names, parameter_layout
from pactl_cli.models.normalisation import batch_norms, freeze_statistics
from pactl_cli.models.preparation import Prepared
from pactl_cli.problem.network_facts import NetworkFacts
from pactl_cli.runs.start import Start, Training
from pactl_cli.subspace import build_projector
from pactl_cli.subspace.module import SubspaceModule

_OF_A_PRIOR = ("normalisation", "image_size")
"""The fields of a configuration that a prior's training depends on, apart from its network."""


@dataclass(frozen=True)
class Blueprint:
    """A network, theta0 and P, none of them built yet.

    Attributes:
        configuration: what a message says.
        classes: the number of logits.
        spec: the specification of an example.
        start: theta0, unless the seed alone gives it.
        keeps_statistics: whether batch statistics are those of `start`, as there are no calibration examples.
        calibrated: mean and standard deviation of the calibration examples' inputs, if the configuration asks for them.
        encoding: how the rows of a table are written as numbers; None for other data.
    """

    configuration: Configuration
    classes: int
    spec: InputSpec
    start: Start | None = None
    keeps_statistics: bool = False
    calibrated: Statistics | None = None
    encoding: Encoding | None = None

    @property
    def is_code(self) -> bool:
        """Whether the network is the user's own code."""
        return catalogue.is_brought(self.configuration.model_name)

    @property
    def statistics(self) -> Statistics | None:
        """The normalisation of inputs; None for .5 and .5."""
        normalisation = self.configuration.normalisation
        return self.calibrated if isinstance(normalisation, str) else normalisation

    @property
    def has_calibrated_statistics(self) -> bool:
        """Whether the normalisation of inputs is that of calibration examples, these or the source's."""
        own, start = self.configuration.normalisation, self.start
        return own == CALIBRATION or (start is not None and start.calibrated and own == start.statistics)

    @property
    def theta0_sha256(self) -> str | None:
        """The fingerprint of theta0; None if the seed in the message gives theta0."""
        return None if self.start is None else self.start.sha256()

    @cached_property
    def network_facts(self) -> NetworkFacts:
        """The facts of the network at theta0."""
        network = self.prepared(self.network())
        return NetworkFacts.of(network, self.configuration.model_name, self.classes, self.spec)

    def network(self) -> nn.Module:
        """Return the network at theta0, on the CPU, without preparation; `--freeze` is applied.

        Raises:
            PactlError: if it does not fit the inputs, or the start's weights or the pattern do not fit it.
        """
        network = build_network(
            self.configuration.model_name,
            classes=self.classes,
            inputs=self.spec,
            width=self.configuration.base_width,
            seed=self.configuration.seed,
        )
        if self.start is not None:
            self.start.place_into(network)
        freeze_matching(network, self.configuration.freeze)
        if self.keeps_statistics:
            freeze_statistics(network)
        return network

    def prepared(self, network: nn.Module) -> Prepared:
        """Return a network of this blueprint together with the preparation of its inputs."""
        return Prepared(
            network,
            self.statistics or FIXED_STATISTICS,
            code=self.configuration.model_name if self.is_code else "",
            every_number=self.has_calibrated_statistics,
        )

    def module(self) -> SubspaceModule:
        """Return theta0 + P w at w = 0, on the CPU: raw inputs in, logits out.

        Raises:
            PactlError: if the network does not fit the inputs, or the subspace does not fit the network.
        """
        configuration, network = self.configuration, self.network()
        few = configuration.calibration_examples < 2 and not self.keeps_statistics
        if few and batch_norms(network):
            raise PactlError(
                f"--calibration-examples {configuration.calibration_examples} is too few: {configuration.model_name} "
                "has BatchNorm",
                "give at least 2, and enough training examples: at most a tenth of them is taken",
            )
        rank, dim, seed = configuration.lora_rank, configuration.intrinsic_dim, configuration.seed
        if rank and not dim:
            raise PactlError(f"--lora-rank {rank} is for a subspace, and --intrinsic-dim is 0", "leave it out")
        projector = build_projector(configuration.intrinsic_mode, trained_layout(network, configuration), dim, seed)
        return SubspaceModule(self.prepared(network), projector, rank=rank, seed=seed)

    def network_to_evaluate(self, module: SubspaceModule) -> nn.Module:
        """Return the module's network, or a new one if it is the user's code, in which training may leave traces."""
        if not self.is_code:
            return module.network
        return self.prepared(self.network()).to(module.theta0.device)

    def prior_from(self, network: nn.Module) -> Start:
        """Return a prior; `seen` is its source's, as the prior's own examples are known by their indices.

        Args:
            network: a trained network of this blueprint, without preparation.
        """
        source = self.start
        start = self.start_from(
            network,
            seen=np.zeros(0, dtype=np.uint64) if source is None else source.seen,
            seen_is_complete=source is None or source.seen_is_complete,
            origin="" if source is None else source.origin,
            lineage=() if source is None else source.lineage,
        )
        return replace(start, configured=self.configured_by_prior())

    def configured_by_prior(self) -> dict[str, Any]:
        """Return the fields of the configuration that the training of a prior depends on."""
        return {name: getattr(self.configuration, name) for name in _OF_A_PRIOR}

    def start_from(
        self,
        network: nn.Module,
        *,
        seen: NDArray[np.uint64],
        seen_is_complete: bool,
        origin: str,
        lineage: tuple[Training, ...] = (),
    ) -> Start:
        """Return what another training can start from.

        Args:
            network: a network of this blueprint, without preparation.
            seen, seen_is_complete, origin, lineage: as in `Start`.
        """
        return Start(
            tensors={name: tensor.cpu() for name, tensor in network.state_dict().items()},
            seen=seen,
            model_name=self.configuration.model_name,
            base_width=self.configuration.base_width,
            classes=self.classes,
            head=self.start.head if self.start else head_names(network),
            spec=self.spec,
            statistics=self.statistics,
            seen_is_complete=seen_is_complete,
            origin=origin,
            lineage=lineage,
            calibrated=self.has_calibrated_statistics,
            encoding=self.encoding,
        )


def trained_layout(network: nn.Module, configuration: Configuration) -> Layout:
    """Return the layout of the parameters that a configuration trains, and freeze the others.

    Raises:
        PactlError: if there are none to train.
    """
    freeze_matching(network, configuration.freeze)
    if configuration.intrinsic_mode == catalogue.HEAD_ALONE and configuration.intrinsic_dim:
        freeze_all_but_head(network)
    return parameter_layout(network, configuration.lora_rank)
