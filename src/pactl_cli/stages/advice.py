"""Advice on a certificate that is no better than guessing or than a constant answer: why it is so, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.format import default_dim
from pactl_cli.certificate.percent import in_bits, percent
from pactl_cli.certificate.questions import ABSTAIN, COST, ERROR, GROUPS
from pactl_cli.certificate.risk_bounds import binomial_bound, log_binomial_tail
from pactl_cli.errors import on_one_line, shell_command
from pactl_cli.runs.directory import CONFIG
from pactl_cli.runs.fields import DATA
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import BoundSettings, PriorSettings, TrainSettings, TransferSettings

_SHORTEST_MESSAGE = 64
"""In bits: no shorter message of a classifier that has learned something is known."""
_FEWER, _MORE_EPOCHS, _MORE_DIMS = 4, 3, 4
"""Factors by which the next try has fewer coordinates, more epochs, more coordinates."""
_STEPS = 1000
"""Training steps to aim at: a small data set needs many epochs to reach them."""
_VOCABULARY_OF_BYTES = 257
"""The vocabulary of padded texts: 256 bytes, and padding."""
_ANEW = ("train_subset", "calibration_examples", "normalise", "categories")
"""Settings of a run that a prior on the same data does not take over."""

_Options = dict[str, Any]


@dataclass(frozen=True)
class Advice:
    """The reason why a certificate says nothing, and what to try next.

    Attributes:
        reason: the reason, in sentences with numbers.
        why: the next thing to try, in words.
        command: the command to try; "" if it would run code that only the run names.
    """

    reason: str
    why: str
    command: str

    def in_words(self) -> str:
        """Return the advice on one line."""
        return f"{self.reason} Next, {self.why}{': ' if self.command else ''}{self.command}"


def advice(
    certificate: Certificate, run: Path, settings: TrainSettings | None, named: Mapping[str, object] | None = None
) -> Advice | None:
    """Return advice on a certificate that says nothing; None if it says something.

    Args:
        run: the run directory.
        settings: the settings of its training, if known.
        named: the options with which `bound` finds the run's data and network.
    """
    if certificate.says_something:
        return None
    if settings is None:
        return Advice(reason(certificate), "see what the run was trained with", "")
    why, kind, changes = _next(certificate, settings)
    known: _Options = dict(named or {})
    asked = known | _question(certificate)
    if kind == "bound":
        command = shell_command("bound", run, **changes, **asked)
    else:
        certify = shell_command("bound", **asked).removeprefix("pactl bound")
        command = f"{_training(kind, changes, run, settings, known)} | pactl bound -{certify}"
    is_code = settings.model_name is not None and catalogue.is_brought(settings.model_name)
    fits = on_one_line(command) == command and (known.get("model_name") or not is_code)
    return Advice(reason(certificate), why, command if fits else "")


def _question(certificate: Certificate) -> _Options:
    """Return the options of `bound` that ask the same question again, without defaults and without the user's files."""
    whats = [each.what for each in certificate.guarantees if each.what not in (COST, GROUPS)]
    abstention = certificate.guarantee(ABSTAIN)
    deltas = (certificate.delta, *(each.delta for each in certificate.at_other_deltas))
    return {
        "delta": ",".join(map(repr, deltas)) if deltas != BoundSettings().deltas else None,
        "misc_extra_bits": certificate.extra_bits or None,
        "certify": ",".join(whats) or None,
        "headline": certificate.headline if certificate.headline != ERROR else None,
        "abstain_error": abstention.abstain_error if abstention else None,
    }


def reason(certificate: Certificate) -> str:
    """Return sentences, with numbers, that say why a certificate says nothing."""
    errors, examples = certificate.errors, certificate.bound_examples
    silent = binomial_bound(errors=errors, examples=examples, bits=0, delta=certificate.delta)
    cost = 100 * (certificate.error_bound - silent)
    chance, limit = certificate.chance_error, certificate.majority_error
    below = f"{percent(limit)}, the error of always answering the most frequent class"
    if chance is not None and certificate.error_bound >= chance:
        below = f"{percent(chance)}, that of guessing, nor below {below}"
    sentences = [
        f"This certificate says nothing: {percent(certificate.error_bound)} is not below {below}.",
        f"Its {in_bits(certificate.paid_bits)} cost {cost:.1f} points."
        if certificate.intrinsic_dim
        else "No message that was tried beats the empty one, which stands for the weights that training started from.",
        f"The training error is {percent(certificate.quantised_train_error)}; before quantising it was "
        f"{percent(certificate.train_error)}.",
    ]
    budget = free_bits(certificate, certificate.errors)
    if budget >= 2:
        sentences.append(f"With the same errors, a message of {int(budget):,} bits would be enough.")
    else:
        sentences.append(f"With the same errors and no bits at all, the bound would be {percent(silent)}.")
    return " ".join(sentences)


def free_bits(certificate: Certificate, errors: int) -> float:
    """Return how many bits leave the bound for some errors below the error of the most frequent class.

    It is negative if the bound is not below that error even with no bits.
    """
    limit, examples = certificate.majority_error, certificate.bound_examples
    if errors >= limit * examples or not limit:
        return -1.0
    tail = log_binomial_tail(errors=errors, examples=examples, p=limit)
    return (log(certificate.delta) - tail) / log(2)


def _next(certificate: Certificate, settings: TrainSettings) -> tuple[str, str, _Options]:
    """Return what to try next: in words, the command, and the options to change."""
    kind, told, dim = kind_of(settings), certificate.made_with, certificate.intrinsic_dim or settings.intrinsic_dim or 0
    is_automatic = str(told.get("rate_weight")).partition(":")[0] == "auto"
    if _is_of_bytes(certificate, settings):
        return "split the texts into words", kind.name, {"tokenizer": "words"}
    learned = free_bits(certificate, round(certificate.train_error * certificate.bound_examples))
    if free_bits(certificate, 0) < _SHORTEST_MESSAGE:
        return _another_prior(settings, "there are too few examples for a message")
    if dim and not told.get("quant_epochs"):
        default = BoundSettings.model_fields["quant_epochs"].default
        return "fine-tune through the quantiser", "bound", {"quant_epochs": default}
    if learned < _SHORTEST_MESSAGE or (is_automatic and dim and not certificate.bits.symbols):
        return _better_training(settings, certificate.bound_examples)
    if dim and not is_automatic:
        return "let bound choose the price of a bit", "bound", {}
    overhead = certificate.paid_bits - certificate.bits.symbols
    per_symbol = max(certificate.bits.symbols / max(dim, 1), 1.0)
    fewer = min(dim // _FEWER, int((learned - overhead) / (2 * per_symbol)))
    if fewer >= 1:
        return f"train fewer coordinates than {dim:,}", kind.name, {"intrinsic_dim": fewer}
    return _another_prior(settings, "no message is short enough")


def _is_of_bytes(certificate: Certificate, settings: TrainSettings) -> bool:
    """Return whether examples are the bytes of texts, and no source requires that."""
    inputs: Any = certificate.side_information.get("inputs")
    is_text = isinstance(inputs, dict) and inputs.get("vocabulary") == _VOCABULARY_OF_BYTES
    return is_text and settings.tokenizer == "bytes" and not settings.has_source


def _better_training(settings: TrainSettings, examples: int) -> tuple[str, str, _Options]:
    """Return what to try for a lower training error."""
    if isinstance(settings, PriorSettings):
        longer = _MORE_EPOCHS * (settings.prior_epochs or settings.epochs or 1)
        return "train the prior for longer, or name another network", "prior", {"prior_epochs": longer}
    enough = 10 * ceil(_STEPS * (settings.batch_size or 0) / examples / 10)
    changes: _Options = {"epochs": max(_MORE_EPOCHS * (settings.epochs_before + (settings.epochs or 1)), enough)}
    dim, more = settings.intrinsic_dim or 1, ""
    if dim < (usual := default_dim(examples)):
        changes, more = changes | {"intrinsic_dim": min(_MORE_DIMS * dim, usual)}, " with more coordinates"
    return f"train for longer{more}, or name another network", kind_of(settings).name, changes


def _another_prior(settings: TrainSettings, because: str) -> tuple[str, str, _Options]:
    """Return what to try so that training starts from better weights, and the message can be shorter."""
    if not isinstance(settings, PriorSettings):
        return f"{because}: train a prior on half of the data", "prior", {"train_subset": 0.5}
    share = round(0.5 + settings.train_subset / 2, 3) if 0 < settings.train_subset < 0.9 else 0.5
    return "give the prior another share of the data", "prior", {"train_subset": share}


def _training(kind: str, changes: _Options, run: Path, settings: TrainSettings, named: _Options) -> str:
    """Return a command that trains with a run's settings and some changes."""
    is_new = kind == "prior" and not isinstance(settings, PriorSettings)
    if is_new or settings.continued:  # what was chosen for all the data does not fit a prior
        known = {name: value for name, value in named.items() if value is not None}
        said = {name: value for name, value in _given(settings) if not (is_new and name in _ANEW)} | known | changes
        return shell_command(kind, *([said.pop("source")] if kind == "transfer" else []), **said)
    source = [settings.source] if isinstance(settings, TransferSettings) else []
    return shell_command(kind, *source, config=run / CONFIG, **(changes | {**named, **changes}))


def _given(settings: TrainSettings) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a run's data and network that are not the defaults."""
    usual = {"model_name": catalogue.dataset_entry(settings.dataset).model}
    for name, field in TrainSettings.model_fields.items():
        extra: Any = field.json_schema_extra
        is_kept = extra["panel"] == DATA or name in ("model_name", "source", "weights", "head")
        if is_kept and (value := getattr(settings, name)) not in (None, usual.get(name, field.default)):
            yield name, value
