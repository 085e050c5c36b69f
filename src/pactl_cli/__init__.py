"""Certified error bounds for neural networks: train in a random subspace, code the result, bound its error."""

__version__ = "0.2.0.dev0"
