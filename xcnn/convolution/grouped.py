"""Grouped convolution: each group by the fastest method for its size.

The groups are independent, so ``backend.each`` computes them in parallel.
"""

from __future__ import annotations

from collections.abc import Callable

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

        def compute(channels: slice, filters: slice) -> None:
            arrays = x[channels], weight[filters], None if bias is None else bias[filters]
            y[filters] = method.forward(backend, group, *arrays)

        _each_group(backend, problem, compute)
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        dx = backend.xp.empty(problem.input_shape, dy.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(channels: slice, filters: slice) -> None:
            arrays = dy[filters], weight[filters]
            dx[channels] = method.input_gradient(backend, group, *arrays)

        _each_group(backend, problem, compute)
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        dweight = backend.xp.empty(problem.weight_shape, x.dtype)
        method, group = _method_of_group(problem), problem.one_group

        def compute(channels: slice, filters: slice) -> None:
            arrays = dy[filters], x[channels]
            dweight[filters] = method.weight_gradient(backend, group, *arrays)

        _each_group(backend, problem, compute)
        return dweight


def _method_of_group(problem: Problem) -> Method:
    """The fastest method for a single group."""
    group = problem.one_group
    for name in ("winograd", "mec"):
        if METHODS[name].applies(group) and METHODS[name].pays(group):
            return METHODS[name]
    return METHODS["im2col"]


def _each_group(
    backend: Backend, problem: Problem, compute: Callable[[slice, slice], None]
) -> None:
    """Call ``compute`` with the channels of x and the filters of each group, in parallel."""
    channels, filters = problem.one_group.in_channels, problem.one_group.out_channels

    def compute_part(part: slice) -> None:
        for g in range(part.start, part.stop):
            of_x, of_y = (slice(g * size, (g + 1) * size) for size in (channels, filters))
            compute(of_x, of_y)

    backend.each(compute_part, split_range(problem.groups, backend.shares(problem.multiplications)))
