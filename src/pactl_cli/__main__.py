"""`python -m pactl_cli`."""

from __future__ import annotations

import sys
import warnings

from pactl_cli.errors import BAD_INPUT


def main() -> None:
    """The `pactl` executable, where it can work at all: nothing else is imported before that is known."""
    try:
        import fcntl  # noqa: F401
    except ImportError:
        print(f"pactl: this is {sys.platform}, and pactl needs Linux or macOS (on Windows: in WSL)", file=sys.stderr)
        sys.exit(BAD_INPUT)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what a library says to programmers is nothing that a user can act on
    from pactl_cli.commands.app import main as run

    run()


if __name__ == "__main__":
    main()
