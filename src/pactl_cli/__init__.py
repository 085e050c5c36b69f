"""Certified error bounds for neural networks: train in a random subspace, code the result, bound its error.

From Python: `import pactl_cli as pactl`. Nothing is loaded before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pactl_cli.api import risk as risk
    from pactl_cli.api.certifying import bound as bound
    from pactl_cli.api.certifying import load as load
    from pactl_cli.api.certifying import permute as permute
    from pactl_cli.api.certifying import verify as verify
    from pactl_cli.api.estimator import CertifiedClassifier as CertifiedClassifier
    from pactl_cli.api.run import Certificate as Certificate
    from pactl_cli.api.run import Run as Run
    from pactl_cli.api.training import prior as prior
    from pactl_cli.api.training import train as train
    from pactl_cli.api.training import transfer as transfer
    from pactl_cli.errors import PactlError as PactlError

__version__ = "0.2.0"

_PLACES = {
    "Certificate": "api.run",
    "CertifiedClassifier": "api.estimator",
    "PactlError": "errors",
    "Run": "api.run",
    "bound": "api.certifying",
    "load": "api.certifying",
    "permute": "api.certifying",
    "prior": "api.training",
    "risk": "api.risk",
    "train": "api.training",
    "transfer": "api.training",
    "verify": "api.certifying",
}
"""The module of each name of the interface; `risk` is itself a module."""

__all__ = [*_PLACES]


def __getattr__(name: str) -> Any:
    """Import and return a name of the interface."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_PLACES[name]}")
    return module if name == "risk" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
