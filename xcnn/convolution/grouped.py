"""Grouped convolution: each group by the method that is fastest for one of its size.

The groups are independent, so ``backend.each`` computes several in parallel.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..arrays import Array
from ..backends import Backend
from ..tiling import split_range
from .method import METHODS, Method, Problem


class Grouped(Method):
    """Group by group, where im2col would unfold all groups at once."""

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
            for read, made in _channels(problem, part):
                own_bias = None if bias is None else bias[made]
                y[made] = method.forward(backend, group, x[read], weight[made], own_bias)

        backend.each(compute, _parts(backend, problem))
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        dx = backend.xp.empty(problem.input_shape, dy.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(part: slice) -> None:
            for read, made in _channels(problem, part):
                dx[read] = method.input_gradient(backend, group, dy[made], weight[made])

        backend.each(compute, _parts(backend, problem))
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        dweight = backend.xp.empty(problem.weight_shape, x.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(part: slice) -> None:
            for read, made in _channels(problem, part):
                dweight[made] = method.weight_gradient(backend, group, dy[made], x[read])

        backend.each(compute, _parts(backend, problem))
        return dweight


def _method_of_group(problem: Problem) -> Method:
    """The fastest method for a single group."""
    group = problem.one_group
    for name in ("winograd", "mec"):
        if METHODS[name].applies(group) and METHODS[name].pays(group):
            return METHODS[name]
    return METHODS["im2col"]


def _channels(problem: Problem, part: slice) -> Iterator[tuple[slice, slice]]:
    """For each group of a part, its channels of x and its filters."""
    channels, filters = problem.one_group.in_channels, problem.one_group.out_channels
    for g in range(part.start, part.stop):
        yield slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters)


def _parts(backend: Backend, problem: Problem) -> tuple[slice, ...]:
    return split_range(problem.groups, backend.shares(problem.multiplications))
