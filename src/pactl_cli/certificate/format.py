"""The message format: its number, and everything that decoding depends on beside the code.

A message carries places in tables and what differs from defaults, so these are part of what a message means. Entries
may be appended at the end of a table. Any other change raises `FORMAT`: a golden file in the tests holds it.
"""

from __future__ import annotations

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics

FORMAT = 2
"""That of version 0.1.0 was 1."""

FIELDS = (
    *("intrinsic_dim", "seed", "model_name", "intrinsic_mode", "base_width", "normalisation", "calibration_examples"),
    *("label_noise", "image_size", "freeze", "lora_rank", "view", "hypothesis"),
)
"""A configuration's fields in their order: most often varied first, and none before what its default depends on."""

HYPOTHESES = ("subspace",)
"""The kinds of hypothesis."""

FROZEN_BOUNDS = ("binomial", "kl", "catoni", "mcallester")
"""The bounds that every certificate of this format has; it may have others after them."""

DEFAULT_SEED = 137
DEFAULT_CALIBRATION = 512
MAX_CALIBRATION_SHARE = 10
"""At most one example in ten is taken out of S for calibration."""
CALIBRATION_BATCH = 128
"""Largest batch in calibration: part of what a receiver repeats."""
EXAMPLES_PER_DIM = 10
"""How many training examples there are for each dimension, where no number is given."""
FIXED_STATISTICS: Statistics = ((0.5,), (0.5,))
"""The normalisation where the message names none."""
CALIBRATION = "calibration"
"""The normalisation by mean and standard deviation of the calibration examples."""
NUMERICAL_MARGIN = 1e-4
"""A true class that does not lead by this, relative to the largest logit, is an error."""

DIGITS = 10**4
"""Constants in a header are multiples of one over this, ..."""
DIGIT_BITS = 14
"""... in as many bits."""
MAX_FREEZE_BYTES = 200
MAX_LEVELS = 1 << 10
MAX_DIM = 1 << 26
MOST_GUARANTEES = 16
"""Guarantees that one certificate has beside the error: of bound.json, which no message depends on."""
MOST_DELTAS = 16
"""Probabilities to fail that one certificate names beside its own: of bound.json, which no message depends on."""

ROUND_DIMS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5),
    *(10, 15, 20, 25, 30, 40, 50, 60, 75, 80),
    *(mantissa * 10**power for power in (1, 2, 3, 4) for mantissa in (10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 75, 80)),
    1_000_000,
)
"""64 dimensions that a message names in six bits."""


def default_dim(train_examples: int) -> int:
    """Return the intrinsic dimension where none is given: one for every ten training examples, rounded down."""
    return max(dim for dim in ROUND_DIMS if dim <= max(1, train_examples // EXAMPLES_PER_DIM))


def most_calibration(examples: int, *, of_prior: bool) -> int:
    """Return how many of the examples can be for calibration: all of a prior's own, else a tenth, as S loses them."""
    return examples if of_prior else examples // MAX_CALIBRATION_SHARE


def default_calibration(examples: int, *, needed: bool, of_prior: bool = False) -> int:
    """Return how many calibration examples there are where no number is given: none where nothing needs them."""
    return min(DEFAULT_CALIBRATION, most_calibration(examples, of_prior=of_prior)) if needed else 0


def codebook_forms() -> list[str]:
    """Return the forms of codebooks, `module:class`, in the order of their tags."""
    return list(dict.fromkeys(row.form for row in catalogue.CODEBOOKS.values()))
