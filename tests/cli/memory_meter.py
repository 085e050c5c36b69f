"""A process that has imported everything, and forks a child for each line of JSON on stdin, which is `pactl`'s words.

Each line is answered by the child's exit code, the most memory that it has held, in bytes, and what it has said on
stderr. A child may not take more than `LIMIT` bytes of its own, so that nothing else suffers.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
from importlib import import_module

LIMIT = 8 << 30
IMPORTS = (
    *("sklearn.cluster", "sklearn.datasets", "torch._dynamo", "pactl_cli.commands.app", "pactl_cli.stages.report"),
    *(f"pactl_cli.stages.{stage}" for stage in ("train", "prior", "bound", "verify")),
)


def serve() -> None:
    """Answers lines until there are no more."""
    for name in IMPORTS:
        import_module(name)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            pid = os.fork()
            if not pid:
                become_pactl(json.loads(line), said.fileno())
            _, status, used = os.wait4(pid, 0)
            said.seek(0)
            text = said.read().decode("utf-8", "replace")
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps([code, used.ru_maxrss << 10, text]), flush=True)


def become_pactl(words: list[str], stderr: int) -> None:
    """Runs the command. Does not return."""
    import torch

    from pactl_cli.commands.app import main

    nothing = os.open(os.devnull, os.O_RDWR)
    for number, stream in enumerate((nothing, nothing, stderr)):
        os.dup2(stream, number)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    torch.set_num_threads(1)
    sys.argv, sys.stdin = ["pactl", *words], open(os.devnull)  # noqa: SIM115 - of the old one something was read
    try:
        main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
