"""A process that has imported everything, and forks a child that becomes `pactl` for each line of JSON on stdin.

So a test has a process of its own, with its own streams, signals and death, without the seconds that imports take.
A line is a job to start, answered by its process id, or `{"wait": pid}`, answered by its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from io import TextIOWrapper
from typing import Any

STAGES = ("train", "bound", "verify", "info")
IMPORTS = (
    *("sklearn.cluster", "sklearn.datasets", "torch._dynamo", "pactl_cli.commands.app"),
    *(f"pactl_cli.stages.{stage}" for stage in STAGES),
)
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def serve() -> None:
    """Answers lines until there are no more."""
    for name in IMPORTS:
        import_module(name)
    print("warm", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            assert isinstance(sys.stdin, TextIOWrapper)
            sys.stdin.detach()
            become_pactl(job)
        print(pid, flush=True)


def become_pactl(job: dict[str, Any]) -> None:
    """Runs the command with the job's streams, directory and environment. Does not return."""
    import torch

    from pactl_cli.commands.app import main

    os.chdir(job["cwd"])
    for number, place in enumerate(job["streams"]):
        os.dup2(os.open(place, os.O_NOCTTY | (os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY)), number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "rw"[number > 0], closefd=False) for number in range(3))
    os.environ.clear()
    os.environ.update(job["env"])
    torch.set_num_threads(job["threads"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
    sys.argv = ["pactl", *job["arguments"]]
    if job["blow"]:
        left, number = job["blow"]
        arm(left, number, job["cwd"])
    code: Any = 1
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch takes a second to tear down


def arm(left: int, number: int, below: str) -> None:
    """Sends this process a signal just before it changes files below a directory for the `left`-th time."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (opened or event in CHANGES) and str(arguments[0]).startswith(below):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
