"""pytest-optcheck: golden convergence curves for optimizers."""

__version__ = "0.1.0"
