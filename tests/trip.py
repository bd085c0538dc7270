"""How a call passes through the files of the library: ``python -m tests.trip``.

Counts the files whose functions run, and the calls from one file into another. By default, it
prints the steady state, a typical training step; ``--first`` prints the first call of a process,
which also resolves shapes and chooses methods, and ``--show`` lists every call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import xcnn
from xcnn import nn, optim

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.realpath(os.path.dirname(xcnn.__file__))
BACKENDS = os.path.realpath(os.path.dirname(xcnn.backends.__file__))


class Trip(NamedTuple):
    """The calls of library functions, in order: (depth, file, function, is_cross_file)."""

    calls: list[tuple[int, str, str, bool]]

    @property
    def files(self) -> list[str]:
        """The files entered."""
        return sorted({file for _, file, _, _ in self.calls})

    @property
    def cross_file_calls(self) -> int:
        """Number of calls from one file into another."""
        return sum(is_cross_file for *_, is_cross_file in self.calls)


def trip(function: Callable[[], Any]) -> Trip:
    """Record the library calls that ``function()`` makes in this thread."""
    calls: list[tuple[int, str, str, bool]] = []
    stack: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        file = os.path.realpath(frame.f_code.co_filename)
        if event not in ("call", "return") or not file.startswith((PACKAGE, BACKENDS)):
            return
        if event == "return":
            if stack:
                stack.pop()
            return
        name = _name(file)
        calls.append((len(stack), name, frame.f_code.co_name, bool(stack) and stack[-1] != name))
        stack.append(name)

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return Trip(calls)


def _name(file: str) -> str:
    """The path within the package; backends count as a subpackage, wherever their files are."""
    if file.startswith(BACKENDS):
        return "backends" + file[len(BACKENDS) :]
    return file[len(PACKAGE) + 1 :]


def trips() -> dict[str, tuple[Trip, Trip]]:
    """The first and a later call of a convolution's forward and backward, and of fit on a batch."""
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(8, 16, 3, padding=1)
    x = xcnn.Tensor(rng.random((32, 8, 16, 16), "float32"), requires_grad=True)
    dy = np.ones((32, 16, 16, 16), "float32")
    pixels, labels = rng.random((32, 1, 28, 28), "float32"), np.zeros(32, "int64")
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1568, 10)
    )
    trainer = xcnn.Trainer(model, optim.Adam(model.parameters()))

    def backward() -> Trip:
        y = layer(x)
        return trip(lambda: y.backward(dy))

    steps: dict[str, Callable[[], Trip]] = {
        "forward of Conv2d": lambda: trip(lambda: layer(x)),
        "backward of Conv2d": backward,
        "one batch of fit": lambda: trip(lambda: trainer.fit(pixels, labels)),
    }
    return {name: (step(), step()) for name, step in steps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Files entered and calls between files.")
    parser.add_argument("--first", action="store_true", help="show the first call, not a later one")
    parser.add_argument("--show", action="store_true", help="print every call")
    arguments = parser.parse_args()
    for name, (first, later) in trips().items():
        shown = first if arguments.first else later
        print(f"{name:20}{len(shown.files):4} files {shown.cross_file_calls:5} cross-file calls")
        if arguments.show:
            print(*(f"  {'  ' * d}{f}:{n}" for d, f, n, _ in shown.calls), sep="\n")


if __name__ == "__main__":
    main()
