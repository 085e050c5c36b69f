"""The tables of everything that users name: data sets, networks, projectors and others, one row each.

Help, settings, messages and documentation read these rows. The tables need no torch: the function that `made_by` names
builds a thing when it is used. The order of networks, projectors, views and forms of codebooks is part of the message
format (`certificate/format.py`), because a message carries places in these tables.
"""

from __future__ import annotations

from typing import Any

from pactl_cli.catalogue.datasets import DATASETS as DATASETS
from pactl_cli.catalogue.datasets import IMAGENET_STATISTICS as IMAGENET_STATISTICS
from pactl_cli.catalogue.datasets import Dataset as Dataset
from pactl_cli.catalogue.datasets import Statistics as Statistics
from pactl_cli.catalogue.datasets import dataset_entry as dataset_entry
from pactl_cli.catalogue.datasets import dataset_in_words as dataset_in_words
from pactl_cli.catalogue.datasets import is_published as is_published
from pactl_cli.catalogue.datasets import joined as joined
from pactl_cli.catalogue.datasets import own_name as own_name
from pactl_cli.catalogue.datasets import require_named_data as require_named_data
from pactl_cli.catalogue.methods import BOUNDS as BOUNDS
from pactl_cli.catalogue.methods import CODEBOOKS as CODEBOOKS
from pactl_cli.catalogue.methods import COLOUR_VIEW as COLOUR_VIEW
from pactl_cli.catalogue.methods import HEAD_ALONE as HEAD_ALONE
from pactl_cli.catalogue.methods import HEADLINE as HEADLINE
from pactl_cli.catalogue.methods import NO_VIEW as NO_VIEW
from pactl_cli.catalogue.methods import PROJECTORS as PROJECTORS
from pactl_cli.catalogue.methods import RECIPES as RECIPES
from pactl_cli.catalogue.methods import RUN as RUN
from pactl_cli.catalogue.methods import SOURCES as SOURCES
from pactl_cli.catalogue.methods import VIEWS as VIEWS
from pactl_cli.catalogue.methods import Codebook as Codebook
from pactl_cli.catalogue.methods import View as View
from pactl_cli.catalogue.methods import code_of as code_of
from pactl_cli.catalogue.methods import source_reference as source_reference
from pactl_cli.catalogue.networks import MODEL_CHOICES as MODEL_CHOICES
from pactl_cli.catalogue.networks import MODELS as MODELS
from pactl_cli.catalogue.networks import OWN_MODELS as OWN_MODELS
from pactl_cli.catalogue.networks import TIMM as TIMM
from pactl_cli.catalogue.networks import Model as Model
from pactl_cli.catalogue.networks import is_brought as is_brought
from pactl_cli.catalogue.networks import model_entry as model_entry
from pactl_cli.catalogue.networks import model_name as model_name
from pactl_cli.catalogue.networks import require_named as require_named
from pactl_cli.catalogue.networks import standing_for as standing_for
from pactl_cli.catalogue.objects import NETWORK as NETWORK
from pactl_cli.catalogue.objects import handed_over as handed_over
from pactl_cli.catalogue.objects import handing_over as handing_over
from pactl_cli.catalogue.objects import is_handed as is_handed
from pactl_cli.catalogue.objects import name_of as name_of
from pactl_cli.catalogue.references import CODE as CODE
from pactl_cli.catalogue.tables import Row as Row
from pactl_cli.catalogue.tables import Table as Table
from pactl_cli.catalogue.tables import imported as imported

TABLES: tuple[Table[Any], ...] = (DATASETS, MODELS, PROJECTORS, RECIPES, VIEWS, CODEBOOKS, SOURCES, BOUNDS)
"""All tables."""
