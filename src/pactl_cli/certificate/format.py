"""The message format: its number, and all constants and tables that decoding depends on.

A message carries places in tables, and values that differ from defaults, so a change of a table or of a default changes
what a message means. Entries may be appended at the end of a table; any other change needs a new `FORMAT`. A golden
file in the tests holds the format.
"""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics

FORMAT = 2
"""The number of this format; version 0.1.0 wrote format 1."""

FIELDS = (
    *("intrinsic_dim", "seed", "model_name", "intrinsic_mode", "base_width", "normalisation", "calibration_examples"),
    *("label_noise", "image_size", "freeze", "lora_rank", "view", "hypothesis"),
)
"""The fields of a configuration in order: those varied most often first, each after those its default depends on."""

HYPOTHESES = ("subspace",)
"""The kinds of hypothesis."""

FROZEN_BOUNDS = ("binomial", "kl", "catoni", "mcallester")
"""The bounds that every certificate of this format has; it may have others too."""

DEFAULT_SEED = 137
DEFAULT_CALIBRATION = 512
MAX_CALIBRATION_SHARE = 10
"""At most one example in ten is taken out of S for calibration."""
CALIBRATION_BATCH = 128
"""The largest batch in calibration; a receiver calibrates in the same batches."""
EXAMPLES_PER_DIM = 10
"""The number of training examples for each dimension of the default intrinsic dimension."""
FIXED_STATISTICS: Statistics = ((0.5,), (0.5,))
"""The normalisation where the message names none."""
CALIBRATION = "calibration"
"""The normalisation by mean and standard deviation of the calibration examples."""
NUMERICAL_MARGIN = 1e-4
"""The share of the largest logit by which the true class must lead, or else the example counts as an error."""

DIGITS, DIGIT_BITS = 10**4, 14
"""Rates and statistics in a header are multiples of 1 / DIGITS, each in DIGIT_BITS bits."""
MAX_FREEZE_BYTES = 200
MAX_LEVELS = 1 << 10
MAX_DIM = 1 << 26
MOST_GUARANTEES = 16
"""The most guarantees beside the error in one bound.json; no message depends on it."""
MOST_DELTAS = 16
"""The most deltas beside its own in one bound.json; no message depends on it."""

ROUND_DIMS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5),
    *(10, 15, 20, 25, 30, 40, 50, 60, 75, 80),
    *(mantissa * 10**power for power in (1, 2, 3, 4) for mantissa in (10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 75, 80)),
    1_000_000,
)
"""The 64 dimensions that a message names in six bits."""


def default_dim(train_examples: int) -> int:
    """Return the default intrinsic dimension: a tenth of the training examples, rounded down to a round dimension."""
    return max(dim for dim in ROUND_DIMS if dim <= max(1, train_examples // EXAMPLES_PER_DIM))


def most_calibration(examples: int, *, of_prior: bool) -> int:
    """Return the most calibration examples: all of a prior's own, else a tenth of the examples, as S loses them."""
    return examples if of_prior else examples // MAX_CALIBRATION_SHARE


def default_calibration(examples: int, *, needed: bool, of_prior: bool = False) -> int:
    """Return the default number of calibration examples: none if nothing needs them."""
    return min(DEFAULT_CALIBRATION, most_calibration(examples, of_prior=of_prior)) if needed else 0


def codebook_forms() -> list[str]:
    """Return the forms of codebooks, `module:class`, in the order of their tags."""
    return list(dict.fromkeys(row.form for row in catalogue.CODEBOOKS.values()))
