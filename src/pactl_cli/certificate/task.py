"""What sender and receiver know before the message, and what weights that training starts from say of defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pactl_cli import catalogue
from pactl_cli.certificate.format import CALIBRATION

_FREE_INTEGERS = ("intrinsic_dim", "base_width", "calibration_examples", "image_size")
_FREE_DEFAULTS = (*_FREE_INTEGERS, "model_name", "normalisation")
"""The fields of a configuration for which the weights that training starts from can say more than the data set."""


def free_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that weights give a configuration, from a stranger's JSON.

    Raises:
        TypeError, ValueError: if a value is not of its field.
    """
    if others := sorted(values.keys() - set(_FREE_DEFAULTS)):
        raise ValueError(f"theta0 says nothing of {others[0]}")
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
    """What the code of a header knows of a network that the receiver brings."""

    name: str
    width: int | None = None
    batch_statistics: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Brought:
        """Return the network of which a stranger's JSON says these things, and no others.

        Raises:
            KeyError, TypeError: if it says something else.
        """
        name, width, batch_statistics = (values[key] for key in ("name", "width", "batch_statistics"))
        if len(values) > 3 or not isinstance(name, str) or not isinstance(batch_statistics, bool):
            raise TypeError("a network that is brought has a name, a width and batch statistics or none")
        return cls(name, None if width is None else int(width), batch_statistics)


@dataclass(frozen=True)
class Task:
    """What sender and receiver know before the message: the data set, never its examples' contents.

    Attributes:
        dataset: its name.
        train_examples: how many examples S and the calibration examples are together.
        channels: of an image.
        brought: the network that the receiver brings, if there is one that the catalogue lacks.
        inputs: the kind of an example, as in `models.inputs.InputSpec`.
        calibration_pool: how many examples calibration draws from; None for as many as `train_examples`.
        defaults: of fields for which the weights that training starts from say more than the data set. That of
            `calibration_examples` holds where d = 0 and nothing else needs such examples.
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
        """The fields by name: enough, as JSON, to read a message without the data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """The task that `as_dict` described, after a way through JSON.

        Raises:
            KeyError, TypeError, ValueError: if there is none.
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
        """The catalogue's, with the defaults for such inputs."""
        return catalogue.dataset_entry(self.dataset).for_inputs(self.inputs)

    def model(self, name: str) -> Brought | catalogue.Model:
        """What is known of a network by its name.

        Raises:
            KeyError: if neither the catalogue nor the receiver has it.
        """
        return self.brought if self.brought and self.brought.name == name else catalogue.MODELS[name]
