"""The code of a configuration: what it costs to say which network, which subspace, which seed.

One bit says "the data set's default configuration". Otherwise one bit for each field says
"default", or the field is written in a universal code. Whoever tries many values of a
field and keeps the best pays for exactly the one kept: the bound holds for all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pactl_cli import catalogue
from pactl_cli.catalogue import Model, Statistics
from pactl_cli.certificate.codes import (
    BitReader,
    BitWriter,
    DecodeError,
    read_delta,
    read_gamma,
    write_delta,
    write_gamma,
)

_DIGITS = 10**4
_DIGIT_BITS = 14
_FREE_DEFAULTS = ("model_name", "base_width", "normalisation")
"""The fields of a configuration for which the weights that training starts from can say more than the data set."""


@dataclass(frozen=True)
class Task:
    """What sender and receiver know before the message: the data set, never its examples' contents.

    Attributes:
        dataset: its name.
        train_examples: how many examples S and the calibration examples are together.
        channels: of an image.
        brought: the network that the receiver brings, if there is one that the catalogue lacks.
        calibration_pool: how many examples calibration draws from; None for as many as `train_examples`.
        defaults: of fields for which the weights that training starts from say more than the data set.
    """

    dataset: str
    train_examples: int
    channels: int
    brought: Model | None = None

    calibration_pool: int | None = None
    defaults: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name: enough, as JSON, to read a message without the data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """The task that `as_dict` described, after a way through JSON.

        Raises:
            KeyError, TypeError, ValueError: if there is none.
        """
        brought, defaults = values["brought"], dict(values["defaults"])
        if not isinstance(defaults.get("model_name", ""), str):
            raise TypeError("a network's name is a string")
        if defaults.get("base_width") is not None:
            defaults["base_width"] = int(defaults["base_width"])
        if defaults.get("normalisation") is not None:
            mean, std = (tuple(map(float, row)) for row in defaults["normalisation"])
            defaults["normalisation"] = mean, std
        return cls(
            dataset=str(values["dataset"]),
            train_examples=int(values["train_examples"]),
            channels=int(values["channels"]),
            brought=None if brought is None else Model(**brought | {"aliases": (), "arguments": (), "made_by": ""}),
            calibration_pool=None if values["calibration_pool"] is None else int(values["calibration_pool"]),
            defaults={name: defaults[name] for name in _FREE_DEFAULTS if name in defaults},
        )

    def model(self, name: str) -> Model:
        """The entry of a network by its name.

        Raises:
            KeyError: if neither the catalogue nor the receiver has it.
        """
        return self.brought if self.brought and self.brought.name == name else catalogue.MODELS[name]


@dataclass(frozen=True)
class Configuration:
    """All that rebuilds P and theta0, in the order in which it is written.

    Attributes:
        model_name, intrinsic_mode: names of the catalogue, or of the network that the receiver brings.
        base_width: None for a network that has none.
        intrinsic_dim, seed, calibration_examples: integers.
        normalisation: mean and standard deviation per channel, four digits each, or None for .5 and .5.
        label_noise: the rate at which labels are replaced by uniform ones, four digits.
    """

    model_name: str
    base_width: int | None
    intrinsic_mode: str
    intrinsic_dim: int
    seed: int
    calibration_examples: int
    normalisation: Statistics | None
    label_noise: float

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in order."""
        return asdict(self)


@dataclass(frozen=True)
class _Field:
    """How one field is written; whether there is one, and its default, may depend on the fields before it."""

    default: Callable[[dict[str, Any], Task], Any]
    write: Callable[[BitWriter, Any, Task], None]
    read: Callable[[BitReader, Task], Any]
    exists: Callable[[dict[str, Any], Task], bool] = lambda known, task: True


def _place(
    names: Callable[[Task], list[str]],
) -> tuple[Callable[[BitWriter, str, Task], None], Callable[[BitReader, Task], str]]:
    """The code of a name: its place in a table, from 1, in Elias gamma."""

    def read(reader: BitReader, task: Task) -> str:
        place, order = read_gamma(reader), names(task)
        if place > len(order):
            raise DecodeError(
                "the message names something that this version's catalogue lacks, or a network that the receiver brings"
            )
        return order[place - 1]

    return lambda writer, name, task: write_gamma(writer, names(task).index(name) + 1), read


def _model_names(task: Task) -> list[str]:
    """The networks in the order of their places: what the receiver brings comes after the catalogue."""
    return [*catalogue.MODELS, *([task.brought.name] if task.brought else ())]


def _write_dim(writer: BitWriter, dim: int, _: Task) -> None:
    if dim in catalogue.ROUND_DIMS:
        writer.write(catalogue.ROUND_DIMS.index(dim), 7)
    else:
        writer.write(1, 1)
        write_delta(writer, dim + 1)


def _read_dim(reader: BitReader, _: Task) -> int:
    return read_delta(reader) - 1 if reader.read(1) else catalogue.ROUND_DIMS[reader.read(6)]


def _write_seed(writer: BitWriter, seed: int, _: Task) -> None:
    """The seed's rank, in an order that puts the default first."""
    rank = 1 if seed == catalogue.DEFAULT_SEED else seed + 2 - (seed > catalogue.DEFAULT_SEED)
    write_delta(writer, rank)


def _read_seed(reader: BitReader, _: Task) -> int:
    rank = read_delta(reader)
    return catalogue.DEFAULT_SEED if rank == 1 else rank - 2 + (rank - 2 >= catalogue.DEFAULT_SEED)


def _write_normalisation(writer: BitWriter, statistics: Statistics, _: Task) -> None:
    """Four decimal digits of every mean, then of every standard deviation."""
    for row in statistics:
        for value in row:
            writer.write(round(value * _DIGITS), _DIGIT_BITS)


def _read_normalisation(reader: BitReader, task: Task) -> Statistics:
    mean, std = (tuple(reader.read(_DIGIT_BITS) / _DIGITS for _ in range(task.channels)) for _ in range(2))
    if min(std) <= 0:
        raise DecodeError("a standard deviation in the message is zero")
    return mean, std


def _write_rate(writer: BitWriter, rate: float, _: Task) -> None:
    writer.write(round(rate * _DIGITS), _DIGIT_BITS)


def _read_rate(reader: BitReader, _: Task) -> float:
    digits = reader.read(_DIGIT_BITS)
    if digits > _DIGITS:
        raise DecodeError("a rate in the message is above 1")
    return digits / _DIGITS


_FIELDS: dict[str, _Field] = {
    "model_name": _Field(lambda _, task: catalogue.dataset_entry(task.dataset).model, *_place(_model_names)),
    "base_width": _Field(
        lambda known, task: task.model(known["model_name"]).width,
        lambda writer, width, _: write_gamma(writer, width),
        lambda reader, _: read_gamma(reader),
        exists=lambda known, task: task.model(known["model_name"]).width is not None,
    ),
    "intrinsic_mode": _Field(
        lambda *_: next(iter(catalogue.PROJECTORS)), *_place(lambda _: list(catalogue.PROJECTORS))
    ),
    "intrinsic_dim": _Field(lambda _, task: catalogue.default_dim(task.train_examples), _write_dim, _read_dim),
    "seed": _Field(lambda *_: catalogue.DEFAULT_SEED, _write_seed, _read_seed),
    "calibration_examples": _Field(
        lambda known, task: catalogue.default_calibration(
            task.model(known["model_name"]),
            task.train_examples if task.calibration_pool is None else task.calibration_pool,
        ),
        lambda writer, count, _: write_delta(writer, count + 1),
        lambda reader, _: read_delta(reader) - 1,
    ),
    "normalisation": _Field(lambda *_: None, _write_normalisation, _read_normalisation),
    "label_noise": _Field(lambda *_: 0.0, _write_rate, _read_rate),
}


def _default(name: str, known: dict[str, Any], task: Task) -> Any:
    """What a field has where nothing is said of it."""
    return task.defaults[name] if name in task.defaults else _FIELDS[name].default(known, task)


def complete(given: dict[str, Any], task: Task) -> Configuration:
    """The configuration in which every field not `given`, or given as None, has its default."""
    known: dict[str, Any] = {}
    for name in _FIELDS:
        value = given.get(name)
        known[name] = _default(name, known, task) if value is None else value
    return Configuration(**known)


def write_configuration(writer: BitWriter, configuration: Configuration, task: Task) -> None:
    """Appends the configuration: one bit if it is the default throughout.

    Raises:
        ValueError, KeyError: if a value has no code.
    """
    is_default = configuration == complete({}, task)
    writer.write(int(is_default), 1)
    if is_default:
        return
    known = configuration.as_dict()
    for name, code in _FIELDS.items():
        differs = known[name] != _default(name, known, task)
        if code.exists(known, task):
            writer.write(int(differs), 1)
            if differs:
                code.write(writer, known[name], task)
        elif differs:
            raise ValueError(f"{name} has no meaning for {known['model_name']}")


def read_configuration(reader: BitReader, task: Task) -> Configuration:
    """The configuration that was written for the same task.

    Raises:
        DecodeError: if the bits are not one.
    """
    if reader.read(1):
        return complete({}, task)
    known: dict[str, Any] = {}
    for name, code in _FIELDS.items():
        differs = code.exists(known, task) and reader.read(1)
        known[name] = code.read(reader, task) if differs else _default(name, known, task)
    return Configuration(**known)
