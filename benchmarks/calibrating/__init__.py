"""Parts of ``benchmarks/calibration.py``."""
