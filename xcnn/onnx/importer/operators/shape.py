"""Flatten, Reshape, Transpose, Squeeze, Unsqueeze, Expand, DepthToSpace and SpaceToDepth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, as_ints, operator


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    axis = axis if axis == x.ndim else node.axis(axis, x.ndim)
    return F.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Reshape", static=(1,))
def reshape(node: Node, x: Tensor, shape: Array) -> Tensor:
    """A length of 0 is copied from the input, unless ``allowzero`` is set; -1 is inferred."""
    lengths, allow_zero = as_ints(shape), bool(node.integer("allowzero", 0))
    copied = [] if allow_zero else [i for i, n in enumerate(lengths) if n == 0]
    is_ambiguous = lengths.count(-1) > 1 or (allow_zero and {0, -1} <= {*lengths})
    if is_ambiguous or min(lengths, default=0) < -1:
        raise node.error(f"shape {lengths}: expected non-negative lengths, at most one -1")
    if copied and copied[-1] >= x.ndim:
        raise node.error(
            f"shape {lengths}: index {copied[-1]} is 0 (copy), but the input has {x.ndim} axes"
        )
    output = [x.shape[i] if i in copied else n for i, n in enumerate(lengths)]
    if -1 in lengths:  # leave out copied axes, which may be empty; F.reshape checks the remainder
        size = math.prod(n for i, n in enumerate(x.shape) if i not in copied)
        output[lengths.index(-1)] = size // math.prod(n for n in lengths if n > 0)
    node.check_size(output, x.dtype)
    return F.reshape(x, output)


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return F.permute(x, node.integers("perm", list(range(x.ndim))[::-1]))


@operator("Squeeze", static=(1,))
def squeeze(node: Node, x: Tensor, axes: Array = None) -> Tensor:
    axes = node.integers("axes") if axes is None else axes
    if axes is None:
        return F.squeeze(x)
    dims = node.axes(axes, x.ndim)
    if any(x.shape[d] != 1 for d in dims):
        raise node.error(f"axes {dims} of shape {x.shape}: expected axes of length 1")
    return F.squeeze(x, dims)


@operator("Unsqueeze", static=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    axes = node.integers("axes") if axes is None else as_ints(axes)
    if axes is None:
        raise node.error("axes are missing")
    for axis in sorted(node.axes(axes, x.ndim + len(axes))):
        x = F.unsqueeze(x, axis)
    return x


@operator("Expand", static=(1,))
def expand(node: Node, x: Tensor, shape: Array) -> Tensor:
    output = np.broadcast_shapes(x.shape, tuple(as_ints(shape)))
    node.check_size(output, x.dtype)
    return F.expand(x, output)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block, is_dcr = _block(node, x)
    n, depth, height, width = x.shape
    channels = depth // block**2
    if channels * block**2 != depth:
        raise node.error(f"{depth} channels: expected a multiple of blocksize² = {block**2}")
    split = (block, block, channels) if is_dcr else (channels, block, block)
    x = F.reshape(x, (n, *split, height, width))
    x = F.permute(x, (0, 3, 4, 1, 5, 2) if is_dcr else (0, 1, 4, 2, 5, 3))  # (N, C, H, b, W, b)
    return F.reshape(x, (n, channels, height * block, width * block))


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    block, is_dcr = _block(node, x)
    n, channels, height, width = x.shape
    if height % block or width % block:
        raise node.error(f"{height}×{width} pixels: expected multiples of blocksize = {block}")
    x = F.reshape(x, (n, channels, height // block, block, width // block, block))
    x = F.permute(x, (0, 3, 5, 1, 2, 4) if is_dcr else (0, 1, 3, 5, 2, 4))
    return F.reshape(x, (n, channels * block**2, height // block, width // block))


def _block(node: Node, x: Tensor) -> tuple[int, bool]:
    """The block size, and whether the block's pixels come before the channels (mode DCR)."""
    block, mode = node.integer("blocksize", 0), node.text("mode", "DCR", ("DCR", "CRD"))
    if block < 1:
        raise node.error(f"blocksize={block}: expected at least 1")
    if x.ndim != 4:
        raise node.error(f"an input of shape {x.shape}: expected four axes")
    return block, mode == "DCR"
