"""What the user has named on this command line, and what of a run that may be a stranger's follows from it.

A run directory says which data it is about, where they lay and which network it has. None of this is believed: data
come from places that the user names, and code is loaded only if the user names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from shlex import quote

from pactl_cli import catalogue
from pactl_cli.data.files.tokenizing import BUILT_IN
from pactl_cli.data.tables.loading import ENDINGS
from pactl_cli.errors import MissingError, quoted
from pactl_cli.problem.machine import data_directory
from pactl_cli.runs.directory import RunDirectory
from pactl_cli.runs.settings import TrainSettings

_PARTS = [part + ending for part in ("train", "test", "val") for ending in ("", *chain(*ENDINGS.values()))]
"""What a directory of one's own data may hold."""


@dataclass(frozen=True)
class Named:
    """What the user has named on the command line, beside a run directory.

    Attributes:
        data_dir: where named data sets lie.
        dataset: the data, where they are the user's own: csv:PATH, npz:PATH, ...
        model_name: the network, if it is code or very large.
        tokenizer: the file that splits texts, if there is one.
        groups: the file with the group of each training example, if the certificate is about groups.
        option: with which `dataset` is named.
    """

    data_dir: Path | None = None
    dataset: str | None = None
    model_name: str | None = None
    tokenizer: str | None = None
    groups: Path | None = None
    option: str = "--dataset"


@dataclass(frozen=True)
class DataPlace:
    """Where the data of a run are read.

    Attributes:
        dataset: its name, with the path where it is read.
        directory: where named data sets lie.
        may_write: whether what is absent may be fetched into it, and decoded images kept there.
        by_run: whether the run, not the user, says where.
        tokenizer: the file that splits texts; None for the one of the settings, if that has one.
        is_tokenizer_by_run: whether the run says which.
        fonts: the folder of fonts that the run names, if it names one.
        if_absent: what to do if they are not there; "" for what one would do to begin with.
    """

    dataset: str
    directory: Path
    may_write: bool = True
    by_run: bool = False
    tokenizer: str | None = None
    is_tokenizer_by_run: bool = False
    fonts: Path | None = None
    if_absent: str = ""

    def in_words(self) -> str:
        """Return the place in words, who names it, and which checksums vouch for the data."""
        entry = catalogue.dataset_entry(self.dataset)
        if entry.takes_path:
            whose = ", a path that the run names: check that they are the data you mean" if self.by_run else ""
            return f"{quoted(self.dataset)}{whose}{self._tokenizer_in_words()}"
        if "fonts" in entry.reads:
            fonts = f" with the fonts in {quoted(str(self.fonts))}, a path that the run names" if self.fonts else ""
            return f"{entry.name}, drawn by {entry.package}{fonts}"
        place = f"{entry.name} from {entry.package or quoted(str(self.directory))}"
        if entry.content:
            return f"{place}; its content has the sha256 that pactl knows"
        if entry.checked:
            return f"{place}; each file has its published MD5, but pactl knows no sha256 of the content"
        return f"{place}; pactl knows no sha256 of its content: check that it is the published one"

    def _tokenizer_in_words(self) -> str:
        """Return what to add of what splits the texts."""
        whose = ", a path that the run names: check that it is the one you mean" if self.is_tokenizer_by_run else ""
        return f"; texts split by {quoted(self.tokenizer)}{whose}" if self.tokenizer else ""


def require_own_network(run: RunDirectory, named: str | None) -> None:
    """Raise MissingError if the user has named another network than that of a run."""
    needed = run.read_config().get("model_name")
    if catalogue.standing_for(named, needed) not in (None, needed):
        raise MissingError(f"--model-name {named} is not the network of {run.path}, which is {needed}")


def place_of_data(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Return where to read the data of a run that may be a stranger's.

    Named data sets come from where the user says, or from the default directory; unless `only_read` also from where
    training found them, if each of their files has a checksum that pactl knows. The user's own data come from where the
    user says, or from the path that the run names, outside of it.

    Args:
        only_read: nothing is fetched or written, and nothing is read where the run says but the user's own.

    Raises:
        MissingError: if the user has to name them.
    """
    place = replace(_place_of_examples(run, trained, named, only_read=only_read), fonts=trained.fonts)
    if trained.fonts is not None:
        _require_outside(run, "fonts", [str(trained.fonts)], "train it with --fonts elsewhere")
    if named.tokenizer is None:
        if trained.tokenizer in BUILT_IN:
            return place
        _require_tokenizer(run, trained.tokenizer)
        return replace(place, tokenizer=trained.tokenizer, is_tokenizer_by_run=True)
    if {*BUILT_IN} & {trained.tokenizer, named.tokenizer} and trained.tokenizer != named.tokenizer:
        raise MissingError(
            f"--tokenizer {named.tokenizer}: the texts of {run.path} are split by {quoted(trained.tokenizer)}",
            "leave it out" if trained.tokenizer in BUILT_IN else "name that file",
        )
    return replace(place, tokenizer=None if named.tokenizer in BUILT_IN else named.tokenizer)


def _place_of_examples(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Return where to read the examples of a run, as `place_of_data` says; those of several data sets in one place."""
    if len(catalogue.joined(trained.dataset)) > 1:
        return _place_of_joined(run, trained, named, only_read=only_read)
    entry = catalogue.dataset_entry(trained.dataset)
    if not entry.takes_path:
        if named.dataset not in (None, trained.dataset):
            raise MissingError(
                f"{named.option} {named.dataset} is not what {run.path} is about, which is {trained.dataset}"
            )
        directory = data_directory(named.data_dir)
        found = trained.data_dir
        if only_read or named.data_dir or found in (None, directory) or not (entry.checked and os.path.isdir(found)):
            hint = ""
            if found and not named.data_dir and not only_read:
                hint = f"training found them in {found}: if you trust what lies there, --data-dir {quote(str(found))}"
            return DataPlace(trained.dataset, directory, may_write=not only_read, if_absent=hint)
        return DataPlace(trained.dataset, found, may_write=False, by_run=True)
    directory = data_directory(named.data_dir)
    catalogue.require_named_data(trained.dataset, named.dataset, str(run.path), named.option)
    if named.dataset is None:
        path = trained.dataset.partition(":")[2]
        known = f"if you know them: {named.option} {quote(trained.dataset)}"
        _require_outside(run, f"data, {trained.dataset}", [path, *(os.path.join(path, part) for part in _PARTS)], known)
        hint = f"if they lie elsewhere now: {named.option} {_likely_place(trained.dataset, named.data_dir)}"
        return DataPlace(trained.dataset, directory, may_write=not only_read, by_run=True, if_absent=hint)
    if catalogue.dataset_entry(named.dataset) != entry:
        raise MissingError(
            f"{named.option} {named.dataset} is of another kind than {trained.dataset}, which {run.path} is about"
        )
    return DataPlace(named.dataset, directory, may_write=not only_read)


def _place_of_joined(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Return where to read several data sets: each as if it were alone, but named ones all in one directory."""
    known = catalogue.joined(trained.dataset)
    said = catalogue.joined(named.dataset) if named.dataset else (None,) * len(known)
    if len(said) != len(known):
        raise MissingError(f"{named.option} {named.dataset} is not what {run.path} is about, {len(known)} data sets")
    places = [
        _place_of_examples(
            run, trained.model_copy(update={"dataset": part}), replace(named, dataset=one), only_read=only_read
        )
        for part, one in zip(known, said, strict=True)
    ]
    common = next((place for place in places if place.may_write), places[0])
    return replace(
        common,
        dataset=",".join(place.dataset for place in places),
        by_run=any(place.by_run for place in places),
        if_absent=next((place.if_absent for place in places if place.if_absent), ""),
    )


def _require_tokenizer(run: RunDirectory, path: str) -> None:
    """Raise MissingError if the tokenizer's file that a run names is not there, or lies in the run itself."""
    hint = "name it: --tokenizer PATH"
    _require_outside(run, "tokenizer", [path], hint)
    if not os.path.isfile(path):
        raise MissingError(f"the tokenizer of {run.path} does not lie at {quoted(path)}", hint)


def _likely_place(dataset: str, data_dir: Path | None) -> str:
    """Return data of that name that lie in the user's data directory, or in the working one; else a gap to fill in."""
    kind, _, name = catalogue.own_name(dataset).partition(":")
    for place in (data_dir, Path()):
        if place is not None and os.path.lexists(place / name):
            return quote(f"{kind}:{place / name}")
    return f"{kind}:PATH"


def _require_outside(run: RunDirectory, what: str, paths: Iterable[str], hint: str) -> None:
    """Raise MissingError if something that a run names lies in the run itself, which cannot vouch for it."""
    inside = os.path.realpath(run.path)
    try:
        is_inside = any(os.path.commonpath([os.path.realpath(path), inside]) == inside for path in paths)
    except (OSError, ValueError) as error:
        raise MissingError(f"{run.path} has its {what} at no path: {error}", hint) from error
    if is_inside:
        raise MissingError(f"{run.path} has its {what} in itself, where nothing says that it is what you mean", hint)
