"""`pactl report`: facts about runs, read from their directories alone, without data, network or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.format import MAX_LEVELS
from pactl_cli.errors import PactlError
from pactl_cli.problem.display import Display
from pactl_cli.runs.directory import CONFIG, METRICS, RunDirectory
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.stages.advice import Advice, advice
from pactl_cli.stages.claims import Histogram, read_certificate, read_histogram, require_arithmetic

CERTIFIED, TRAINED, UNFINISHED = "certified", "trained", "unfinished"

_LARGEST_METRICS = 1 << 23
_LONGEST_LINE = 1 << 12

_CERTIFIED_FACTS = (
    *("hypothesis", "levels", "delta", "bound_examples", "errors", "error_bound", "train_error", "at_other_deltas"),
    *("majority_error", "made_with", "quantised_train_error", "test_error", "test_examples", "holdout_bound"),
    *("train_nll_bits", "message_bits", "ledger_bits", "bits", "bounds", "published", "posthoc", "headline"),
    *("guarantees", "statement", "assumptions"),
)
_NAMED_FACTS = ("model_name", "base_width", "intrinsic_mode", "intrinsic_dim", "seed")


class Attempt(BaseModel):
    """The message, among those that `bound` tried, that a line of metrics is about."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    codebook: Annotated[str, Field(max_length=40)]
    levels: Annotated[int, Field(ge=1, le=MAX_LEVELS)] | None
    price: float | Literal["auto"] | None

    def in_words(self) -> str:
        """Return the attempt in words."""
        many = f" of {self.levels} level{'s' * (self.levels > 1)}" if self.levels else ""
        price = "" if self.price is None else f", price {self.price}"
        return f"{self.codebook}{many}{price}"


class Epoch(BaseModel):
    """One line of metrics: the mean error over an epoch's batches and, in fine-tuning, the bits of the symbols."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    stage: Literal["prior", "train", "bound"]
    epoch: Annotated[int, Field(ge=1, le=10**9)]
    error: Annotated[float, Field(ge=0, le=1)]
    symbols_bits: Annotated[float, Field(ge=0, le=1e12)] | None = None
    attempt: Attempt | None = None


class Search(BaseModel):
    """One line of metrics: a search over a grid whose best point lies at the edge."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid")

    stage: Literal["bound"]
    search: Annotated[str, Field(max_length=40)]
    tried: list[float]
    best: float
    at_edge: Literal[True]


class Tried(BaseModel):
    """One line of metrics: a message that was tried, and whether it was certified."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="forbid")

    stage: Literal["bound"]
    attempt: Attempt
    bits: Annotated[int, Field(ge=0)]
    errors: Annotated[int, Field(ge=0)]
    error_bound: Annotated[float, Field(ge=0, le=1)]
    chosen: bool


_LINE: TypeAdapter[Epoch | Search | Tried] = TypeAdapter(Epoch | Search | Tried)


@dataclass(frozen=True)
class Report:
    """The facts about one run.

    Attributes:
        path: its directory, as the user named it.
        kind: the command that began it.
        state: certified, trained or unfinished.
        settings: the settings of training; None if it ended before they were written.
        certificate: None unless the run is certified.
    """

    path: Path
    kind: str
    state: str
    settings: TrainSettings | None
    certificate: Certificate | None

    @property
    def dataset(self) -> str | None:
        """The name of the data set; None if the run has no settings."""
        if self.certificate:
            return self.certificate.dataset
        return catalogue.own_name(self.settings.dataset) if self.settings else None

    def named(self, fact: str) -> Any:
        """Return a field of the configuration, or None."""
        if self.certificate:
            return self.certificate.configuration.get(fact)
        return self.settings and getattr(self.settings, fact)

    def advice(self) -> Advice | None:
        """Return advice on the certificate, if that says nothing."""
        return advice(self.certificate, self.path, self.settings) if self.certificate else None

    def facts(self) -> dict[str, Any]:
        """Return all facts as JSON, with null for those that are missing."""
        certified = self.certificate.model_dump(mode="json") if self.certificate else {}
        return {
            "run_dir": str(self.path),
            "kind": self.kind,
            "state": self.state,
            "dataset": self.dataset,
            **{fact: self.named(fact) for fact in _NAMED_FACTS},
            **{fact: certified.get(fact) for fact in _CERTIFIED_FACTS},
            "chance_error": self.certificate and self.certificate.chance_error,
            "advice": advised.in_words() if (advised := self.advice()) else None,
        }


@dataclass(frozen=True)
class Details:
    """The data of a run's figures.

    Attributes:
        epochs: the epochs in their order.
        unread_lines: the number of lines of metrics that could not be read.
        histogram: the histogram of the message's symbols, or None.
        reason: why there is no histogram.
    """

    epochs: tuple[Epoch, ...]
    unread_lines: int
    histogram: Histogram | None
    reason: str


def report(paths: list[Path], display: Display) -> list[Report]:
    """Return the facts about runs; warn about runs that cannot be read, and leave them out.

    Raises:
        PactlError: if no run can be read.
    """
    found: list[Report] = []
    failed: list[PactlError] = []
    for path in paths:
        try:
            found.append(_read(path))
        except PactlError as error:
            failed.append(error)
    if failed and not found:
        raise failed[0]
    for each in failed:
        display.warn(f"left out: {each.one_line()}")
    return found


def best_certified(reports: Sequence[Report]) -> Report | None:
    """Return the run with the lowest certified error; None if none is certified."""
    certified = [run for run in reports if run.certificate]
    return min(certified, key=lambda run: run.certificate.error_bound if run.certificate else 1.0, default=None)


def are_comparable(reports: Sequence[Report]) -> bool:
    """Return whether the user may choose among the certificates: they differ only in what their messages encode."""

    def population(certificate: Certificate) -> str:
        known = certificate.side_information
        brought = known["task"].get("brought") if isinstance(known.get("task"), dict) else None
        fixed = (*(known.get(name) for name in ("theta0_sha256", "tokenizer_sha256", "classes")), brought)
        guarantees = certificate.guarantees
        asked = certificate.headline, [(g.what, g.price_bits, g.groups_sha256, g.costs) for g in guarantees]
        return repr((certificate.dataset, certificate.delta, certificate.data_sha256, fixed, asked))

    return len({population(run.certificate) for run in reports if run.certificate}) <= 1


def _read(path: Path) -> Report:
    """Return the facts about one run, with a certificate that agrees with itself."""
    run = RunDirectory.open(path)
    certificate = None
    if run.manifest.stages.get("bound") == "complete":
        certificate = read_certificate(run)
        require_arithmetic(run, certificate)
    state = CERTIFIED if certificate else TRAINED if run.is_complete() else UNFINISHED
    has_settings = (path / CONFIG).is_symlink() or (path / CONFIG).exists()
    settings = run.read_settings() if has_settings else None
    return Report(path, run.manifest.kind, state, settings, certificate)


def read_details(report: Report) -> Details:
    """Return the data of a run's figures; what cannot be read is not drawn, and is no error."""
    run = RunDirectory.open(report.path)
    epochs, unread_lines = _read_metrics(run)
    if report.certificate is None:
        return Details(epochs, unread_lines, None, "it is not certified")
    try:
        return Details(epochs, unread_lines, read_histogram(run, report.certificate), "")
    except PactlError as error:
        return Details(epochs, unread_lines, None, error.message)


def _read_metrics(run: RunDirectory) -> tuple[tuple[Epoch, ...], int]:
    """Return the epochs of a run, and the number of unreadable lines of metrics (1 for an unreadable file)."""
    try:
        lines = run.read_bytes(METRICS, _LARGEST_METRICS).splitlines()
    except PactlError:
        return (), int((run.path / METRICS).exists())
    found: list[Epoch | Search | Tried] = []
    for line in lines:
        try:
            if len(line) <= _LONGEST_LINE:
                found.append(_LINE.validate_json(line))
        except ValidationError:
            continue
    return tuple(entry for entry in found if isinstance(entry, Epoch)), len(lines) - len(found)
