"""`init.safetensors`: the weights theta0 that a run starts from, if a seed alone does not give them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.task import free_defaults
from pactl_cli.data.tables.encoding import Encoding
from pactl_cli.errors import PactlError
from pactl_cli.models import sketch_network
from pactl_cli.models.inputs import FEATURES, InputSpec
from pactl_cli.runs.checkpoint import load_tensors, save_tensors
from pactl_cli.runs.directory import CONFIG, INIT, RESUME, RunDirectory
from pactl_cli.runs.settings import TrainSettings

SOURCE = f"{RESUME}/source.safetensors"
"""The weights that a prior's training starts from, kept until the prior is complete."""
_NETWORK, _SEEN = "network/", "seen"
_TYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)
_MOST_CLASSES = 100_000
_MOST_TRAININGS = 64
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class Training:
    """One of the trainings that led to theta0.

    Attributes:
        dataset: the name of its data set; "" if that is not known.
        permuted: whether the user's own permutation chose the examples.
        published: whether the network and its normalisation are a package's.
        noisy: whether labels were replaced at random.
    """

    dataset: str
    permuted: bool = False
    published: bool = False
    noisy: bool = False


@dataclass(frozen=True)
class Start:
    """theta0 and all that comes with it, fixed before S is looked at and so known to a receiver.

    Attributes:
        tensors: parameters and buffers by the network's own names. A new head is absent: it is drawn from the seed in
            the message.
        seen: fingerprints of the images that theta0 was trained on, ascending, shape (m,), uint64.
        model_name, base_width, classes: the network.
        head: the names of the head's parameters.
        spec: the specification of the inputs that it was trained on.
        statistics: the normalisation of its inputs; None for .5 and .5.
        seen_is_complete: whether `seen` has all of these images.
        origin: where it came from, in the words of whoever made it.
        lineage: the trainings that led to it, the last one first, without a prior's own, which its settings describe.
        calibrated: whether the normalisation is that of calibration examples, and so for all numbers, not only bytes.
        encoding: how the rows of the table that it was trained on are written as numbers; None for other data.
        configured: the fields of the configuration that a prior's training used; empty for a source.
        takes_any: whether the inputs that it was trained on are unknown: at most the channels of `spec` are right.
    """

    tensors: dict[str, Tensor]
    seen: NDArray[np.uint64]
    model_name: str
    base_width: int | None
    classes: int
    head: tuple[str, ...]
    spec: InputSpec
    statistics: Statistics | None
    seen_is_complete: bool
    origin: str
    lineage: tuple[Training, ...] = ()
    calibrated: bool = False
    encoding: Encoding | None = None
    configured: dict[str, Any] = field(default_factory=dict)
    takes_any: bool = False

    def defaults(self) -> dict[str, Any]:
        """Return the fields of a configuration that keep theta0 as it is: d = 0, and a source's batch statistics."""
        network = {"intrinsic_dim": 0, "model_name": self.model_name, "base_width": self.base_width}
        as_it_came = {"normalisation": self.statistics, "calibration_examples": 0}
        return network | (self.configured or as_it_came)

    def for_classes(self, classes: int) -> Start:
        """Return the start for a number of classes: without its head if it has another number."""
        if classes == self.classes:
            return self
        kept = {name: tensor for name, tensor in self.tensors.items() if name not in self.head}
        return replace(self, tensors=kept, classes=classes)

    def fits(self, inputs: InputSpec) -> bool:
        """Return whether the same network for other inputs has weights of the same names and shapes."""
        try:
            network = sketch_network(self.model_name, classes=self.classes, inputs=inputs, width=self.base_width)
        except PactlError:
            return False
        return not self._misfits(network)

    def _misfits(self, network: nn.Module) -> list[str]:
        """Return the names of tensors that have another shape or type in a network, or are in only one of the two."""
        there = network.state_dict()
        wrong = [
            name
            for name, tensor in self.tensors.items()
            if name not in there or (there[name].shape, there[name].dtype) != (tensor.shape, tensor.dtype)
        ]
        return wrong + sorted(there.keys() - self.tensors.keys() - set(self.head))

    def place_into(self, network: nn.Module) -> None:
        """Copy the weights and buffers into a network.

        Raises:
            PactlError: if they do not fit, or are not finite.
        """
        wrong = self._misfits(network)
        wrong += [name for name, t in self.tensors.items() if t.is_floating_point() and not t.isfinite().all()]
        if wrong:
            raise PactlError(f"the weights of {self.origin or 'the prior'} do not fit {self.model_name}: {wrong[0]}")
        network.load_state_dict(self.tensors, strict=False)

    def sha256(self) -> str:
        """Return a fingerprint of everything but the origin."""
        digest = sha256(json.dumps(self._facts() | {"origin": None}, sort_keys=True).encode())
        for name, tensor in sorted((self.tensors | {_SEEN: torch.from_numpy(self.seen.view(np.int64))}).items()):
            values = tensor.detach().cpu().contiguous().numpy()
            digest.update(f"{name}{values.dtype.newbyteorder('<').str}{values.shape}".encode())
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def save(self, run: RunDirectory, name: str = INIT) -> None:
        """Write the start into a run directory."""
        tensors = {_NETWORK + name: tensor for name, tensor in self.tensors.items()}
        tensors[_SEEN] = torch.from_numpy(self.seen.view(np.int64))
        save_tensors(run, name, tensors, {"start": json.dumps(self._facts(), sort_keys=True)})

    def _facts(self) -> dict[str, Any]:
        facts = {each.name: getattr(self, each.name) for each in fields(self)[2:]}
        facts["encoding"] = self.encoding and self.encoding.as_dict()
        return facts | {"spec": self.spec.as_dict(), "lineage": [asdict(training) for training in self.lineage]}

    @classmethod
    def load(cls, run: RunDirectory, settings: TrainSettings, name: str = INIT) -> Start:
        """Load the start of a run directory.

        Args:
            run: the run directory, which may be a stranger's.
            settings: the run's settings: no other network than theirs is built, and no other code loaded.
            name: the file's name.

        Raises:
            PactlError: if it is missing, truncated or altered.
        """
        tensors, metadata = load_tensors(run.path / name)
        try:
            seen = tensors.pop(_SEEN).numpy()
            if seen.dtype != np.int64 or seen.ndim != 1:
                raise ValueError("its fingerprints have the wrong type")
            if any(tensor.dtype not in _TYPES for tensor in tensors.values()):
                raise ValueError("its weights have a type that no network has")
            facts = json.loads(metadata["start"])
            if (facts["model_name"], facts["base_width"]) != (settings.model_name, settings.base_width):
                raise ValueError(f"its network is not that of {CONFIG}")
            named = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()}
            return cls(tensors=named, seen=seen.view(np.uint64), **_checked(facts))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
            raise PactlError(f"{run.path / name} is altered: {error}") from error


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a start, from a file that may be a stranger's.

    Raises:
        KeyError, TypeError, ValueError, OverflowError, AttributeError: if they are no such facts.
    """
    if type(facts["classes"]) is not int or not 2 <= facts["classes"] <= _MOST_CLASSES:
        raise ValueError("its number of classes is out of range")
    spec = InputSpec.from_dict(facts["spec"])
    if len(facts["lineage"]) > _MOST_TRAININGS:
        raise ValueError("it has too many ancestors")
    configured = free_defaults(dict(facts["configured"]))
    if configured and "normalisation" not in configured:
        raise ValueError("its configuration has no normalisation")
    return facts | {
        "origin": _name(facts["origin"], "origin"),
        "spec": spec,
        "head": tuple(map(str, facts["head"])),
        "seen_is_complete": bool(facts["seen_is_complete"]),
        "statistics": None if facts["statistics"] is None else checked_statistics(facts["statistics"], spec),
        "lineage": tuple(_training(**row) for row in facts["lineage"]),
        "calibrated": bool(facts["calibrated"]),
        "takes_any": bool(facts["takes_any"]),
        "encoding": None if facts["encoding"] is None else Encoding.from_dict(facts["encoding"]),
        "configured": configured,
    }


def _name(text: object, what: str) -> str:
    """Return the name of a run or a data set; raise ValueError if it is no name."""
    if not isinstance(text, str) or not text.isprintable() or len(text) > _LONGEST_NAME:
        raise ValueError(f"its {what} is no name")
    return text


def checked_statistics(rows: Any, spec: InputSpec) -> Statistics:
    """Return a normalisation that may be a stranger's.

    Raises:
        TypeError, ValueError, OverflowError: if it is none.
    """
    mean, std = (tuple(map(float, row)) for row in rows)
    sizes = {spec.channels, spec.values if spec.kind == FEATURES else spec.channels}
    if not np.isfinite([*mean, *std]).all() or min(std) <= 0 or len(mean) != len(std) or len(mean) not in sizes:
        raise ValueError("its normalisation is not a mean and a positive deviation for each channel or feature")
    return mean, std


def _training(dataset: object, permuted: object, published: object, noisy: object) -> Training:
    """Return one of the trainings; raise ValueError if it is none."""
    return Training(_name(dataset, "data set"), bool(permuted), bool(published), bool(noisy))
