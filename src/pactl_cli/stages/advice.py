"""What to say of a certificate that promises no less error than an answer that looks at nothing: why, and what next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.format import default_dim
from pactl_cli.certificate.percent import percent
from pactl_cli.certificate.risk_bounds import binomial_bound, log_binomial_tail
from pactl_cli.errors import on_one_line
from pactl_cli.runs.directory import CONFIG
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import DATA, BoundSettings, PriorSettings, TrainSettings, TransferSettings, option_name

SHORTEST_MESSAGE = 64
"""Bits: no classifier that has learned something was told in fewer."""
_FEWER, _MORE_EPOCHS, _MORE_DIMS = 4, 3, 4
"""Factors by which the next try has fewer coordinates, more epochs, more coordinates."""

_ANEW = ("train_subset", "calibration_examples", "normalise")
"""What a prior says anew of its data."""


@dataclass(frozen=True)
class Advice:
    """Why a certificate says nothing, in numbers, and what to try next.

    Attributes:
        reason: sentences.
        why: the next thing to try, in words.
        command: that does it; "" where the run names code, which nobody runs because a file says so.
    """

    reason: str
    why: str
    command: str

    def in_words(self) -> str:
        """Return all on one line."""
        return f"{self.reason} Next, {self.why}{': ' if self.command else ''}{self.command}"


def advice(
    certificate: Certificate, run: Path, settings: TrainSettings | None, named: Sequence[str] = ()
) -> Advice | None:
    """Return what to say of a certificate; None if it says something.

    Args:
        run: where it is.
        settings: with which the run was trained.
        named: the options with which `bound` finds the run's data and its network.
    """
    if certificate.says_something:
        return None
    if settings is None:
        return Advice(reason(certificate), "see what the run was trained with", "")
    why, words = _next(certificate, settings)
    asked = [*named, *_question(certificate)]
    if words[0] == "bound":
        command = shlex.join(["pactl", "bound", str(run), *words[1:], *asked])
    else:
        command = f"{_training(words, run, settings, named)} | {shlex.join(['pactl', 'bound', '-', *asked])}"
    is_code = settings.model_name is not None and catalogue.is_brought(settings.model_name)
    fits = on_one_line(command) == command and ("--model-name" in named or not is_code)
    return Advice(reason(certificate), why, command if fits else "")


def _question(certificate: Certificate) -> Iterator[str]:
    """Yield the options that ask for the same delta and ledger again, where they are not the defaults."""
    deltas = [certificate.delta, *(each.delta for each in certificate.at_other_deltas)]
    if tuple(deltas) != BoundSettings().deltas:
        yield from ("--delta", ",".join(map(repr, deltas)))
    if certificate.ledger_bits:
        yield from ("--misc-extra-bits", repr(certificate.ledger_bits))


def reason(certificate: Certificate) -> str:
    """Return in numbers why a certificate says nothing."""
    errors, examples = certificate.errors, certificate.bound_examples
    silent = binomial_bound(errors=errors, examples=examples, bits=0, delta=certificate.delta)
    cost = 100 * (certificate.error_bound - silent)
    chance, limit = certificate.chance_error, certificate.majority_error
    below = f"{percent(limit)}, the error of always answering the most frequent class"
    if chance is not None and certificate.error_bound >= chance:
        below = f"{percent(chance)}, that of guessing, nor below {below}"
    sentences = [
        f"This certificate says nothing: {percent(certificate.error_bound)} is not below {below}.",
        f"Its {certificate.paid_bits:,.6g} bits cost {cost:.1f} points.",
        f"The training error is {percent(certificate.quantised_train_error)}, before quantising "
        f"{percent(certificate.train_error)}.",
    ]
    budget = free_bits(certificate, certificate.errors)
    if budget >= 2:
        sentences.append(f"With as many errors, {int(budget):,} bits would do.")
    else:
        sentences.append(f"With as many errors and no bits at all it would be {percent(silent)}.")
    return " ".join(sentences)


def free_bits(certificate: Certificate, errors: int) -> float:
    """Return with how many bits a number of errors would be certified below those of the most frequent class; negative
    if even none are too many."""
    limit, examples = certificate.majority_error, certificate.bound_examples
    if errors >= limit * examples or not limit:
        return -1.0
    tail = log_binomial_tail(errors=errors, examples=examples, p=limit)
    return (log(certificate.delta) - tail) / log(2)


def _next(certificate: Certificate, settings: TrainSettings) -> tuple[str, list[str]]:
    """Return what to try next: in words, and the command with the options that are to change."""
    kind, told, dim = kind_of(settings), certificate.made_with, certificate.intrinsic_dim
    learned = free_bits(certificate, round(certificate.train_error * certificate.bound_examples))
    if free_bits(certificate, 0) < SHORTEST_MESSAGE:
        return _another_prior(certificate, settings, "there are too few examples for a message")
    if dim and not told.get("quant_epochs"):
        default = str(BoundSettings.model_fields["quant_epochs"].default)
        return "fine-tune through the quantiser", ["bound", "--quant-epochs", default]
    if learned < SHORTEST_MESSAGE:
        return _better_training(settings, certificate.bound_examples)
    if dim and told.get("rate_weight") != "auto":
        return "let the price of a bit be automatic", ["bound"]
    overhead = certificate.paid_bits - certificate.bits.symbols
    per_symbol = max(certificate.bits.symbols / max(dim, 1), 1.0)
    fewer = min(dim // _FEWER, int((learned - overhead) / (2 * per_symbol)))
    if fewer >= 1:
        return f"pay for fewer coordinates than {dim:,}", [kind.name, "--intrinsic-dim", str(fewer)]
    return _another_prior(certificate, settings, "no message is short enough")


def _better_training(settings: TrainSettings, examples: int) -> tuple[str, list[str]]:
    """Return how to lower the training error."""
    if isinstance(settings, PriorSettings):
        longer = _MORE_EPOCHS * (settings.prior_epochs or settings.epochs or 1)
        return "train the prior for longer, or name another network", ["prior", "--prior-epochs", str(longer)]
    changes, dim = ["--epochs", str(_MORE_EPOCHS * (settings.epochs or 1))], settings.intrinsic_dim or 1
    more = ""
    if dim < (usual := default_dim(examples)):
        larger = ["--intrinsic-dim", str(min(_MORE_DIMS * dim, usual))]
        changes, more = [*changes, *larger], " with more coordinates"
    return f"train for longer{more}, or name another network", [kind_of(settings).name, *changes]


def _another_prior(certificate: Certificate, settings: TrainSettings, because: str) -> tuple[str, list[str]]:
    """Return how to start from weights that know more, so that less has to be told."""
    if not isinstance(settings, PriorSettings):
        return f"{because}: train a prior on half of the data", ["prior", "--train-subset", "0.5"]
    if certificate.intrinsic_dim:
        return f"{because}: certify the prior itself", ["prior", "--intrinsic-dim", "0"]
    share = f"{0.5 + settings.train_subset / 2:.3g}" if 0 < settings.train_subset < 0.9 else "0.5"
    return "give the prior another share of the data", ["prior", "--train-subset", share]


def _training(words: list[str], run: Path, settings: TrainSettings, named: Sequence[str]) -> str:
    """Return a command that trains with a run's own settings but for some."""
    kind, *changes = words
    if kind == "prior" and not isinstance(settings, PriorSettings):  # what was chosen for all of the data does not fit
        own = [word for name in _given(settings, named) for word in (option_name(name), str(getattr(settings, name)))]
        return shlex.join(["pactl", kind, *own, *named, *changes])
    source = [settings.source] if isinstance(settings, TransferSettings) else []
    return shlex.join(["pactl", kind, *source, "--config", str(run / CONFIG), *changes, *named])


def _given(settings: TrainSettings, named: Sequence[str]) -> Iterator[str]:
    """Yield the settings that say which data and which network a run is about, where they are not the defaults."""
    usual = {"model_name": catalogue.dataset_entry(settings.dataset).model}
    for name, field in TrainSettings.model_fields.items():
        extra: Any = field.json_schema_extra
        is_kept = (extra["panel"] == DATA or name == "model_name") and name not in _ANEW
        is_usual = getattr(settings, name) in (None, usual.get(name, field.default))
        if is_kept and option_name(name) not in named and not is_usual:
            yield name
