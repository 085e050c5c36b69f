"""Optimisers that make the same steps as those of torch, to the last bit, but start at once.

The first optimiser of torch in a process imports its compiler, which takes longer than training a small network. The
state has the same names as in torch, so that a run can be resumed with either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Optimizer(ABC):
    """The part of `torch.optim.Optimizer` that the loop uses: groups of parameters, and a state for each parameter.

    Args:
        parameters: parameters or groups, as for torch's optimisers.
        numbers: the hyperparameters of groups that do not set their own.
    """

    def __init__(self, parameters: Iterable[Any], **numbers: float) -> None:
        given = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [numbers | group for group in groups]
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, self.state[parameter], group)

    @abstractmethod
    def _move(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], numbers: dict[str, Any]) -> None:
        """Move one parameter by one step; `state` is empty at first."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum and weight decay."""

    def _move(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], numbers: dict[str, Any]) -> None:
        if numbers["weight_decay"]:
            grad = grad.add(parameter, alpha=numbers["weight_decay"])
        if numbers["momentum"]:
            if state:
                state["momentum_buffer"].mul_(numbers["momentum"]).add_(grad)
            else:
                state["momentum_buffer"] = grad.clone()
            grad = state["momentum_buffer"]
        parameter.add_(grad, alpha=-numbers["lr"])


class Adam(Optimizer):
    """Adam with torch's defaults."""

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def _move(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], numbers: dict[str, Any]) -> None:
        if not state:
            state |= {"step": 0.0, "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        first, second = self.BETAS
        state["step"] = step = float(state["step"]) + 1
        state["exp_avg"].lerp_(grad, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(grad, grad, value=1 - second)
        scale = (state["exp_avg_sq"].sqrt() / (1 - second**step) ** 0.5).add_(self.EPSILON)
        parameter.addcdiv_(state["exp_avg"], scale, value=-(numbers["lr"] / (1 - first**step)))


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    def _move(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], numbers: dict[str, Any]) -> None:
        if numbers["weight_decay"]:
            parameter.mul_(1 - numbers["lr"] * numbers["weight_decay"])
        super()._move(parameter, grad, state, numbers)


class RMSprop(Optimizer):
    """RMSprop with torch's defaults."""

    DECAY, EPSILON = 0.99, 1e-8

    def _move(self, parameter: Tensor, grad: Tensor, state: dict[str, Any], numbers: dict[str, Any]) -> None:
        if not state:
            state |= {"step": 0.0, "square_avg": torch.zeros_like(parameter)}
        state["step"] = float(state["step"]) + 1
        state["square_avg"].mul_(self.DECAY).addcmul_(grad, grad, value=1 - self.DECAY)
        scale = state["square_avg"].sqrt().add_(self.EPSILON)
        parameter.addcdiv_(grad, scale, value=-numbers["lr"])
