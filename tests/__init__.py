"""Tests, and what they share. A test process beside others takes one thread for BLAS."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy is imported
    for _library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
