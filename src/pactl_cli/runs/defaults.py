"""Defaults of settings, as far as they are known before data, source and network are read."""

from __future__ import annotations

from typing import Any

import yaml

from pactl_cli import catalogue
from pactl_cli.certificate.format import CALIBRATION, default_calibration, default_dim
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import TrainSettings


def with_plain_defaults(settings: TrainSettings, inputs: str | None) -> dict[str, Any]:
    """Return settings with the defaults that follow from the data set's name or from another setting.

    Args:
        settings: the settings.
        inputs: the kind of an example; None if it is not known: what depends on it then stays open.
    """
    entry, chosen = catalogue.dataset_entry(settings.dataset), dict(settings)
    chosen["normalise"] = chosen["normalise"] or ("source" if settings.has_source else None)
    if inputs is not None or not entry.takes_path:
        entry = entry.for_inputs(inputs or "")
        chosen["normalise"] = chosen["normalise"] or entry.normalisation or "fixed"
        chosen |= {name: getattr(entry, name) for name in ("epochs", "batch_size", "lr") if chosen[name] is None}
    return chosen | {name: chosen[other] for name, other in settings.followed().items() if chosen[name] is None}


def with_known_defaults(settings: TrainSettings) -> TrainSettings:
    """Return settings with all defaults that are known without reading anything."""
    entry, kind = catalogue.dataset_entry(settings.dataset), kind_of(settings)
    chosen = with_plain_defaults(settings, None)
    known: dict[str, Any] = {}
    if not entry.takes_path:
        colour = entry.published is not None and len(entry.published[0]) == 3  # one constant for each channel
        known["augment"] = entry.view or (catalogue.COLOUR_VIEW if colour else catalogue.NO_VIEW)
    if not settings.has_source:
        name = chosen["model_name"] or (None if entry.takes_path else entry.model)
        known["model_name"] = name
        model = catalogue.MODELS.get(catalogue.model_name(name)) if name else None
        known["base_width"] = model and model.width
        normalised = CALIBRATION in (entry.normalisation, chosen["normalise"])
        needs = None if model is None else model.batch_statistics or normalised
        if needs is False:
            known["calibration_examples"] = 0
        if entry.train_examples:
            first = round(abs(settings.train_subset) * entry.train_examples)
            share = first if settings.train_subset > 0 else entry.train_examples - first
            if needs:
                known["calibration_examples"] = default_calibration(share, needed=True, of_prior=kind.has_prior)
            if not kind.has_prior and settings.duplicates != "drop":
                known["intrinsic_dim"] = default_dim(share)
    return settings.model_copy(update=chosen | {name: v for name, v in known.items() if chosen[name] is None})


def in_words(settings: TrainSettings) -> str:
    """Return settings as YAML, with known defaults as values and the others as null and a comment."""
    known, fields = with_known_defaults(settings), type(settings).model_fields
    lines = []
    for name, value in known.as_dict().items():
        extra: Any = fields[name].json_schema_extra or {}
        words = "the source's" if settings.has_source and name == "model_name" else extra.get("shown")
        comment = f"  # {words}" if value is None and words else ""
        lines.append(yaml.safe_dump({name: value}, sort_keys=False).rstrip("\n") + comment)
    return "\n".join(lines) + "\n"
