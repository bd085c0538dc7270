"""1×1 convolution with stride 1 and no padding: the input is already the column matrix.

y = weight (F, C) @ x (C, H·W·N);  dweight = dy @ xᵀ;  dx = weightᵀ @ dy
"""

from __future__ import annotations

from ..arrays import Array
from ..backends import Backend
from ..layout import as_matrix
from .method import Method, Problem


class Pointwise(Method):
    """One matrix product, without unfolding."""

    def applies(self, problem: Problem) -> bool:
        geometry = problem.geometry
        return geometry.kernel == (1, 1) and geometry.covers_exactly and problem.groups == 1

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        y = backend.matmul(as_matrix(weight), as_matrix(x))
        if bias is not None or problem.relu:
            backend.add_bias(y, bias, slice(None), problem.relu)
        return y.reshape(problem.output_shape)

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        return backend.matmul(as_matrix(weight).T, as_matrix(dy)).reshape(problem.input_shape)

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        return backend.matmul(as_matrix(dy), as_matrix(x).T).reshape(problem.weight_shape)
