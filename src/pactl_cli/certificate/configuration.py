"""The code of a configuration, which names the network, the subspace and the seed.

The code lists the fields that differ from the default configuration: that of the data set or, where a run starts from
theta0, that of theta0 as it came. For each such field it has the bit 0, the gap to the field in Elias gamma, and the
value in the field's own code. Where the defaults of theta0 and of the data set differ, one more bit before the value
says whether it is the data set's. The bit 1 ends the list. Whoever tries many values of a field and keeps the best pays
for the one kept only, since the bound holds for all values at once. Appending a field changes no older message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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
from pactl_cli.certificate.task import Brought, Task


@dataclass(frozen=True)
class Configuration:
    """The settings that rebuild P and theta0, in the order in which they are written.

    Attributes:
        intrinsic_dim, seed, calibration_examples: integers.
        model_name: the name of a network, of the catalogue or brought by the receiver.
        intrinsic_mode: the name of the projector.
        base_width: the width; None for a network that has none.
        label_noise: the rate at which labels are replaced by uniform ones, to four decimals.
        normalisation: mean and standard deviation per channel, to four decimals; `CALIBRATION` for those of the
            calibration examples; None for .5 and .5.
        image_size: the size that images are scaled to; None for their own.
        freeze: a regular expression of the names of weights that stay at theta0; "" for none.
        lora_rank: the rank of low-rank factors; 0 for none.
        view: the view of the data, where it changes what is counted.
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
        """Return the fields by name, in order."""
        return asdict(self)


@dataclass(frozen=True)
class _Given:
    """The task, and the default of the field that is written or read."""

    task: Task
    default: Any


_Writer = Callable[[BitWriter, Any, _Given], None]
_Reader = Callable[[BitReader, _Given], Any]


@dataclass(frozen=True)
class _Field:
    """The code of one field. Its default, and whether it exists, may depend on the fields before it."""

    default: Callable[[dict[str, Any], Task], Any]
    write: _Writer
    read: _Reader
    exists: Callable[[dict[str, Any], Task], bool] = lambda known, task: True


def _place(names: Callable[[Task], list[str]]) -> tuple[_Writer, _Reader]:
    """Return the code of a name: its place among the names other than the default, from 1, in Elias gamma."""

    def others(given: _Given) -> list[str]:
        return [name for name in names(given.task) if name != given.default]

    def read(reader: BitReader, given: _Given) -> str:
        place, order = read_gamma(reader), others(given)
        if place > len(order):
            raise DecodeError("the message names something that this version's catalogue lacks")
        return order[place - 1]

    return lambda writer, name, given: write_gamma(writer, others(given).index(name) + 1), read


def _model_names(task: Task) -> list[str]:
    """Return the networks in the order of their places; the receiver's own comes first, as the catalogue may grow."""
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
    """Append the seed's rank among the seeds other than the default, from 1."""
    write_delta(writer, seed + (seed < DEFAULT_SEED))


def _read_seed(reader: BitReader, _: _Given) -> int:
    rank = read_delta(reader)
    return rank - (rank <= DEFAULT_SEED)


def _write_normalisation(writer: BitWriter, statistics: Statistics | str, _: _Given) -> None:
    """Append 1 for the statistics of calibration examples; else 0, all means and all deviations to four decimals."""
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
    """Append the number of bytes in UTF-8 in Elias delta, then the bytes."""
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
    """Return the code of an integer: Elias delta of the integer plus `shift`."""
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
            of_prior=task.calibration_pool is not None,
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
    """Return the default of a field: that of theta0 as it came, if it has one, else that of the data set."""
    is_free = name in task.defaults
    if name == "calibration_examples" and (known["intrinsic_dim"] or known["normalisation"] == CALIBRATION):
        is_free = False
    return task.defaults[name] if is_free else _CODES[name].default(known, task)


def silent(configuration: Configuration, task: Task) -> Configuration:
    """Return the cheapest configuration of the same classifier at w = 0: d = 0, and P by default."""
    mode = _default("intrinsic_mode", {}, task)
    return replace(configuration, intrinsic_dim=0, intrinsic_mode=mode, freeze="", lora_rank=0)


def complete(given: dict[str, Any], task: Task) -> Configuration:
    """Return the configuration in which every field that is not given, or given as None, has its default."""
    known: dict[str, Any] = {}
    for name in FIELDS:
        value = given.get(name)
        known[name] = _default(name, known, task) if value is None else value
    return Configuration(**known)


def write_configuration(writer: BitWriter, configuration: Configuration, task: Task) -> None:
    """Append the configuration: one bit if every field has its default.

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
        usual, last = code.default(known, task), place
        if usual != default:
            writer.write(known[name] == usual, 1)
        if known[name] != usual:
            code.write(writer, known[name], _Given(task, default))
    writer.write(1, 1)


def read_configuration(reader: BitReader, task: Task) -> Configuration:
    """Return the configuration that was written for the same task.

    Raises:
        DecodeError: if the bits are not a configuration.
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
        usual = code.default(known, task)
        is_usual = usual != default and bool(reader.read(1))
        known[name] = usual if is_usual else code.read(reader, _Given(task, default))
        if known[name] == default:
            raise DecodeError(f"the message spells out the default of {name}")
    _fill(known, len(FIELDS), task)
    return Configuration(**known)


def _fill(known: dict[str, Any], end: int, task: Task) -> None:
    """Add the defaults of the fields before a place that are not known yet."""
    for name in FIELDS[len(known) : end]:
        known[name] = _default(name, known, task)
