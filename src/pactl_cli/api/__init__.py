"""The Python interface: the commands as functions, with settings as keyword arguments and data as objects."""
