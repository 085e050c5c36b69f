"""Everything that has a name, one row each: what help, settings, messages and documentation know of it.

No torch: the things themselves are built where `made_by` says, when they are used. The order of networks, projectors,
views and forms of codebooks is part of the message format: a place in these tables is what a message carries.
"""

from __future__ import annotations

from typing import Any

from pactl_cli.catalogue.datasets import (
    DATASETS,
    IMAGENET_STATISTICS,
    Dataset,
    Statistics,
    dataset_entry,
    dataset_in_words,
    is_published,
)
from pactl_cli.catalogue.methods import (
    BOUNDS,
    CODEBOOKS,
    HEADLINE,
    NO_VIEW,
    PROJECTORS,
    RECIPES,
    RUN,
    SOURCES,
    VIEWS,
    Codebook,
    View,
    source_reference,
)
from pactl_cli.catalogue.networks import (
    MODEL_CHOICES,
    MODELS,
    OWN_MODELS,
    Model,
    is_brought,
    model_name,
)
from pactl_cli.catalogue.references import (
    CODE,
    Reference,
    is_code,
    parse_reference,
)
from pactl_cli.catalogue.tables import (
    Row,
    Table,
    imported,
)

__all__ = [
    "BOUNDS",
    "CODE",
    "CODEBOOKS",
    "DATASETS",
    "DEFAULT_CALIBRATION",
    "DEFAULT_SEED",
    "HEADLINE",
    "IMAGENET_STATISTICS",
    "MAX_CALIBRATION_SHARE",
    "MODELS",
    "MODEL_CHOICES",
    "NO_VIEW",
    "OWN_MODELS",
    "PROJECTORS",
    "RECIPES",
    "ROUND_DIMS",
    "RUN",
    "SOURCES",
    "TABLES",
    "VIEWS",
    "Codebook",
    "Dataset",
    "Model",
    "Reference",
    "Row",
    "Statistics",
    "Table",
    "View",
    "dataset_entry",
    "dataset_in_words",
    "default_calibration",
    "default_dim",
    "imported",
    "is_brought",
    "is_code",
    "is_published",
    "model_name",
    "parse_reference",
    "source_reference",
]

TABLES: tuple[Table[Any], ...] = (DATASETS, MODELS, PROJECTORS, RECIPES, VIEWS, CODEBOOKS, SOURCES, BOUNDS)
"""All of them."""

DEFAULT_SEED = 137
DEFAULT_CALIBRATION = 512
MAX_CALIBRATION_SHARE = 10
"""At most one example in ten is taken for calibration."""


def default_dim(train_examples: int) -> int:
    """The intrinsic dimension where none is given: one for every ten training examples, rounded down."""
    return max(dim for dim in ROUND_DIMS if dim <= max(1, train_examples // 10))


ROUND_DIMS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5),
    *(10, 15, 20, 25, 30, 40, 50, 60, 75, 80),
    *(mantissa * 10**power for power in (1, 2, 3, 4) for mantissa in (10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 75, 80)),
    1_000_000,
)
"""64 dimensions that a message names in six bits."""


def default_calibration(model: Model, train_examples: int) -> int:
    """Calibration examples where no number is given: none for a network without batch statistics."""
    if not model.batch_statistics:
        return 0
    return min(DEFAULT_CALIBRATION, train_examples // MAX_CALIBRATION_SHARE)
