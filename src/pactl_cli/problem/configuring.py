"""From settings and data to the configuration in a message, and to settings without any default left open."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from pactl_cli import catalogue
from pactl_cli.catalogue import Statistics
from pactl_cli.certificate.configuration import Configuration, complete
from pactl_cli.certificate.format import CALIBRATION, default_dim
from pactl_cli.certificate.task import Brought, Task
from pactl_cli.data.dataset import Dataset
from pactl_cli.data.files.tokenizing import BUILT_IN
from pactl_cli.data.reading import Reading
from pactl_cli.data.splits import Partition
from pactl_cli.errors import PactlError, names_in_words, option_name
from pactl_cli.models import sketch_network
from pactl_cli.models.brought import describe
from pactl_cli.models.normalisation import batch_norms
from pactl_cli.problem.fitting import size_for
from pactl_cli.runs.config_file import config_text
from pactl_cli.runs.defaults import with_plain_defaults
from pactl_cli.runs.kinds import kind_of
from pactl_cli.runs.settings import TrainSettings
from pactl_cli.runs.start import Start


def reading_of(settings: TrainSettings, tokenizer: str | None = None) -> Reading:
    """Return how the user's own data are read, with another tokenizer's file if one is given."""
    said = {field.name: getattr(settings, field.name) for field in fields(Reading)}
    return Reading(**said | ({"tokenizer": tokenizer} if tokenizer else {}))


def task_of(settings: TrainSettings, dataset: Dataset, pool: Partition, start: Start | None) -> Task:
    """Return what sender and receiver know before the message."""
    return Task(
        catalogue.own_name(settings.dataset).encode(errors="replace").decode(),  # a path may be no UTF-8
        len(pool.bound),
        dataset.spec.channels,
        _brought(settings.model_name, dataset, start),
        inputs=dataset.kind,
        calibration_pool=len(pool.prior) if len(pool.prior) else None,
        defaults=_defaults(start, dataset, settings) if start else {},
    )


def _brought(named: str | None, dataset: Dataset, source: Start | None) -> Brought | None:
    """Return what a header's code has to know of a network outside the catalogue; None for one of the catalogue."""
    if source:
        catalogue.require_named(source.model_name, named, "the source")
    name = source.model_name if source else named
    if name and name.startswith(f"{catalogue.TIMM}:"):
        width = None if source is None else source.base_width
        sketch = sketch_network(name, classes=dataset.classes, inputs=dataset.spec, width=width)
        return Brought(name, batch_statistics=bool(batch_norms(sketch)))
    if not name or not catalogue.is_brought(name):
        return None
    return describe(name, classes=dataset.classes, channels=dataset.spec.channels)


def _defaults(source: Start, data: Dataset, settings: TrainSettings) -> dict[str, Any]:
    """Return what a message need not say because the source says it.

    Published constants are statistics of some training set, perhaps of this one under another name. So they are free
    only if a package's network has them and this data set has others; otherwise the message pays for them.
    """
    defaults = {"image_size": size_for(data, source)} | source.defaults()
    if kind_of(settings).has_prior:
        defaults.pop("calibration_examples", None)  # a prior does not keep its source's batch statistics
    statistics, own = defaults["normalisation"], catalogue.dataset_entry(settings.dataset).published
    is_of_package = len(source.lineage) == 1 and source.lineage[0].published  # a later training may choose others
    if catalogue.is_published(statistics) and (statistics == own or not is_of_package):
        defaults["normalisation"] = None
    return defaults


def configuration_of(settings: TrainSettings, task: Task, source: Start | None) -> Configuration:
    """Return the configuration that a message carries: the settings, and defaults for the rest."""
    normalisation: Statistics | str | None = None
    chosen = settings.normalise or ("source" if settings.has_source else None)
    own = task.row.normalisation
    if chosen == "published":
        normalisation = catalogue.dataset_entry(settings.dataset).published
        if normalisation is None:
            raise PactlError(
                f"--normalise published: there are no published constants for {settings.dataset}",
                "use --normalise fixed",
            )
        if len(normalisation[0]) != task.channels:
            raise PactlError(f"--normalise published: the constants are not for {task.channels} channels")
    elif chosen == "source" and source is not None:
        normalisation = source.statistics
    elif chosen == CALIBRATION:
        normalisation = CALIBRATION
    elif chosen == "fixed" and task.defaults.get("normalisation", own) is not None:
        normalisation = ((0.5,) * task.channels, (0.5,) * task.channels)
    given = settings.model_dump(include=set(Configuration.__dataclass_fields__) - {"normalisation"})
    if given["intrinsic_dim"] is None:
        given["intrinsic_dim"] = default_dim(task.train_examples)
    if given["model_name"]:
        given["model_name"] = catalogue.model_name(given["model_name"])
    for name in ("model_name", "base_width"):
        if source is not None and given[name] not in (None, getattr(source, name)):
            raise PactlError(
                f"{option_name(name)} {given[name]}: the weights of {source.origin} are of {getattr(source, name)}",
                "leave it out",
            )
    configuration = complete(given | {"normalisation": normalisation}, task)
    if configuration.base_width is not None and task.model(configuration.model_name).width is None:
        raise PactlError(
            f"--base-width {configuration.base_width}: {configuration.model_name} has no base width", "leave it out"
        )
    return configuration


def view_of(settings: TrainSettings, dataset: Dataset) -> str:
    """Return the random view of training examples: as asked, else the data set's own, else one for colour images.

    Raises:
        PactlError: if there is a view and the data are not images of bytes.
    """
    spec, own = dataset.spec, catalogue.dataset_entry(settings.dataset).view
    is_colour = spec.is_image_of_bytes and spec.channels == 3
    chosen = settings.augment or own or (catalogue.COLOUR_VIEW if is_colour else catalogue.NO_VIEW)
    if chosen != catalogue.NO_VIEW and not spec.is_image_of_bytes:
        raise PactlError(
            f"--augment {chosen} needs images of type uint8, which the data are not", f"--augment {catalogue.NO_VIEW}"
        )
    return chosen


def resolved(
    settings: TrainSettings,
    configuration: Configuration,
    directory: Path,
    view: str,
    data: Dataset,
) -> TrainSettings:
    """Return the settings with every default filled in and every path absolute.

    Args:
        directory: where named data sets were found.
        view: the random view of training examples.
        data: the data set that the settings are about.

    Raises:
        PactlError: if the settings name other classes than the data, or too many to be written.
    """
    class_names = data.class_names
    if settings.class_names not in (None, class_names):
        raise PactlError(
            f"the settings name the classes {names_in_words(settings.class_names or ())}, and --dataset "
            f"{settings.dataset} has {names_in_words(class_names or ['none with a name'])}",
            "name the data that the settings are about",
        )
    given = dict(settings)
    chosen = with_plain_defaults(settings, data.kind)
    chosen |= {name: value for name, value in configuration.as_dict().items() if name in given}
    chosen |= {name: _absolute(value) for name, value in given.items() if isinstance(value, Path)}
    chosen |= {name: _at_absolute_path(given[name]) for name in ("dataset", "source_dataset") if given.get(name)}
    if settings.tokenizer not in BUILT_IN:
        chosen["tokenizer"] = str(_absolute(Path(settings.tokenizer)))
    if settings.has_source and catalogue.source_reference(given["source"]).scheme == catalogue.RUN:
        chosen["source"] = str(_absolute(Path(given["source"])))
    chosen |= {"data_dir": directory if os.path.isdir(directory) else None, "augment": view, "class_names": class_names}
    resolved = settings.model_copy(update=chosen)
    config_text(resolved.as_dict())  # raises now, not at the end, if the file would be too long
    return resolved


def _at_absolute_path(dataset: str) -> str:
    """Return the name of one or several data sets, with paths made absolute."""

    def absolute(part: str) -> str:
        kind, colon, path = part.partition(":")
        is_path = colon and part not in catalogue.DATASETS and not catalogue.dataset_entry(part).is_code
        return f"{kind}:{_absolute(Path(path))}" if is_path else part

    return ",".join(map(absolute, catalogue.joined(dataset)))


def _absolute(path: Path) -> Path:
    """Return an absolute path without looking at the disk, as a stranger may have named it."""
    return Path(os.path.abspath(os.path.expanduser(path)))
