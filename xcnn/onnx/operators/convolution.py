"""Convolution and transposed convolution with one to three spatial axes.

Signals are images one pixel high. A volume's slices become the images of a batch, with the slices
that one tap of the kernel after the other meets as further channels.
"""

from __future__ import annotations

from ... import functional as F
from ...convolution import Problem
from ...functional.conv import AsImages, AsSignals, check_weight
from ...functional.conv_transpose import ConvTranspose2d, check_transposed_weight
from ...geometry import Geometry, windows
from ...tensor import Tensor
from ..node import Node, operator
from .volumes import Fold, Unfold, slices
from .windows import axes, image, is_plain, spatial, transposed_axes

_KERNELS = {3: "K", 4: "kH, kW", 5: "kD, kH, kW"}


@operator("Conv")
def conv(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial(node, x)
    check_weight(x.shape[1], weight.shape, shape_of(bias), groups, _KERNELS[x.ndim])
    along = axes(node, sizes, _kernel(node, weight))
    node.check_size((len(x), len(weight), *(a.output[0] for a in along)), x.dtype)
    if len(along) == 1:
        signals, kernels = AsImages()(x), AsImages("weight")(weight)
        flat = [windows((1, 1), 1), *along]
        return AsSignals()(_conv2d(signals, kernels, bias, flat, groups, relu))
    if len(along) == 2:
        return _conv2d(x, weight, bias, along, groups, relu)
    return _conv3d(node, x, weight, bias, along, groups, relu)


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial(node, x)
    check_transposed_weight(x.shape[1], weight.shape, shape_of(bias), groups, _KERNELS[x.ndim])
    along = transposed_axes(node, sizes, _kernel(node, weight))
    filters = weight.shape[1] * groups
    node.check_size((len(x), filters, *(a.input[0] for a in along)), x.dtype)
    if len(along) == 1:
        signals, kernels = AsImages()(x), AsImages("weight")(weight)
        flat = [windows((1, 1), 1), *along]
        return AsSignals()(_conv_transpose2d(signals, kernels, bias, flat, groups))
    if len(along) == 2:
        return _conv_transpose2d(x, weight, bias, along, groups)
    return _conv_transpose3d(node, x, weight, bias, along, groups)


def _kernel(node: Node, weight: Tensor) -> tuple[int, ...]:
    kernel, given = weight.shape[2:], node.integers("kernel_shape")
    if given and tuple(given) != kernel:
        raise node.error(f"kernel_shape={given}: the weight has shape {weight.shape}")
    if min(kernel) < 1:
        raise node.error(f"the weight has shape {weight.shape}: its kernel is empty")
    return kernel


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Geometry],
    groups: int,
    relu: bool,
) -> Tensor:
    g = image(*along)
    return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, groups, relu=relu)


def _conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, along: list[Geometry], groups: int
) -> Tensor:
    (channels, filters), batch = weight.shape[:2], x.shape[0]
    problem = Problem(image(*along), groups, filters * groups, channels, batch)
    return ConvTranspose2d(problem, "NCHW")(x, weight, bias)


def _conv3d(
    node: Node,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Geometry],
    groups: int,
    relu: bool,
) -> Tensor:
    depth, rows, columns = along
    if is_plain(rows) and is_plain(columns):
        return _conv_along_depth(x, weight, bias, depth, groups, relu)
    batch, channels, _, height, width = x.shape
    (count, _), (taps, _) = depth.output, depth.kernel
    node.check_size((count, batch, channels, taps, height, width), x.dtype)
    kernels = F.reshape(weight, (len(weight), weight.shape[1] * taps, *weight.shape[3:]))
    y = _conv2d(Unfold(depth)(x), kernels, bias, [rows, columns], groups, relu)
    return Fold(slices(count))(y)


def _conv_along_depth(
    x: Tensor, weight: Tensor, bias: Tensor | None, depth: Geometry, groups: int, relu: bool
) -> Tensor:
    """With kernels (kD, 1, 1): the pixels of a slice are a row of an image."""
    batch, channels, size, *plane = x.shape
    pixels = plane[0] * plane[1]
    rows = F.reshape(x, (batch, channels, size, pixels))
    kernels = F.reshape(weight, weight.shape[:-1])
    y = _conv2d(rows, kernels, bias, [depth, windows((pixels, 1), 1)], groups, relu)
    return F.reshape(y, (*y.shape[:3], *plane))


def _conv_transpose3d(
    node: Node,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    along: list[Geometry],
    groups: int,
) -> Tensor:
    """Each slice gives kD slices of the result, which Fold adds up."""
    depth, rows, columns = along
    taps, filters = depth.kernel[0], weight.shape[1]
    size = rows.input[0], columns.input[0]
    node.check_size((len(x), x.shape[2], filters * groups, taps, *size), x.dtype)
    kernels = F.reshape(weight, (len(weight), filters * taps, *weight.shape[3:]))
    images = Unfold(slices(x.shape[2]))(x)
    y = Fold(depth)(_conv_transpose2d(images, kernels, None, [rows, columns], groups))
    return y if bias is None else y + F.reshape(bias, (1, filters * groups, 1, 1, 1))


def shape_of(x: Tensor | None) -> tuple[int, ...] | None:
    """The shape of an input that may be left out."""
    return None if x is None else x.shape
