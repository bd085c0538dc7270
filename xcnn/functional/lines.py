"""Rows or columns of an image as weighted sums of other rows or columns.

Resampling works along one axis at a time, and there each new line needs a few old ones. Both
directions are gathers: the gradient takes the same sums with new and old exchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..geometry import parts
from .layout import batch_first, batch_last

Array = Any


class Lines:
    """Each new line along an axis as a weighted sum of old ones.

    Parameters
    ----------
    size
        Number of old lines.
    terms
        For each new line the pairs (old line, weight) that it adds up.
    """

    def __init__(self, size: int, terms: Iterable[Iterable[tuple[int, float]]]) -> None:
        self.size = size
        self.terms = [tuple(line) for line in terms]
        self._on_device: dict[Any, list[tuple[Any, Array | None]]] = {}

    @cached_property
    def transposed(self) -> Lines:
        """Each old line as the sum of the new ones that it went into: what a gradient takes."""
        back: list[list[tuple[int, float]]] = [[] for _ in range(self.size)]
        for new, line in enumerate(self.terms):
            for old, weight in line:
                back[old].append((new, weight))
        return Lines(len(self.terms), back)

    def apply(self, backend: Backend, x: Array, axis: int) -> Array:
        """The new lines along ``axis`` (1 or 2) of x (C, H, W, N), contiguous."""
        shape = (*x.shape[:axis], len(self.terms), *x.shape[axis + 1 :])
        y = backend.xp.empty(shape, x.dtype)
        steps = self._steps(backend, x.dtype)

        def compute(part: slice) -> None:
            _add_up(backend.xp, x[part], steps, axis, y[part])

        backend.each(compute, _pieces(backend, y))
        return y

    def _steps(self, backend: Backend, dtype: Any) -> list[tuple[Any, Array | None]]:
        """Which old line each new one takes in step 0, 1, ..., and its weight; kept on the device.

        A weight of None stands for ones.
        """
        key = backend, str(dtype)
        if key not in self._on_device:
            depth = max(len(line) for line in self.terms)
            padded = [_padded(line, depth) for line in self.terms]
            self._on_device[key] = [
                (
                    _as_slice([line[k][0] for line in padded])
                    or backend.asarray([line[k][0] for line in padded], "int32"),
                    None
                    if all(line[k][1] == 1 for line in padded)
                    else backend.asarray([line[k][1] for line in padded], dtype),
                )
                for k in range(depth)
            ]
        return self._on_device[key]


def _padded(line: tuple[tuple[int, float], ...], depth: int) -> list[tuple[int, float]]:
    """``depth`` terms with the same sum. Only a line of none gets a weight of 0, which would make
    NaN of infinity; others get their first term in equal shares.
    """
    if not line:
        return [(0, 0.0)] * depth
    (first, weight), *others = line
    shares = depth - len(others)
    return [*([(first, weight / shares)] * shares), *others]


def _as_slice(numbers: list[int]) -> slice | None:
    """The slice with these indices, which needs no copy, if there is one."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    stop = numbers[0] + step * len(numbers)
    if step > 0 and numbers == list(range(numbers[0], stop, step)):
        return slice(numbers[0], numbers[-1] + 1, step)
    return None


def _pieces(backend: Backend, y: Array) -> list[slice]:
    """Parts of the channels whose two temporary arrays keep to the backend's budget."""
    shares = len(backend.channels(y))
    return parts(len(y), max(shares, 2 * y.nbytes // backend.column_budget))


def _add_up(xp: Any, x: Array, steps: list[tuple[Any, Array | None]], axis: int, y: Array) -> None:
    for k, (index, weight) in enumerate(steps):
        if isinstance(index, slice):
            lines = x[:, index] if axis == 1 else x[:, :, index]
        else:
            lines = xp.take(x, index, axis=axis)
        if weight is not None:
            lines = lines * weight.reshape(-1, *(1,) * (3 - axis))
        if k == 0:
            y[...] = lines
        else:
            y += lines


class Resample(Function):
    """New rows, and of those new columns, of each image."""

    arguments = ("input",)

    def __init__(self, rows: Lines, columns: Lines, data_format: str = "NCHW") -> None:
        axes = [(1, rows), (2, columns)]
        # few lines are made first: rows, which lie together in memory, where there will be less
        self.axes = axes if len(rows.terms) <= rows.size else axes[::-1]
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        y = batch_last(backend.xp, x, self.data_format)
        for axis, lines in self.axes:
            y = lines.apply(backend, y, axis)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = batch_last(backend.xp, dy, self.data_format)
        for axis, lines in reversed(self.axes):
            dx = lines.transposed.apply(backend, dx, axis)
        return batch_first(dx, self.data_format)
