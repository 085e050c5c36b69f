"""The same on a GPU, and what only a GPU makes possible: certificates at the paper's lengths, each within a time limit.

python tests/benchmarks/gpu.py --limit 600 --data-dir DATA --cifar FOLDER
python tests/benchmarks/gpu.py --device cpu --quick # that it works, in seconds
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import epoch
import scale
import steps
import torch
from pairs import Terms, seconds, table

from pactl_cli.data.dataset import Examples
from pactl_cli.subspace.kronecker import KroneckerProduct
from pactl_cli.subspace.projectors import RunShuffle
from pactl_cli.training.loop import Trainer
from pactl_cli.training.objectives import NetworkObjective
from pactl_cli.training.recipes import Plan

ALIKE = 1e-5
"""How far, relative to the largest number, products of matrices may be apart on two devices."""


def same_projectors(terms: Terms) -> None:
    """Prints how far P w and P^T g are from those of the CPU; refuses more than rounding."""
    rows = []
    parameters, dim = (5_000, 100) if terms.quick else (431_080, 1_000)
    generator = torch.Generator().manual_seed(0)
    w, g = (torch.randn(size, generator=generator) for size in (dim, parameters))
    for mode in steps.MODES:
        here = scale.projector(mode, parameters, dim)
        expected = here.matvec(w), here.adjoint(g)
        there = here.to(terms.device)
        found = there.matvec(w.to(terms.device)).cpu(), there.adjoint(g.to(terms.device)).cpu()
        apart = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)]
        assert max(apart) < ALIKE, f"{mode}: {apart}"
        rows.append((mode, *(f"{each:.1e}" for each in apart)))
    shuffle = RunShuffle(parameters, parameters, KroneckerProduct.RUN, 137, "any")
    assert torch.equal(shuffle(g), shuffle.to(terms.device)(g.to(terms.device)).cpu())
    table(f"P on {terms.device} and on the CPU, D = {parameters:,}", ("mode", "P w apart", "P^T g apart"), rows)


def captured_steps(terms: Terms) -> None:
    """Prints the loop's step with and without `--compile`, over epochs of images that are drawn."""
    rows, steps_each = [], 4 if terms.quick else 300
    for name, shape in {steps.QUICK: steps.CASES[steps.QUICK]}.items() if terms.quick else steps.CASES.items():
        count = steps.BATCH * steps_each
        examples = Examples(torch.randn(count, *shape), torch.randint(10, (count,))).to(torch.device(terms.device))
        runs = []
        for captured in (False, True):
            objective = NetworkObjective(steps.module(name, "rdkronqr", terms.device))
            plan = Plan("adam_cos", 2, steps.BATCH, 1e-3)
            runs.append(Trainer(objective, examples, plan, seed=1, stage="x", compile=captured))
        both = [seconds(terms.finished(partial(run.run, epoch.Quiet()))) / run.steps for run in runs]
        rows.append((name, *(f"{1e3 * each:.3g}" for each in both), f"{both[0] / both[1]:.2f}"))
    table(f"A step of the loop, batch {steps.BATCH}; {terms}", ("network", "ms", "--compile ms", "ratio"), rows)


def recipes(given: argparse.Namespace) -> dict[str, tuple[list[str], list[str], list[str]]]:
    """By name: how the program is started, and the options of `train` and of `bound`."""
    kind = "--cpus" if given.device == "cpu" else "--gpus"
    launched = ["launch", kind, "1"]
    single = ["--epochs", "1"] if given.quick else ["--epochs", "20"]
    found = {"digits, one process by launch": (launched, single, ["--quant-epochs", "1"])}
    if given.data_dir:
        mnist = ["--dataset", "mnist", "--data-dir", given.data_dir, "--model-name", "lenet5", "--batch-size", "256"]
        mnist += ["--intrinsic-dim", "3000", "--lr", "1e-2", "--epochs", "500", "--compile"]
        found["MNIST, LeNet5, 500 epochs"] = ([], mnist, ["--quant-epochs", "30"])
    if given.cifar:
        cifar = ["--dataset", f"folder:{given.cifar}", "--model-name", "layer13s", "--batch-size", "256"]
        cifar += ["--intrinsic-dim", "5000", "--lr", "1e-2", "--epochs", "150", "--augment", "none"]
        cifar += ["--compile", "--precision", "tf32"]
        found["CIFAR-10 (JPEG), Layer13s, 150 epochs"] = ([], cifar, ["--quant-epochs", "30"])
    return found


def certify(name: str, start: list[str], train: list[str], bound: list[str], given: argparse.Namespace) -> list[str]:
    """Return one row: seconds of training and of `bound`, bits and the certificate; or that the limit was too short."""
    left, row = float(given.limit), [name]
    with TemporaryDirectory() as place:
        run = str(Path(place) / "run")
        for words in (["train", *train, "--out", run], ["bound", run, *bound]):
            command = [sys.executable, "-m", "pactl_cli", *start, *words]
            command += [] if start else ["--device", given.device]
            began = time.perf_counter()
            try:
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=left)
            except subprocess.TimeoutExpired:
                return [*row, f"stopped after {given.limit} s", *[""] * (4 - len(row))]
            row.append(f"{time.perf_counter() - began:.1f}")
            left = max(1.0, left - float(row[-1]))
        found = json.loads((Path(run) / "bound.json").read_text())
    return [*row, f"{found['message_bits']:,}", f"{100 * found['error_bound']:.2f} %"]


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data-dir", help="where MNIST lies")
    parser.add_argument("--cifar", help="CIFAR-10 as folders of JPEG files")
    parser.add_argument("--limit", type=int, default=600, help="seconds for each certificate")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: see that it works")
    given = parser.parse_args()
    terms = Terms(device=given.device, quick=given.quick)
    same_projectors(terms)
    rows = [tuple(certify(name, *recipe, given)) for name, recipe in recipes(given).items()]
    table(f"Certificates on {given.device}", ("what", "train s", "bound s", "bits", "error at most"), rows)
    captured_steps(terms)
    steps.main(terms)
    scale.against_copies(terms)
    if given.quick or given.data_dir:
        epoch.main(epoch.DRAWN if given.quick else given.data_dir, terms)


if __name__ == "__main__":
    main()
