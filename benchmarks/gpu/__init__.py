"""Checks that need a GPU; ``PARTS`` lists the parts of ``python -m benchmarks gpu``.

A part is a function ``f(save)`` that passes its results so far to ``save``, so that they are not
lost if the process hangs or crashes.
"""

from typing import NamedTuple


class Part(NamedTuple):
    """A function of ``benchmarks.gpu`` that runs in its own process."""

    title: str
    function: str  # "module:name"
    limit: float  # time limit in seconds
    minimum: float  # seconds that must be left to start it


PARTS = {
    "suite": Part("every test with a backend fixture, on the GPU", "suite:run", 300, 30),
    "ceilings": Part("bandwidth of a copy, speed of matrix products", "bandwidth:ceilings", 25, 10),
    "kernels": Part("each primitive relative to a copy's bandwidth", "bandwidth:kernels", 70, 15),
    "determinism": Part("the same training twice: bitwise equal?", "training:twice", 20, 8),
    "mnist": Part(
        "LeNet-5 on MNIST by xcnn train, if the data is available", "training:mnist", 40, 15
    ),
}
