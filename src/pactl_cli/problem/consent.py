"""What the user has named on the command line, and so allows to be read or run for a run that may be a stranger's.

A run directory names its data, the place where they were, and its network. None of this is believed: data come from
places that the user names, and code is loaded only if the user names it.
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
"""Names of files and folders that a directory of the user's own data may hold."""


@dataclass(frozen=True)
class Named:
    """What the user has named on the command line, apart from a run directory.

    Attributes:
        data_dir: the directory of named data sets.
        dataset: the user's own data: csv:PATH, npz:PATH, ...
        model_name: the network, if it is code or very large.
        tokenizer: the file that splits texts, if there is one.
        groups: the file with the group of each training example, if the certificate is about groups.
        option: the option that names `dataset`.
    """

    data_dir: Path | None = None
    dataset: str | None = None
    model_name: str | None = None
    tokenizer: str | None = None
    groups: Path | None = None
    option: str = "--dataset"


@dataclass(frozen=True)
class DataPlace:
    """The place where the data of a run are read.

    Attributes:
        dataset: the data set's name, with the path where it is read.
        directory: the directory of named data sets.
        may_write: whether absent files may be downloaded into it, and decoded images kept there.
        by_run: whether the run, not the user, names the place.
        tokenizer: the file that splits texts; None for the one in the settings, if there is one.
        is_tokenizer_by_run: whether the run names the tokenizer.
        fonts: the folder of fonts that the run names, if it names one.
        if_absent: a hint for data that are not there; "" for the usual one.
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
        """Return the place in words, with who names it and which checksums vouch for the data."""
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
        """Return the words to add about the tokenizer's file; "" if there is none."""
        whose = ", a path that the run names: check that it is the one you mean" if self.is_tokenizer_by_run else ""
        return f"; texts split by {quoted(self.tokenizer)}{whose}" if self.tokenizer else ""


def require_own_network(run: RunDirectory, named: str | None) -> None:
    """Raise MissingError if the user has named a network other than the run's."""
    needed = run.read_settings().model_name
    if catalogue.standing_for(named, needed) not in (None, needed):
        raise MissingError(f"--model-name {named} is not the network of {run.path}, which is {needed}")


def place_of_data(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Return where to read the data of a run that may be a stranger's.

    Named data sets come from the directory that the user names, or from the default one. Unless `only_read`, they may
    also come from where training found them, if pactl knows a checksum of each of their files. The user's own data come
    from the path that the user names, or from the one that the run names, if that is outside of the run.

    Args:
        only_read: whether to fetch and write nothing, and to read named data sets only where the user says.

    Raises:
        MissingError: if the user has to name the data.
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
    """Return where to read the examples of a run, as `place_of_data` describes."""
    if len(catalogue.joined(trained.dataset)) > 1:
        return _place_of_joined(run, trained, named, only_read=only_read)
    entry, directory = catalogue.dataset_entry(trained.dataset), data_directory(named.data_dir)
    if not entry.takes_path:
        if named.dataset not in (None, trained.dataset):
            raise MissingError(
                f"{named.option} {named.dataset} is not what {run.path} is about, which is {trained.dataset}"
            )
        here, found = DataPlace(trained.dataset, directory, may_write=not only_read), trained.data_dir
        if only_read or named.data_dir or found is None:
            return here
        if found != directory and entry.checked and os.path.isdir(found):
            return DataPlace(trained.dataset, found, may_write=False, by_run=True)
        hint = f"training found them in {found}: if you trust what is there, --data-dir {quote(str(found))}"
        return replace(here, if_absent=hint)
    catalogue.require_named_data(trained.dataset, named.dataset, str(run.path), named.option)
    if named.dataset is None:
        path = trained.dataset.partition(":")[2]
        known = f"if you know them: {named.option} {quote(trained.dataset)}"
        _require_outside(run, f"data, {trained.dataset}", [path, *(os.path.join(path, part) for part in _PARTS)], known)
        hint = f"if they have moved: {named.option} {_likely_place(trained.dataset, named.data_dir)}"
        return DataPlace(trained.dataset, directory, may_write=not only_read, by_run=True, if_absent=hint)
    if catalogue.dataset_entry(named.dataset) != entry:
        raise MissingError(
            f"{named.option} {named.dataset} is of another kind than {trained.dataset}, which {run.path} is about"
        )
    return DataPlace(named.dataset, directory, may_write=not only_read)


def _place_of_joined(run: RunDirectory, trained: TrainSettings, named: Named, *, only_read: bool) -> DataPlace:
    """Return where to read several data sets: each as if it were alone, but named ones in one directory."""
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
    """Raise MissingError if the tokenizer's file that a run names is absent, or lies in the run itself."""
    hint = "name it: --tokenizer PATH"
    _require_outside(run, "tokenizer", [path], hint)
    if not os.path.isfile(path):
        raise MissingError(f"the tokenizer of {run.path} is not at {quoted(path)}", hint)


def _likely_place(dataset: str, data_dir: Path | None) -> str:
    """Return where data of that name are, in the data directory or the working directory; else a gap to fill in."""
    kind, _, name = catalogue.own_name(dataset).partition(":")
    for place in (data_dir, Path()):
        if place is not None and os.path.lexists(place / name):
            return quote(f"{kind}:{place / name}")
    return f"{kind}:PATH"


def _require_outside(run: RunDirectory, what: str, paths: Iterable[str], hint: str) -> None:
    """Raise MissingError if a path that a run names lies in the run itself: the run cannot vouch for it."""
    inside = os.path.realpath(run.path)
    try:
        is_inside = any(os.path.commonpath([os.path.realpath(path), inside]) == inside for path in paths)
    except (OSError, ValueError) as error:
        raise MissingError(f"{run.path} names an impossible path of its {what}: {error}", hint) from error
    if is_inside:
        raise MissingError(f"{run.path} has its {what} inside itself, and cannot vouch for it", hint)
