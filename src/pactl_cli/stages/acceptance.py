"""A trial on a few examples that a network can be trained and certified, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pactl_cli import randomness
from pactl_cli.errors import PactlError
from pactl_cli.models.brought import NetworkFailedError, described
from pactl_cli.models.independence import agree, evaluated, require_function_of_one_example, require_logits
from pactl_cli.models.inputs import Inputs, select
from pactl_cli.models.normalisation import batch_norms
from pactl_cli.problem.problem import Problem
from pactl_cli.subspace.module import SubspaceModule, set_weights
from pactl_cli.training.loop import require_batches
from pactl_cli.training.precision import full_precision

RELATIVE_STEP, CONSTANT_STEP = 0.1, 0.05
"""Sizes of a trial's move: relative to the standard deviation of a tensor, or absolute where a tensor is constant."""


def require_trainable(problem: Problem, module: SubspaceModule, batch_size: int) -> None:
    """Check that a network can be trained and certified: evaluate it, and try a training step that leaves no trace.

    The evaluation moves the weights a little, because a weight that starts at zero can hide what it multiplies.

    Args:
        module: at any coordinates.
        batch_size: the batch size of training.

    Raises:
        PactlError: if the logits of an example depend on other examples, if evaluation and training see different
            weights, if training fails, or if training changes a buffer that no message carries.
    """
    require_batches(module, batch_size)
    name, classes = problem.configuration.model_name, problem.dataset.classes
    examples = problem.few_examples()
    inputs = examples.inputs
    weights = _nearby(module, problem.configuration.seed)
    with full_precision():
        module.eval()
        substituted = evaluated(partial(functional_call, module.network, weights), inputs, classes, name)
        network = problem.blueprint.network_to_evaluate(module)
        set_weights(network, weights)
        own = evaluated(network.eval(), inputs, classes, name)
        problem.calibrate(network)
        require_function_of_one_example(network, inputs, classes, name, stable=False)
    if not agree(substituted, own):
        raise PactlError(
            f"--model-name {name} is refused: its layers do not use the weights that are put in place of their own",
            "every layer must take its weights from its own parameters when it is called",
        )
    rest = len(problem.sample) % batch_size
    batch = torch.arange(min(len(examples), rest if rest > 1 else batch_size))
    smallest = len(problem.world.share(batch).part)
    _try_step(module, select(inputs, slice(smallest)), examples.labels[:smallest], classes, name)


@torch.no_grad()
def _nearby(module: SubspaceModule, seed: int) -> dict[str, Tensor]:
    """Return the present weights, each moved up or down a little."""
    moved = {}
    for name, weight in module.weights(module.w).items():
        constant = not weight.numel() or bool(weight.min() == weight.max())
        step = CONSTANT_STEP if constant else RELATIVE_STEP * float(weight.std())
        signs = torch.from_numpy(randomness.signs(seed, f"acceptance/{name}", weight.numel()))
        moved[name] = weight + step * signs.view(weight.shape).to(weight)
    return moved


def _try_step(module: SubspaceModule, inputs: Inputs, labels: Tensor, classes: int, name: str) -> None:
    """Compute a batch's gradient as in training; raise PactlError if this fails or changes an uncoded buffer."""
    network = module.network.get_submodule("network")  # the user knows the names in here
    with _restored(network) as before:
        torch.manual_seed(0)
        try:
            logits = require_logits(module.train()(inputs), len(labels), classes, name)
            torch.autograd.grad(nn.functional.cross_entropy(logits, labels), module.w)
        except Exception as error:
            if isinstance(error, PactlError) and not isinstance(error, NetworkFailedError):
                raise
            raise PactlError(
                f"--model-name {name} cannot be trained on a batch of {len(labels)}: {described(error)}",
                "choose another --batch-size, so that the last batch of an epoch has more" if len(labels) == 1 else "",
            ) from error
        recomputed = {id(buffer) for layer in batch_norms(network) for buffer in layer.buffers()}
        for key, buffer in network.named_buffers():
            if id(buffer) not in recomputed and not _is_same(buffer, before.get(key)):
                raise PactlError(
                    f"--model-name {name} is refused: training changes its buffer {key}, which no message carries",
                    "use BatchNorm for running statistics: they are computed anew from calibration examples",
                )


@contextmanager
def _restored(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield copies of the buffers, and restore the buffers and the ambient generators afterwards."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield before
    finally:
        for name, buffer in network.named_buffers():
            if name in before and before[name].shape == buffer.shape:
                buffer.copy_(before[name])


def _is_same(now: Tensor, before: Tensor | None) -> bool:
    """Return whether a buffer is unchanged; NaN equals NaN here."""
    if before is None or before.shape != now.shape or before.dtype != now.dtype:
        return False
    return bool(((now == before) | ((now != now) & (before != before))).all())
