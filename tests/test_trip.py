"""How many files a reader goes through: the limits of ``python -m tests.trip``."""

import subprocess
import sys

import pytest

from . import trip

#: files entered and calls from one file into another, of a call after the first
LIMITS = {
    "forward of Conv2d": (10, 24),
    "backward of Conv2d": (10, 24),
    "one batch of fit": (22, 220),
}


@pytest.fixture(scope="module")
def counts():
    """Of a process of its own: what other tests have done must not count."""
    code = """
from tests.trip import trips
for name, (_, later) in trips().items():
    print(name, len(later.files), later.changes, sep=",")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=trip.ROOT, capture_output=True, text=True, check=True
    )
    rows = [line.split(",") for line in done.stdout.splitlines()]
    return {name: (int(files), int(changes)) for name, files, changes in rows}


@pytest.mark.parametrize("name", LIMITS)
def test_a_call_goes_through_few_files(counts, name):
    (files, changes), (most_files, most_changes) = counts[name], LIMITS[name]
    assert 0 < files <= most_files
    assert 0 < changes <= most_changes


def test_what_is_counted():
    """A call from one file into another is a change, also of the same file again."""

    def convolve():
        layer = trip.nn.Conv2d(1, 1, 1)
        return lambda: layer(trip.np.ones((1, 1, 2, 2), "float32"))

    taken = trip.trip(convolve())
    assert taken.calls[0] == (0, "nn/module.py", "__call__", False)
    assert taken.calls[1] == (1, "nn/conv.py", "forward", True)
    assert {"nn/module.py", "nn/conv.py", "tensor.py", "functional/conv.py"} <= set(taken.files)
    assert taken.changes == sum(changes for *_, changes in taken.calls)
