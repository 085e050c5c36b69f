"""The program's entry point: `pactl` and `python -m pactl_cli`."""

from __future__ import annotations

import sys
import warnings

from pactl_cli.errors import BAD_INPUT


def main() -> None:
    """Run `pactl`, or say that it cannot run on this system before anything else is imported."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        print(f"pactl: this is {sys.platform}, and pactl needs Linux or macOS (on Windows: in WSL)", file=sys.stderr)
        sys.exit(BAD_INPUT)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn programmers; a user cannot act on that
    from pactl_cli.commands.app import main as run

    run()


if __name__ == "__main__":
    main()
