"""Conv and ConvTranspose with one to three spatial axes."""

from __future__ import annotations

from typing import Any

from .... import functional as F
from ....geometry import Geometry
from ....tensor import Tensor
from ..node import Node, operator
from .spatial_attributes import spatial_sizes, transposed_axes, window_axes


@operator("Conv")
def conv(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial_sizes(node, x)
    axes = window_axes(node, sizes, _kernel(node, x, weight, groups))
    node.check_size((len(x), len(weight), *(a.output[0] for a in axes)), x.dtype)
    stride, padding, dilation = _settings(axes)
    if len(axes) == 2:
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups, relu=relu)
    function: Any = F.conv1d if len(axes) == 1 else F.conv3d
    y = function(x, weight, bias, stride, padding, dilation, groups)
    return F.relu(y) if relu else y


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial_sizes(node, x)
    axes = transposed_axes(node, sizes, _kernel(node, x, weight, groups))
    node.check_size((len(x), weight.shape[1] * groups, *(a.input[0] for a in axes)), x.dtype)
    stride, padding, dilation = _settings(axes)
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(axes) - 1]
    return function(x, weight, bias, stride, padding, tuple(map(_extra, axes)), groups, dilation)


def _settings(axes: list[Geometry]) -> tuple[Any, Any, Any]:
    """Stride, padding and dilation of each axis."""
    each = [(axis.stride[0], axis.padding[0], axis.dilation[0]) for axis in axes]
    stride, padding, dilation = zip(*each, strict=True)
    return stride, padding, dilation


def _extra(axis: Geometry) -> int:
    """The output padding of an axis of a transposed convolution."""
    (size, _), (count, _), (kernel, _) = axis.input, axis.output, axis.kernel
    (stride,), (padding,), (dilation,) = _settings([axis])
    return size - ((count - 1) * stride - sum(padding) + dilation * (kernel - 1) + 1)


def _kernel(node: Node, x: Tensor, weight: Tensor, groups: int) -> tuple[int, ...]:
    """The kernel size of a weight (F, C / groups, ...), or (C, F / groups, ...) if transposed.

    The 2-D convolution makes further checks.
    """
    if weight.ndim != x.ndim:
        raise node.error(f"the weight has shape {weight.shape}: expected {x.ndim} axes")
    channels = weight.shape[0] if node.type == "ConvTranspose" else weight.shape[1] * groups
    if x.shape[1] != channels:
        raise node.error(
            f"the input has {x.shape[1]} channels, but the weight {weight.shape} with "
            f"group={groups} takes {channels}"
        )
    kernel, declared = weight.shape[2:], node.integers("kernel_shape")
    if declared and tuple(declared) != kernel:
        raise node.error(f"kernel_shape={declared}: the weight has shape {weight.shape}")
    if min(kernel) < 1:
        raise node.error(f"the weight has shape {weight.shape}: its kernel is empty")
    return kernel
