"""`classifier.safetensors`: what a certified classifier has taken from the data, so that it works without them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.format import NUMERICAL_MARGIN
from pactl_cli.data.tables.encoding import Encoding
from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import InputSpec
from pactl_cli.runs.checkpoint import load_tensors, plain_tensors
from pactl_cli.runs.directory import CERTIFICATE, CLASSIFIER, RunDirectory
from pactl_cli.runs.start import checked_statistics

_FACTS, _NETWORK, _INPUTS = "classifier", "network/", "inputs/"
_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LARGEST = 1 << 28
_EPSILON = 1e-5
"""What BatchNorm adds to a variance."""


@dataclass(frozen=True)
class Calibrated:
    """What a receiver needs besides the message, the task and theta0, and could compute from the data.

    Attributes:
        examples: the number of calibration examples.
        channels: the channels of images in their files, before they are made to fit a source.
        statistics: the normalisation of inputs, if it is that of the calibration examples.
        encoding: how the rows of a table are written as numbers.
        buffers: running means and variances by their names in the network; none if theta0 has them.
    """

    examples: int
    channels: int
    statistics: Statistics | None
    encoding: Encoding | None
    buffers: Mapping[str, Tensor]

    def to_bytes(self) -> bytes:
        """Return the content of the file; it is the same for equal values."""
        tensors = {_NETWORK + name: tensor for name, tensor in self.buffers.items()}
        for name, row in zip(("mean", "std"), self.statistics or (), strict=False):
            tensors[_INPUTS + name] = torch.tensor(row, dtype=torch.float64)
        encoding = self.encoding and self.encoding.as_dict()
        facts = {"examples": self.examples, "channels": self.channels, "encoding": encoding}
        return safetensors.torch.save(plain_tensors(tensors), {_FACTS: json.dumps(facts, sort_keys=True)})

    @classmethod
    def load(cls, run: RunDirectory, spec: InputSpec, sha256: str) -> Calibrated:
        """Load the file of a run directory, which may be a stranger's.

        Args:
            spec: the specification of an example.
            sha256: the sha256 of the file in the certificate.

        Raises:
            PactlError: if the file is missing, truncated or altered.
        """
        path = run.path / CLASSIFIER
        if run.sha256_of(CLASSIFIER) != sha256:
            raise PactlError(f"{path} is not the one that {CERTIFICATE} is about")
        tensors, metadata = load_tensors(path, _LARGEST)
        rows = [tensors.pop(_INPUTS + name) for name in ("mean", "std") if _INPUTS + name in tensors]
        try:
            facts = json.loads(metadata[_FACTS])
            if sorted(facts) != ["channels", "encoding", "examples"]:
                raise ValueError("it has other fields")
            if any(type(facts[name]) is not int or not 0 <= facts[name] < 1 << 31 for name in ("channels", "examples")):
                raise ValueError("its number of examples or channels is out of range")
            if any(not _is_of_network(name) or not _is_finite(tensor) for name, tensor in tensors.items()):
                raise ValueError("it holds something other than statistics")
            return cls(
                facts["examples"],
                facts["channels"],
                checked_statistics([row.tolist() for row in rows], spec) if rows else None,
                None if facts["encoding"] is None else Encoding.from_dict(facts["encoding"]),
                {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()},
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
            raise PactlError(f"{path} is altered: {error}") from error

    @torch.no_grad()
    def place_into(self, buffers: Mapping[str, Tensor]) -> str:
        """Copy the batch statistics into those of a network; return the name of one that does not fit, or ""."""
        needed = buffers.keys() if self.examples else set[str]()  # without examples they are theta0's
        if unpaired := needed ^ self.buffers.keys():
            return min(unpaired)
        for name, tensor in self.buffers.items():
            if buffers[name].shape != tensor.shape or buffers[name].dtype != tensor.dtype:
                return name
            buffers[name].copy_(tensor)
        return ""

    def difference(self, derived: Calibrated) -> str:
        """Return the name of a value that differs from what this machine derives from the data; "" if none does.

        Batch statistics may differ by a small share of each channel's deviation, as they do between machines.
        """
        for name in ("examples", "channels", "statistics", "encoding"):
            if getattr(self, name) != getattr(derived, name):
                return name
        if unpaired := self.buffers.keys() ^ derived.buffers.keys():
            return min(unpaired)
        return next((name for name in sorted(self.buffers) if not self._agrees(derived, name)), "")

    def _agrees(self, derived: Calibrated, name: str) -> bool:
        """Return whether one of the batch statistics agrees with the derived one, up to rounding."""
        layer, _, kind = name.rpartition(".")
        own, other = (each.buffers[name].cpu() for each in (self, derived))
        if own.shape != other.shape or own.dtype != other.dtype:
            return False
        variance = derived.buffers[f"{layer}.running_var"].cpu() + _EPSILON
        unit = variance if kind == "running_var" else variance.sqrt() + other.abs()
        return bool(((own - other).abs() <= NUMERICAL_MARGIN * unit).all())


def _is_of_network(name: str) -> bool:
    """Return whether a name is that of a tensor in the network, which is not empty: "" stands for no name."""
    return name.startswith(_NETWORK) and name != _NETWORK


def _is_finite(tensor: Tensor) -> Any:
    return tensor.dtype in _TYPES and tensor.isfinite().all()
