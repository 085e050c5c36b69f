"""`python -m pactl_cli`."""

from pactl_cli.commands.app import main

if __name__ == "__main__":
    main()
