"""Facts of a network that another machine can compare: who defines it, its shapes, and its logits on fixed inputs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

from pactl_cli import __version__, catalogue
from pactl_cli.certificate.certificate import VERSION
from pactl_cli.models.independence import evaluated
from pactl_cli.models.inputs import InputSpec
from pactl_cli.training.precision import full_precision

_INPUTS, _LOGITS = 2, 4
_DIGITS = 6
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class NetworkFacts:
    """Facts of a network at theta0, before calibration.

    Attributes:
        defined_by: the package that defines it, and its version; or the user's own `module:function`.
        weights_sha256: the sha256 of the names and shapes of its parameters and buffers.
        answers: its first logits on fixed inputs; None if they are not finite.
    """

    defined_by: str
    weights_sha256: str
    answers: tuple[float, ...] | None

    @classmethod
    def of(cls, network: nn.Module, model_name: str, classes: int, spec: InputSpec) -> NetworkFacts:
        """Return the facts of a prepared network on the CPU, which is put into evaluation mode.

        Raises:
            PactlError: if the network fails.
        """
        layout = "\n".join(
            f"{name} {tuple(tensor.shape)}" for name, tensor in network.get_submodule("network").state_dict().items()
        )
        inputs = spec.fixed_inputs(_INPUTS, "network-facts")
        with full_precision():
            logits = evaluated(network.eval(), inputs, classes, model_name)[:, :_LOGITS].flatten().tolist()
        answers = tuple(float(f"{logit:.{_DIGITS}g}") for logit in logits)
        known = answers if np.isfinite(answers).all() else None
        return cls(_definer(model_name), sha256(layout.encode()).hexdigest(), known)

    @classmethod
    def from_json(cls, value: Any) -> NetworkFacts:
        """Return the facts in a certificate, which may be a stranger's.

        Raises:
            ValueError: if they are not facts of a network.
        """
        try:
            defined_by, weights, answers = value["defined_by"], value["weights_sha256"], value["answers"]
            facts = cls(defined_by, weights, None if answers is None else tuple(map(float, answers)))
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError("says nothing about its network") from error
        if not isinstance(defined_by, str) or not _is_definer(defined_by[:200]):
            raise ValueError("does not say who defines its network")
        return facts

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as values for JSON."""
        return asdict(self) | {"answers": None if self.answers is None else list(self.answers)}

    def is_like(self, other: NetworkFacts) -> bool:
        """Return whether both describe one network, up to rounding, whichever version of a package defines it."""
        package, other_package = (facts.defined_by.partition(" ")[0] for facts in (self, other))
        if package != other_package or self.weights_sha256 != other.weights_sha256:
            return False
        if self.answers is None or other.answers is None or len(self.answers) != len(other.answers):
            return self.answers == other.answers
        mine, theirs = np.array(self.answers), np.array(other.answers)
        return bool(np.abs(mine - theirs).max(initial=0) <= _TOLERANCE * np.abs(mine).max(initial=0))


def _is_definer(text: str) -> bool:
    """Return whether text is a package and a version, or a module and a function, and not a stranger's words."""
    packages = "|".join({catalogue.TIMM, *(row.package for row in catalogue.MODELS.values())})
    return re.fullmatch(rf"({packages}) {VERSION}|[\w.]+:\w+", text) is not None


def _definer(model_name: str) -> str:
    """Return who defines a network."""
    if catalogue.is_brought(model_name):
        return model_name
    package = catalogue.model_entry(model_name).package
    return f"{package} {__version__ if package == 'pactl' else version(package)}"
