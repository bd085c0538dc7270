"""What only a GPU can answer; ``PARTS`` names the parts of ``python -m benchmarks gpu``.

A part is a function that hands its results so far to its argument, so that they remain if the
process hangs or crashes.
"""

from typing import NamedTuple


class Part(NamedTuple):
    """A function of ``benchmarks.gpu`` that runs in its own process."""

    title: str
    function: str  # "module:name"
    most: float  # seconds
    least: float  # seconds, below which it is not worth starting


PARTS = {
    "suite": Part("every test with a backend fixture, on the GPU", "suite:run", 300, 30),
    "ceilings": Part("bandwidth of a copy, speed of matrix products", "bandwidth:ceilings", 25, 10),
    "kernels": Part("each primitive relative to a copy's bandwidth", "bandwidth:kernels", 70, 15),
    "determinism": Part("the same training twice: equal bit by bit?", "training:twice", 20, 8),
    "mnist": Part(
        "LeNet-5 on MNIST by xcnn train, if the data are there", "training:mnist", 40, 15
    ),
}
