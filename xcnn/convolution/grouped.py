"""Grouped convolution: each group by the fastest method for its size.

The groups are independent, so ``backend.each`` computes them in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..arrays import Array
from ..backends import Backend
from ..tiling import split_range
from .method import METHODS, Method, Problem


class Grouped(Method):
    """Convolve group by group; im2col would unfold all groups at once."""

    def applies(self, problem: Problem) -> bool:
        return 1 < problem.groups < problem.in_channels

    def pays(self, problem: Problem) -> bool:
        return _method_of_group(problem) is not METHODS["im2col"]

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        y = backend.xp.empty(problem.output_shape, x.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(part: slice) -> None:
            for channels, filters in _group_slices(problem, part):
                arrays = x[channels], weight[filters], None if bias is None else bias[filters]
                y[filters] = method.forward(backend, group, *arrays)

        backend.each(compute, _parts(backend, problem))
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        dx = backend.xp.empty(problem.input_shape, dy.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(part: slice) -> None:
            for channels, filters in _group_slices(problem, part):
                arrays = dy[filters], weight[filters]
                dx[channels] = method.input_gradient(backend, group, *arrays)

        backend.each(compute, _parts(backend, problem))
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        dweight = backend.xp.empty(problem.weight_shape, x.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(part: slice) -> None:
            for channels, filters in _group_slices(problem, part):
                arrays = dy[filters], x[channels]
                dweight[filters] = method.weight_gradient(backend, group, *arrays)

        backend.each(compute, _parts(backend, problem))
        return dweight


def _method_of_group(problem: Problem) -> Method:
    """The fastest method for a single group."""
    group = problem.one_group
    for name in ("winograd", "mec"):
        if METHODS[name].applies(group) and METHODS[name].pays(group):
            return METHODS[name]
    return METHODS["im2col"]


def _group_slices(problem: Problem, part: slice) -> Iterator[tuple[slice, slice]]:
    """Yield the channels of x and the filters of each group of a part."""
    channels, filters = problem.one_group.in_channels, problem.one_group.out_channels
    for g in range(part.start, part.stop):
        yield slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters)


def _parts(backend: Backend, problem: Problem) -> tuple[slice, ...]:
    return split_range(problem.groups, backend.shares(problem.multiplications))
