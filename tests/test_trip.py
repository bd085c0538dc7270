"""Limits on the files that a call passes through, as counted by ``python -m tests.trip``."""

import subprocess
import sys

import pytest

from . import trip

#: files entered and calls between files, for a call after the first
LIMITS = {
    "forward of Conv2d": (10, 24),
    "backward of Conv2d": (10, 24),
    "one batch of fit": (32, 285),
}


@pytest.fixture(scope="module")
def counts():
    """Counted in a separate process, so that other tests have no influence."""
    code = """
from tests.trip import trips
for name, (_, later) in trips().items():
    print(name, len(later.files), later.cross_file_calls, sep=",")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trip.ROOT, capture_output=True, text=True, check=True
    )
    rows = [line.split(",") for line in done.stdout.splitlines()]
    return {name: (int(files), int(calls)) for name, files, calls in rows}


@pytest.mark.parametrize("name", LIMITS)
def test_a_call_passes_through_few_files(counts, name):
    (files, calls), (max_files, max_calls) = counts[name], LIMITS[name]
    assert 0 < files <= max_files
    assert 0 < calls <= max_calls


def test_every_cross_file_call_is_counted():
    """Each call from one file into another counts, also into a file entered before."""

    def convolve():
        layer = trip.nn.Conv2d(1, 1, 1)
        return lambda: layer(trip.np.ones((1, 1, 2, 2), "float32"))

    recorded = trip.trip(convolve())
    assert recorded.calls[0] == (0, "nn/module.py", "__call__", False)
    assert recorded.calls[1] == (1, "nn/conv.py", "forward", True)
    assert {"nn/module.py", "nn/conv.py", "tensor.py", "functional/conv.py"} <= set(recorded.files)
    assert recorded.cross_file_calls == sum(is_cross_file for *_, is_cross_file in recorded.calls)
