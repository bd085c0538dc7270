"""Direct convolution: the sum over the kernel elements, without unfolding.

The kernels of a CPU (``backends/native/convolution.cpp``) keep blocks of the sums in registers,
while the pixels of a tile stay in the cache. A GPU has kernels for depthwise convolutions.
"""

from __future__ import annotations

import math

from ..arrays import Array
from ..backends import Backend
from .method import Method, Problem

_LARGEST_WINDOW = 2**13  # pixels, with dilation: a tile holds as many of each channel


class Direct(Method):
    """Any convolution of windows that are not huge, in one call of a primitive of the backend."""

    def applies(self, problem: Problem) -> bool:
        geometry = problem.geometry
        axes = zip(geometry.kernel, geometry.dilation, strict=True)
        return math.prod((k - 1) * dilation + 1 for k, dilation in axes) <= _LARGEST_WINDOW

    def pays(self, problem: Problem) -> bool:
        """Not for 1×1 kernels, for which BLAS is faster: measured with the kernels of a CPU."""
        return problem.geometry.kernel != (1, 1) or problem.groups > 1

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        settings = problem.geometry, problem.groups, problem.relu
        return backend.convolution(x, weight, bias, *settings)

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        settings = problem.geometry, problem.groups
        return backend.convolution_input_gradient(dy, weight, *settings)

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        settings = problem.geometry, problem.groups
        return backend.convolution_weight_gradient(dy, x, *settings)


class Depthwise(Direct):
    """The same for filters of one channel each, where the backend has kernels for these only."""

    def applies(self, problem: Problem) -> bool:
        return problem.groups == problem.in_channels > 1 and super().applies(problem)
