"""A step's forward and backward pass as one CUDA graph, whose kernels a GPU starts together, not one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pactl_cli.errors import PactlError
from pactl_cli.models.inputs import Inputs

Work = Callable[[Inputs, Tensor, float], Tensor]
"""Of inputs, labels and a weight: sets gradients, and returns numbers."""


class CapturedWork:
    """The same work, captured where it comes twice in a row with the same shapes, weight and constants.

    A graph repeats kernels, and nothing else that the work does: its Python code does not run again.

    Args:
        work: what is captured.
        trained: the parameters whose gradients it sets.
        buffers: what it changes beside them, by name.
        constants: what it computes with beside tensors, at present.
    """

    def __init__(
        self,
        work: Work,
        trained: Iterable[nn.Parameter],
        buffers: Mapping[str, Tensor],
        constants: Callable[[], Hashable],
    ) -> None:
        self._work, self._trained, self._buffers, self._constants = work, list(trained), buffers, constants
        self._last: Hashable = None
        self._captured: Hashable = None

    def __call__(self, inputs: Inputs, labels: Tensor, weight: float) -> Tensor:
        """Do the work on a batch.

        Raises:
            PactlError: if it cannot be captured.
        """
        if not isinstance(inputs, Tensor):
            return self._work(inputs, labels, weight)
        now = (inputs.shape, inputs.stride(), inputs.dtype, labels.shape, weight, self._constants())
        before, self._last = self._last, now
        if now != self._captured:
            if now != before:
                return self._work(inputs, labels, weight)
            self._capture(inputs, labels, weight)
            self._captured = now
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._graph.replay()
        for parameter, gradient in zip(self._trained, self._gradients, strict=True):
            parameter.grad = gradient
        return self._numbers.clone()

    def _capture(self, inputs: Tensor, labels: Tensor, weight: float) -> None:
        """Capture the work on tensors of its own, after a rehearsal on the same stream.

        That prepares what libraries prepare at first, and finds work that waits for the GPU: a capture that fails would
        leave the GPU's random numbers unusable.
        """
        self._inputs, self._labels = inputs.clone(), labels.clone()
        self._graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        saved = {name: buffer.clone() for name, buffer in self._buffers.items()}
        random, now = torch.cuda.get_rng_state(labels.device), torch.cuda.current_stream()
        stream.wait_stream(now)
        try:
            with torch.cuda.stream(stream), _no_waiting():
                self._work(self._inputs, self._labels, weight)
        except RuntimeError as error:
            message = f"a step of this network cannot be captured: {str(error).splitlines()[0]}"
            raise PactlError(message, "leave --compile out") from error
        now.wait_stream(stream)
        for name, buffer in self._buffers.items():
            buffer.copy_(saved[name])
        torch.cuda.set_rng_state(random, labels.device)
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._numbers = self._work(self._inputs, self._labels, weight)
        now.wait_stream(stream)
        self._gradients = [parameter.grad for parameter in self._trained]


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Within it, torch raises RuntimeError where work waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings(action="ignore"):  # that this mode does not find all
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
