"""The code of a configuration: what it costs to say which network, which subspace, which seed.

A list of what differs from the data set's default configuration: the bit 1 ends it; otherwise 0, the gap to the next
field that differs in Elias gamma, and its value in a code of its own. Whoever tries many values of a field and keeps
the best pays for exactly the one kept: the bound holds for all at once. A field appended changes no older message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.codes import (
    BitReader,
    BitWriter,
    DecodeError,
    read_delta,
    read_gamma,
    write_delta,
    write_gamma,
)
from pactl_cli.certificate.format import (
    CALIBRATION,
    DEFAULT_SEED,
    DIGIT_BITS,
    DIGITS,
    FIELDS,
    HYPOTHESES,
    MAX_FREEZE_BYTES,
    ROUND_DIMS,
    default_calibration,
    default_dim,
)

_FREE_DEFAULTS = ("model_name", "base_width", "normalisation", "image_size")
"""The fields of a configuration for which the weights that training starts from can say more than the data set."""


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
        defaults: of fields for which the weights that training starts from say more than the data set.
    """

    dataset: str
    train_examples: int
    channels: int
    brought: Brought | None = None

    inputs: str = "image"
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
        for name in ("base_width", "image_size"):
            if defaults.get(name) is not None:
                defaults[name] = int(defaults[name])
        if defaults.get("normalisation") not in (None, CALIBRATION):
            mean, std = (tuple(map(float, row)) for row in defaults["normalisation"])
            defaults["normalisation"] = mean, std
        return cls(
            dataset=str(values["dataset"]),
            train_examples=int(values["train_examples"]),
            channels=int(values["channels"]),
            brought=None if brought is None else Brought.from_dict(brought),
            inputs=str(values["inputs"]),
            calibration_pool=None if values["calibration_pool"] is None else int(values["calibration_pool"]),
            defaults={name: defaults[name] for name in _FREE_DEFAULTS if name in defaults},
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


@dataclass(frozen=True)
class Configuration:
    """All that rebuilds P and theta0, in the order in which it is written.

    Attributes:
        intrinsic_dim, seed, calibration_examples: integers.
        model_name: of the catalogue, or of the network that the receiver brings.
        intrinsic_mode: the projector, by its name.
        base_width: None for a network that has none.
        label_noise: the rate at which labels are replaced by uniform ones, four digits.
        normalisation: mean and standard deviation per channel, four digits each; `CALIBRATION` for those of the
            calibration examples; None for .5 and .5.
        image_size: to which images are scaled; None for their own.
        freeze: a regular expression of the names of weights that stay at theta0; "" for none.
        lora_rank: of low-rank factors; 0 for none.
        view: of the data, where it changes what is counted.
        hypothesis: the kind of hypothesis.
    """

    intrinsic_dim: int
    seed: int
    model_name: str
    intrinsic_mode: str
    base_width: int | None
    normalisation: Statistics | str | None
    calibration_examples: int
    label_noise: float
    image_size: int | None = None
    freeze: str = ""
    lora_rank: int = 0
    view: str = catalogue.NO_VIEW
    hypothesis: str = HYPOTHESES[0]

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in order."""
        return asdict(self)


@dataclass(frozen=True)
class _Given:
    """What is known when a field is written or read: the task, and the value that costs nothing."""

    task: Task
    default: Any


_Writer = Callable[[BitWriter, Any, _Given], None]
_Reader = Callable[[BitReader, _Given], Any]


@dataclass(frozen=True)
class _Field:
    """How one field is written; whether it has a meaning, and its default, may depend on the fields before it."""

    default: Callable[[dict[str, Any], Task], Any]
    write: _Writer
    read: _Reader
    exists: Callable[[dict[str, Any], Task], bool] = lambda known, task: True


def _place(names: Callable[[Task], list[str]]) -> tuple[_Writer, _Reader]:
    """The code of a name: its place among those other than the default, from 1, in Elias gamma."""

    def others(given: _Given) -> list[str]:
        return [name for name in names(given.task) if name != given.default]

    def read(reader: BitReader, given: _Given) -> str:
        place, order = read_gamma(reader), others(given)
        if place > len(order):
            raise DecodeError("the message names something that this version's catalogue lacks")
        return order[place - 1]

    return lambda writer, name, given: write_gamma(writer, others(given).index(name) + 1), read


def _model_names(task: Task) -> list[str]:
    """The networks in the order of their places. What the receiver brings comes first: the catalogue may grow."""
    return [*([task.brought.name] if task.brought else ()), *catalogue.MODELS]


def _write_dim(writer: BitWriter, dim: int, _: _Given) -> None:
    if dim in ROUND_DIMS:
        writer.write(ROUND_DIMS.index(dim), 7)
    else:
        writer.write(1, 1)
        write_delta(writer, dim + 1)


def _read_dim(reader: BitReader, _: _Given) -> int:
    return read_delta(reader) - 1 if reader.read(1) else ROUND_DIMS[reader.read(6)]


def _write_seed(writer: BitWriter, seed: int, _: _Given) -> None:
    """The seed's rank among those other than the default, from 1."""
    write_delta(writer, seed + (seed < DEFAULT_SEED))


def _read_seed(reader: BitReader, _: _Given) -> int:
    rank = read_delta(reader)
    return rank - (rank <= DEFAULT_SEED)


def _write_normalisation(writer: BitWriter, statistics: Statistics | str, _: _Given) -> None:
    """The bit 1 for those of calibration examples; else 0 and four decimal digits of every mean, then deviation."""
    writer.write(statistics == CALIBRATION, 1)
    for row in () if isinstance(statistics, str) else statistics:
        for value in row:
            writer.write(round(value * DIGITS), DIGIT_BITS)


def _read_normalisation(reader: BitReader, given: _Given) -> Statistics | str:
    if reader.read(1):
        return CALIBRATION
    mean, std = (tuple(reader.read(DIGIT_BITS) / DIGITS for _ in range(given.task.channels)) for _ in range(2))
    if min(std) <= 0:
        raise DecodeError("a standard deviation in the message is zero")
    return mean, std


def _write_rate(writer: BitWriter, rate: float, _: _Given) -> None:
    writer.write(round(rate * DIGITS), DIGIT_BITS)


def _read_rate(reader: BitReader, _: _Given) -> float:
    digits = reader.read(DIGIT_BITS)
    if digits > DIGITS:
        raise DecodeError("a rate in the message is above 1")
    return digits / DIGITS


def _write_text(writer: BitWriter, text: str, _: _Given) -> None:
    """The number of bytes in UTF-8 in Elias delta, then the bytes."""
    data = text.encode()
    if len(data) > MAX_FREEZE_BYTES:
        raise ValueError(f"{len(data)} bytes are more than {MAX_FREEZE_BYTES}")
    write_delta(writer, len(data))
    writer.write(int.from_bytes(data), 8 * len(data))


def _read_text(reader: BitReader, _: _Given) -> str:
    size = read_delta(reader)
    if size > MAX_FREEZE_BYTES:
        raise DecodeError(f"a text in the message has more than {MAX_FREEZE_BYTES} bytes")
    try:
        return reader.read(8 * size).to_bytes(size).decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a text in the message is not UTF-8") from error


def _delta(shift: int = 0) -> tuple[_Writer, _Reader]:
    """The code of an integer: Elias delta of the integer plus `shift`."""
    return lambda writer, number, _: write_delta(writer, number + shift), lambda reader, _: read_delta(reader) - shift


def _network(known: dict[str, Any], task: Task) -> Brought | catalogue.Model:
    return task.model(known["model_name"])


_CODES: dict[str, _Field] = {
    "intrinsic_dim": _Field(lambda _, task: default_dim(task.train_examples), _write_dim, _read_dim),
    "seed": _Field(lambda *_: DEFAULT_SEED, _write_seed, _read_seed),
    "model_name": _Field(lambda _, task: task.row.model, *_place(_model_names)),
    "intrinsic_mode": _Field(
        lambda *_: next(iter(catalogue.PROJECTORS)), *_place(lambda _: list(catalogue.PROJECTORS))
    ),
    "base_width": _Field(
        lambda known, task: _network(known, task).width,
        lambda writer, width, _: write_gamma(writer, width),
        lambda reader, _: read_gamma(reader),
        exists=lambda known, task: _network(known, task).width is not None,
    ),
    "normalisation": _Field(lambda _, task: task.row.normalisation, _write_normalisation, _read_normalisation),
    "calibration_examples": _Field(
        lambda known, task: default_calibration(
            task.train_examples if task.calibration_pool is None else task.calibration_pool,
            needed=_network(known, task).batch_statistics or known["normalisation"] == CALIBRATION,
        ),
        *_delta(1),
    ),
    "label_noise": _Field(lambda *_: 0.0, _write_rate, _read_rate),
    "image_size": _Field(lambda *_: None, *_delta()),
    "freeze": _Field(lambda *_: "", _write_text, _read_text),
    "lora_rank": _Field(lambda *_: 0, *_delta()),
    "view": _Field(lambda *_: catalogue.NO_VIEW, *_place(lambda _: list(catalogue.VIEWS))),
    "hypothesis": _Field(lambda *_: HYPOTHESES[0], *_place(lambda _: list(HYPOTHESES))),
}


def _default(name: str, known: dict[str, Any], task: Task) -> Any:
    """What a field has where nothing is said of it."""
    return task.defaults[name] if name in task.defaults else _CODES[name].default(known, task)


def complete(given: dict[str, Any], task: Task) -> Configuration:
    """The configuration in which every field not `given`, or given as None, has its default."""
    known: dict[str, Any] = {}
    for name in FIELDS:
        value = given.get(name)
        known[name] = _default(name, known, task) if value is None else value
    return Configuration(**known)


def write_configuration(writer: BitWriter, configuration: Configuration, task: Task) -> None:
    """Appends the configuration: one bit if it is the default throughout.

    Raises:
        ValueError, KeyError: if a value has no code.
    """
    known, last = configuration.as_dict(), -1
    for place, name in enumerate(FIELDS):
        default, code = _default(name, known, task), _CODES[name]
        if known[name] == default:
            continue
        if not code.exists(known, task):
            raise ValueError(f"{name} has no meaning for {known['model_name']}")
        writer.write(0, 1)
        write_gamma(writer, place - last)
        code.write(writer, known[name], _Given(task, default))
        last = place
    writer.write(1, 1)


def read_configuration(reader: BitReader, task: Task) -> Configuration:
    """The configuration that was written for the same task.

    Raises:
        DecodeError: if the bits are not one.
    """
    known: dict[str, Any] = {}
    while not reader.read(1):
        last = len(known) + read_gamma(reader) - 1
        if last >= len(FIELDS):
            raise DecodeError("the message names a setting that this version lacks")
        _fill(known, last, task)
        name = FIELDS[last]
        default, code = _default(name, known, task), _CODES[name]
        if not code.exists(known, task):
            raise DecodeError(f"the message gives {name} to {known['model_name']}, which has none")
        known[name] = code.read(reader, _Given(task, default))
        if known[name] == default:
            raise DecodeError(f"the message spells out the default of {name}")
    _fill(known, len(FIELDS), task)
    return Configuration(**known)


def _fill(known: dict[str, Any], end: int, task: Task) -> None:
    """Gives the fields before a place that are not known their defaults."""
    for name in FIELDS[len(known) : end]:
        known[name] = _default(name, known, task)
