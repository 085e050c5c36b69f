"""What processes say to each other, and what they gain: `python tests/benchmarks/processes.py`, on Linux, two cores.

Bytes are those that the kernel counts on the loopback device, on which nothing else should talk.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pactl_cli.processes.world import World, joined

SIZES = {"LeNet5, d = 1,000": (1_000, 431_080), "ResNet18k, d = 10,000": (10_000, 11_173_962)}
BESIDE = 4
"""Loss, errors and the wishes to stop and to save travel with the gradient."""
STEPS = 20
IMAGES, EPOCHS = 6_000, 3


def loopback_bytes() -> int:
    """What the loopback device has carried so far."""
    [line] = [line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[0])


def exchange(world: World, numbers: int) -> tuple[float, float]:
    """Bytes and milliseconds of one sum over all processes."""
    values, seconds = torch.ones(numbers), []
    world.total(values)
    before = loopback_bytes()
    for _ in range(STEPS):
        started = time.perf_counter()
        world.total(values)
        seconds.append(time.perf_counter() - started)
    return (loopback_bytes() - before) / STEPS, 1e3 * median(seconds)


def speak() -> None:
    """In one of two processes: what a step costs in the subspace, and with all weights."""
    with joined() as world:
        for name, (small, large) in SIZES.items():
            ours, plain = exchange(world, small + BESIDE), exchange(world, large)
            if world.leads:
                print(f"| {name} | {ours[0]:,.0f} | {plain[0]:,.0f} | {plain[0] / ours[0]:.0f} | ", end="")
                print(f"{ours[1]:.2f} | {plain[1]:.2f} |")


def two_processes() -> None:
    """Starts `speak` twice."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    words = [sys.executable, __file__, "speak"]
    started = [
        subprocess.Popen(words, env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait() for process in started] == [0, 0]


def epoch_seconds(folder: Path, processes: int, threads: int) -> float:
    """The median epoch of LeNet5 on random images, at one global batch."""
    run = folder / f"run-{processes}-{threads}"
    launch = ["launch", "--cpus", str(processes)] if processes > 1 else []
    options = f"--dataset npz:{folder / 'images.npz'} --model-name lenet5 --intrinsic-dim 1000 --batch-size 256"
    words = [*launch, "train", *options.split(), "--epochs", str(EPOCHS), "--device", "cpu", "--out", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-m", "pactl_cli", *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float(median(record["seconds"] for record in records))


def main() -> None:
    """Both tables."""
    print("| | bytes a step | plain | ratio | ms a step | plain |")
    two_processes()
    with TemporaryDirectory() as name:
        folder, random = Path(name), np.random.default_rng(0)
        images = random.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
        np.savez(folder / "images.npz", x_train=images, y_train=np.arange(IMAGES) % 10)
        for processes, threads in ((1, 1), (1, 2), (2, 1)):
            seconds = epoch_seconds(folder, processes, threads)
            print(f"{processes} processes, {threads} threads each: {seconds:.2f} s an epoch")


if __name__ == "__main__":
    speak() if "speak" in sys.argv else main()
