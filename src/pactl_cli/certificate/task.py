"""The task: all that sender and receiver know before the message, with the defaults that starting weights give."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pactl_cli import catalogue
from pactl_cli.certificate.format import CALIBRATION

_FREE_INTEGERS = ("intrinsic_dim", "base_width", "calibration_examples", "image_size")
_FREE_DEFAULTS = (*_FREE_INTEGERS, "model_name", "normalisation")
"""The fields of a configuration whose defaults can come from the weights that training starts from."""


def free_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that weights give to a configuration, from a stranger's JSON.

    Raises:
        TypeError, ValueError: if a name or a value is not valid.
    """
    if others := sorted(values.keys() - set(_FREE_DEFAULTS)):
        raise ValueError(f"theta0 gives no default for {others[0]}")
    found = {name: values[name] for name in _FREE_DEFAULTS if name in values}
    if not isinstance(found.get("model_name", ""), str):
        raise TypeError("a network's name is a string")
    for name in _FREE_INTEGERS:
        if found.get(name) is not None and type(found[name]) is not int:
            raise TypeError(f"{name} is an integer")
    if found.get("normalisation") not in (None, CALIBRATION):
        mean, std = (tuple(map(float, row)) for row in found["normalisation"])
        found["normalisation"] = mean, std
    return found


@dataclass(frozen=True)
class Brought:
    """A network that the receiver brings, as far as the code of a header depends on it."""

    name: str
    width: int | None = None
    batch_statistics: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Brought:
        """Return the network that a stranger's JSON describes.

        Raises:
            KeyError, TypeError, ValueError: if a value is missing, of another type or unknown.
        """
        name, width, batch_statistics = (values[key] for key in ("name", "width", "batch_statistics"))
        if len(values) > 3 or not isinstance(name, str) or not isinstance(batch_statistics, bool):
            raise TypeError("a brought network has name, width and batch_statistics, and nothing else")
        return cls(name, None if width is None else int(width), batch_statistics)


@dataclass(frozen=True)
class Task:
    """All that sender and receiver know before the message: facts about the data set, never the contents of examples.

    Attributes:
        dataset: the name of the data set.
        train_examples: the number of examples in S and for calibration together.
        channels: the number of channels of an image.
        brought: the network that the receiver brings; None where the catalogue has it.
        inputs: the kind of an example, as in `models.inputs.InputSpec`.
        calibration_pool: the number of examples that calibration draws from; None for `train_examples`.
        defaults: defaults that come from the weights that training starts from. That of `calibration_examples` applies
            where d = 0 and nothing else needs such examples.
        abstains: whether a message ends with the margin below which its classifier abstains.
    """

    dataset: str
    train_examples: int
    channels: int
    brought: Brought | None = None
    inputs: str = "image"
    calibration_pool: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)
    abstains: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name: as JSON, they are enough to read a message without the data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """Return the task that `as_dict` described, after a round trip through JSON.

        Raises:
            KeyError, TypeError, ValueError: if the values do not describe a task.
        """
        brought = values["brought"]
        return cls(
            dataset=str(values["dataset"]),
            train_examples=int(values["train_examples"]),
            channels=int(values["channels"]),
            brought=None if brought is None else Brought.from_dict(brought),
            inputs=str(values["inputs"]),
            calibration_pool=None if values["calibration_pool"] is None else int(values["calibration_pool"]),
            defaults=free_defaults(dict(values["defaults"])),
            abstains=bool(values["abstains"]),
        )

    @property
    def row(self) -> catalogue.Dataset:
        """The row of the data set in the catalogue, with the defaults for such inputs."""
        return catalogue.dataset_entry(self.dataset).for_inputs(self.inputs)

    def model(self, name: str) -> Brought | catalogue.Model:
        """Return the row of a network, or the brought network, by name.

        Raises:
            KeyError: if neither the catalogue nor the receiver has it.
        """
        return self.brought if self.brought and self.brought.name == name else catalogue.MODELS[name]
