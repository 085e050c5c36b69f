"""`train`, `transfer` and `prior` from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pactl_cli.api.calling import calling, with_names
from pactl_cli.api.keywords import ORDER, require_known, settings_of
from pactl_cli.api.run import Run
from pactl_cli.api.screen import Screen
from pactl_cli.runs.kinds import KINDS, kind_of
from pactl_cli.stages.order import Order, named_code
from pactl_cli.stages.train import Destination


def train(**settings: Any) -> Run:
    """Train a network in a random subspace, and return the run.

    Args:
        settings: the options of `pactl train`, with underscores: `intrinsic_dim=100`. Data and networks may be
            objects: `dataset=(X, y)`, `test=(X_test, y_test)`, `model_name=Net`. Also `out`, `resume`, `force`,
            `config`, and `progress` (whether to show bars; by default on a terminal or in a notebook).

    Raises:
        PactlError: naming every wrong setting.
        KeyboardInterrupt: if interrupted; call again with `resume=True` to resume.
    """
    return _trained("train", settings)


def transfer(source: Any, **settings: Any) -> Run:
    """Train in a subspace around the weights of a source, and return the run.

    Args:
        source: a run, `torchvision:NAME`, `timm:NAME`, or a function that makes your own network, with `weights=FILE`.
        settings: as for `train`.

    Raises:
        PactlError, KeyboardInterrupt: as `train` does.
    """
    return _trained("transfer", {"source": source, **settings})


def prior(**settings: Any) -> Run:
    """Train all weights on one part of the data, then a subspace on the rest, and return the run.

    Args:
        settings: as for `train`; `train_subset` is the first part's share of the data.

    Raises:
        PactlError, KeyboardInterrupt: as `train` does.
    """
    return _trained("prior", settings)


def _trained(kind: str, given: dict[str, Any]) -> Run:
    """Run the stage of a kind of run, and return the run."""
    with calling() as objects:
        require_known(kind, given, {*settings_of(KINDS[kind].settings), *ORDER, "test", "progress"})
        plain = with_names(given, objects)
        progress, about = plain.pop("progress", None), {name: plain.pop(name) for name in ORDER if name in plain}
        order = Order(**about | {name: Path(about[name]) for name in ("out", "config") if name in about})
        settings = order.settings(kind, plain)
        with order.target(settings) as target:
            destination = Destination(target, order.resume, order.force, named_code(plain))
            kind_of(settings).maker()(settings, destination, Screen(progress))
            return Run(Path(os.path.abspath(target)))
