"""Tests and their helpers. Parallel test processes use one BLAS thread each."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before NumPy is imported
    for _library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
