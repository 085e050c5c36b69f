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
"""A `Run`, or the path of its directory."""


@overload
def bound(run: RunLike, **settings: Any) -> Certificate: ...
@overload
def bound(run: Iterable[RunLike], **settings: Any) -> list[Certificate]: ...
def bound(run: RunLike | Iterable[RunLike], **settings: Any) -> Certificate | list[Certificate]:
    """Quantise, code and certify a run, or several; you may choose among several by their certificates.

    Args:
        settings: the options of `pactl bound`, with underscores: `quant_epochs=10`. Pass objects that the run was
            trained with again: `dataset`, `test`, `model_name`. `certify` may be a list; `groups` and `cost` may be
            arrays. Also `out` (a directory for a certified copy of one run), `force` and `progress`.

    Returns:
        The certificate of the run; for several runs, a list in their order.

    Raises:
        PactlError: naming every wrong setting, or if a run cannot be certified.
        KeyboardInterrupt: if interrupted; nothing is written then.
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
    """Decode a run's message, recount, recompute, and return the certificate if everything agrees.

    Args:
        settings: `dataset`, `test`, `model_name`, `tokenizer`, `data_dir`, `groups` and `device`, as for `bound`; and
            `progress`.

    Raises:
        PactlError: if anything disagrees or is missing.
    """
    known = {"dataset", "test", "model_name", "tokenizer", "data_dir", "groups", "device", "progress"}
    with calling() as objects:
        require_known("verify", settings, known)
        plain = with_names(settings, objects)
        progress = plain.pop("progress", None)
        said = BoundSettings.parse(plain, "verify")
        named = Named(said.data_dir, said.dataset, said.model_name, said.tokenizer, said.groups)
        return check(Path(run), named, said.device, Screen(progress)).certificate


def load(run: RunLike, **settings: Any) -> Classifier:
    """Return the certified classifier, decoded from its message: a network in evaluation mode that takes raw inputs.

    Args:
        settings: `model_name`, if the network is your own, and `device`, by default the CPU.

    Raises:
        PactlError: if the run has no complete certificate, or the network is missing.
    """
    with calling() as objects:
        require_known("load", settings, {"model_name", "device"})
        said = BoundSettings.parse(with_names({"device": "cpu"} | settings, objects), "load")
        return decode(Path(run), model_name=said.model_name, device=said.device)


def permute(dataset: Any, *, seed: int = DEFAULT_SEED, out: RunLike | None = None, data_dir: Any = None) -> Path:
    """Write a permutation of a training set's indices, the same on every machine, and return the file's path.

    Args:
        out: the file; by default one in the working directory, named after data set and seed.

    Raises:
        PactlError: if there is no such data set, or the file exists and holds something else.
    """
    with calling() as objects:
        name = str(with_names({"dataset": dataset}, objects)["dataset"])
        target = Path(out) if out else default_place(name, seed)
        write_permutation(name, seed, target, None if data_dir is None else Path(data_dir))
        return target.absolute()
