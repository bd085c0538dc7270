"""The same numbers in another shape or order of axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....functional.arithmetic import sum_to
from ....tensor import Function, Tensor
from ..node import Node, as_ints, operator


class Expand(Function):
    """One number for many places; its gradient is the sum of theirs. A view."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return backend.xp.broadcast_to(x, self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return sum_to(dy, self.saved.shape)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    if axis != x.ndim:  # which joins all of them
        axis = node.axis(axis, x.ndim)
    return F.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Reshape", static=(1,))
def reshape(node: Node, x: Tensor, shape: Any) -> Tensor:
    wanted = _wanted(node, x.shape, as_ints(shape))
    node.check_size(wanted, x.dtype)
    return F.reshape(x, wanted)


def _wanted(node: Node, shape: tuple[int, ...], given: list[int]) -> list[int]:
    """The lengths that ``given`` means: 0 is that of the input's axis, -1 what is left."""
    takes_zero = bool(node.integer("allowzero", 0))
    copied = [] if takes_zero else [i for i, n in enumerate(given) if n == 0]
    if min(given, default=0) < -1 or given.count(-1) > 1 or (takes_zero and {0, -1} <= {*given}):
        raise node.error(f"shape {given}: expected lengths, one of them maybe -1")
    if copied and copied[-1] >= len(shape):
        raise node.error(f"shape {given}: 0 at {copied[-1]}, the input has {len(shape)} axes")
    wanted = [shape[i] if i in copied else n for i, n in enumerate(given)]
    if -1 in given:  # without the axes that are copied, which may be empty
        left = math.prod(n for i, n in enumerate(shape) if i not in copied)
        known = math.prod(n for n in given if n > 0)
        wanted[given.index(-1)] = left // known  # checked by reshape
    return wanted


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return F.permute(x, node.integers("perm", list(range(x.ndim))[::-1]))


@operator("Squeeze", static=(1,))
def squeeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    given = node.integers("axes") if axes is None else axes
    if given is None:
        return F.squeeze(x)
    dims = node.axes(given, x.ndim)
    if any(x.shape[d] != 1 for d in dims):
        raise node.error(f"axes {dims} of shape {x.shape}: expected axes of length 1")
    return F.squeeze(x, dims)


@operator("Unsqueeze", static=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    given = node.integers("axes") if axes is None else as_ints(axes)
    if given is None:
        raise node.error("no axes are given")
    for axis in sorted(node.axes(given, x.ndim + len(given))):
        x = F.unsqueeze(x, axis)
    return x


@operator("Expand", static=(1,))
def expand(node: Node, x: Tensor, shape: Any) -> Tensor:
    wanted = np.broadcast_shapes(x.shape, tuple(as_ints(shape)))
    node.check_size(wanted, x.dtype)
    return Expand(wanted)(x)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    block, is_dcr = _block(node, x)
    n, depth, height, width = x.shape
    channels = depth // block**2
    if channels * block**2 != depth:
        raise node.error(f"{depth} channels: expected a multiple of blocksize² = {block**2}")
    parts = (block, block, channels) if is_dcr else (channels, block, block)
    x = F.reshape(x, (n, *parts, height, width))
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
    """The length of a block, and whether its pixels lie before the channels."""
    block, mode = node.integer("blocksize", 0), node.text("mode", "DCR")
    if block < 1 or mode not in ("DCR", "CRD"):
        raise node.error(f"blocksize={block}, mode={mode!r}: expected at least 1, and DCR or CRD")
    if x.ndim != 4:
        raise node.error(f"an input of shape {x.shape}: expected four axes")
    return block, mode == "DCR"
