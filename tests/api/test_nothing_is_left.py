"""A call leaves nothing of the process changed, works in any thread, and can be interrupted."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # as the first optimiser does, and with it comes a filter of warnings
from torch import nn

import pactl_cli as pactl
from pactl_cli.errors import PactlError


def surroundings() -> dict[str, Any]:
    """Everything global that a library could leave changed."""
    logger = logging.getLogger()
    backends = torch.backends
    return {
        "tf32": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()),
        "cudnn": (backends.cudnn.benchmark, backends.cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), threading.active_count()),
        "grad": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()),
        "random": random.getstate(),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "warnings": list(warnings.filters),
        "logging": (logging.root.manager.disable, logger.level, list(logger.handlers)),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "path": list(sys.path),
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook),
        "initialisers": (nn.init.trunc_normal_, nn.init.uniform_),
        "numbers": (np.geterr(), np.get_printoptions()),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


def everything(arrays: Any, net: Any) -> None:
    run = pactl.train(dataset=arrays, model_name=net, intrinsic_dim=5, epochs=3, lr=0.3, precision="tf32")
    pactl.bound(run, dataset=arrays, model_name=net, quant_epochs=1)
    pactl.verify(run, dataset=arrays, model_name=net)
    pactl.load(run, model_name=net)


def failing(arrays: Any, net: Any) -> None:
    def broken(classes: int, channels: int) -> nn.Module:
        raise OSError("no")

    class Breaking(net):  # type: ignore[misc]
        steps = 0

        def forward(self, images: torch.Tensor) -> Any:
            Breaking.steps += self.training
            if Breaking.steps > 4:
                raise OSError("no longer")
            return super().forward(images)

    for wrong in ({"model_name": broken}, {"model_name": Breaking}, {"dataset": [(1, 2), 3]}, {"device": "cud"}):
        with pytest.raises(PactlError):
            pactl.train(**{"dataset": arrays, "intrinsic_dim": 5, "epochs": 3} | wrong)


@pytest.fixture
def _set_otherwise() -> Iterator[None]:
    """Not as they are by default: then a call that sets the default is seen, too."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("_set_otherwise")
@pytest.mark.parametrize("work", [everything, failing])
def test_nothing_global_is_left_changed(arrays: Any, net: Any, work: Callable[..., None]) -> None:
    pactl.train, pactl.bound, pactl.load  # noqa: B018 - imports change what they like
    before = surroundings()
    work(arrays, net)
    assert differences(before, surroundings()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.rand(1),
        lambda: np.random.rand(1),
        random.random,
        lambda: warnings.simplefilter("ignore"),
        lambda: os.environ.update(PACTL_TEST="1"),
        lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        lambda: setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32),
    ],
)
def test_a_change_is_seen(change: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before, handler, tf32 = surroundings(), signal.getsignal(signal.SIGINT), torch.backends.cudnn.allow_tf32
    with warnings.catch_warnings():
        change()
        after = surroundings()
    signal.signal(signal.SIGINT, handler)
    torch.backends.cudnn.allow_tf32 = tf32
    monkeypatch.delenv("PACTL_TEST", raising=False)
    assert len(differences(before, after)) == 1


def test_threads_that_are_not_the_main_one_work_and_do_not_mix_their_objects(drawn: Any, quick: Any) -> None:
    found: dict[int, Any] = {}

    def work(seed: int) -> None:
        data = drawn(100 + seed, seed)
        run = pactl.train(dataset=data, **quick)
        found[seed] = pactl.bound(run, dataset=data, quant_epochs=1).bound_examples

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: 100 + seed for seed in range(3)}


def test_an_interrupt_keeps_what_going_on_needs(arrays: Any, tmp_path: Path) -> None:
    class Interrupting(nn.Sequential):
        steps = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if self.training and torch.is_grad_enabled():
                Interrupting.steps += 1
                if Interrupting.steps == 4:
                    signal.raise_signal(signal.SIGINT)
            logits: torch.Tensor = super().forward(images)
            return logits

    def net(classes: int, channels: int) -> nn.Module:
        return Interrupting(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))

    settings = {"dataset": arrays, "model_name": net, "intrinsic_dim": 5, "epochs": 4, "batch_size": 50, "out": "run"}
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="interrupted after step 3 of 16"):
        pactl.train(**settings)
    assert signal.getsignal(signal.SIGINT) == handler
    resumed = pactl.train(**settings, resume=True)
    settings["out"] = "whole"
    whole = pactl.train(**settings)
    assert Interrupting.steps == 1 + 16 + 1 + 17  # each begins with a trial
    assert (resumed.path / "checkpoint.safetensors").read_bytes() == (
        whole.path / "checkpoint.safetensors"
    ).read_bytes()
