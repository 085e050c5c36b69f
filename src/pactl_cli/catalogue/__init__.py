"""Everything that has a name, one row each: what help, settings, messages and documentation know of it.

No torch: the things themselves are built where `made_by` says, when they are used. The order of networks, projectors,
views and forms of codebooks is part of the message format (`certificate/format.py`): a message carries a place in them.
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
    "HEADLINE",
    "IMAGENET_STATISTICS",
    "MODELS",
    "MODEL_CHOICES",
    "NO_VIEW",
    "OWN_MODELS",
    "PROJECTORS",
    "RECIPES",
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
