"""The Python interface: what the commands do, with settings as keyword arguments and data as objects."""
