"""`bound`, `verify`, `permute` and `load` from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload

from pactl_cli.api.calling import calling, with_names
from pactl_cli.api.keywords import require_known, settings_of
from pactl_cli.api.screen import Screen
from pactl_cli.certificate.certificate import Certificate
from pactl_cli.certificate.format import DEFAULT_SEED
from pactl_cli.problem.consent import Named
from pactl_cli.runs.settings import BoundSettings
from pactl_cli.stages.bound import Shelf
from pactl_cli.stages.bound import bound as certify
from pactl_cli.stages.classifier import Classifier
from pactl_cli.stages.classifier import load as decode
from pactl_cli.stages.permute import default_place
from pactl_cli.stages.permute import permute as write_permutation
from pactl_cli.stages.verify import verify as check

RunLike = str | os.PathLike[str]
"""A run, or the path of its directory."""


@overload
def bound(run: RunLike, **settings: Any) -> Certificate: ...
@overload
def bound(run: Iterable[RunLike], **settings: Any) -> list[Certificate]: ...
def bound(run: RunLike | Iterable[RunLike], **settings: Any) -> Certificate | list[Certificate]:
    """Quantise, code and certify a run, or several, among which you may choose by their certificates.

    Args:
        settings: those of `pactl bound`, by the names of its options with underscores: `quant_epochs=10`. What was
            handed over as an object to train a run is handed over again: `dataset`, `test`, `model_name`. `certify`
            may be a list, `groups` and `cost` arrays. Also `out`, a directory for a copy of the one run, `force` and
            `progress`.

    Returns:
        The certificate of the run; of several, theirs in the order of the runs.

    Raises:
        PactlError: naming every wrong setting, or if a run cannot be certified.
        KeyboardInterrupt: if it was interrupted; nothing is written then.
    """
    with calling() as objects:
        require_known("bound", settings, {*settings_of(BoundSettings), "out", "force", "test", "progress"})
        plain = with_names(settings, objects)
        progress, out, force = plain.pop("progress", None), plain.pop("out", None), plain.pop("force", False)
        paths = [Path(run)] if isinstance(run, str | os.PathLike) else [Path(each) for each in run]
        chosen, shelf = BoundSettings.parse(plain), Shelf(None if out is None else Path(out), force)
        found = {path.resolve(): each for path, each in certify(paths, chosen, Screen(progress), shelf=shelf)}
        if isinstance(run, str | os.PathLike):
            return next(iter(found.values()))
        return list(found.values()) if shelf.out else [found[path.resolve()] for path in paths]


def verify(run: RunLike, **settings: Any) -> Certificate:
    """Decode a certificate's message, count again and compute again, and return the certificate if everything agrees.

    Args:
        settings: `dataset`, `test`, `model_name`, `tokenizer`, `data_dir`, `groups`, `device`, as for `bound`; and
            `progress`.

    Raises:
        PactlError: if anything disagrees, or is not at hand.
    """
    with calling() as objects:
        named, plain = _named("verify", settings, objects)
        return check(Path(run), named, plain.device, Screen(settings.get("progress"))).certificate


def load(run: RunLike, **settings: Any) -> Classifier:
    """Return the certified classifier, decoded from its message: a network in evaluation mode that takes raw inputs.

    Args:
        settings: `model_name`, if the network is your own, and `device`: the CPU, if it is not given.

    Raises:
        PactlError: if the run has no complete certificate, or the network is not at hand.
    """
    with calling() as objects:
        require_known("load", settings, {"model_name", "device"})
        said = BoundSettings.parse(with_names({"device": "cpu"} | settings, objects), "load")
        return decode(Path(run), model_name=said.model_name, device=said.device)


def permute(dataset: Any, *, seed: int = DEFAULT_SEED, out: RunLike | None = None, data_dir: Any = None) -> Path:
    """Write a permutation of a training set's indices, the same everywhere, and return the file's path.

    Args:
        out: where to write; by default into the working directory, named after data set and seed.

    Raises:
        PactlError: if there is no such data set, or the file holds something else.
    """
    with calling() as objects:
        name = str(with_names({"dataset": dataset}, objects)["dataset"])
        target = Path(out) if out else default_place(name, seed)
        write_permutation(name, seed, target, None if data_dir is None else Path(data_dir))
        return target.absolute()


def _named(call: str, given: dict[str, Any], objects: dict[str, Any]) -> tuple[Named, BoundSettings]:
    """Return what the user names of data and network, which a run does not say by itself, and the device."""
    known = {"dataset", "test", "model_name", "tokenizer", "data_dir", "groups", "device", "progress"}
    require_known(call, given, known)
    plain = with_names({name: value for name, value in given.items() if name != "progress"}, objects)
    said = BoundSettings.parse(plain, call)
    return Named(said.data_dir, said.dataset, said.model_name, said.tokenizer, said.groups), said
