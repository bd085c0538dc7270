"""1×1 convolution with stride 1 and no padding: the input already is the matrix of columns.

y = weight (F, C) @ x (C, H·W·N);  dweight = dy @ xᵀ;  dx = weightᵀ @ dy
"""

from __future__ import annotations

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..layout import as_rows


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return geometry.kernel == (1, 1) and geometry.covers_exactly and groups == 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: always."""
    return True


def forward(
    backend: Backend,
    x: Array,
    weight: Array,
    geometry: Geometry,
    groups: int,
    bias: Array | None,
    relu: bool = False,
) -> Array:
    """Return y (F, H, W, N)."""
    y = backend.matmul(as_rows(weight), as_rows(x))
    if bias is not None or relu:
        backend.add_bias(y, bias, slice(None), relu)
    return y.reshape(len(weight), *geometry.output, x.shape[-1])


def backward(
    backend: Backend,
    dy: Array,
    x: Array,
    weight: Array,
    geometry: Geometry,
    groups: int,
    needs: tuple[bool, bool],
) -> tuple[Array | None, Array | None]:
    """Return dx (C, H, W, N) and dweight (F, C, 1, 1), as far as they are needed."""
    dx = backend.matmul(as_rows(weight).T, as_rows(dy)).reshape(x.shape) if needs[0] else None
    dweight = backend.matmul(as_rows(dy), as_rows(x).T).reshape(weight.shape) if needs[1] else None
    return dx, dweight
