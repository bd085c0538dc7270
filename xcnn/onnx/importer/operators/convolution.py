"""Conv and ConvTranspose with one to three spatial axes, by 2-D convolution.

Signals are images one pixel high. In 3-D, the slices of a volume become the images of a batch, and
the kernel's taps along the depth become channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....geometry import Geometry, window_geometry
from ....tensor import Function, Tensor
from ..node import Node, operator
from .spatial_attributes import as_image, is_identity, spatial_sizes, transposed_axes, window_axes

_TO_BATCH_LAST, _FROM_BATCH_LAST = (1, 2, 3, 4, 0), (4, 0, 1, 2, 3)
#: ``conv(x, weight, bias, axes)`` in 2-D
Conv2d = Callable[[Tensor, Tensor, Tensor | None, list[Geometry]], Tensor]


@operator("Conv")
def conv(
    node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial_sizes(node, x)
    axes = window_axes(node, sizes, _kernel(node, x, weight, groups))
    node.check_size((len(x), len(weight), *(a.output[0] for a in axes)), x.dtype)
    conv2d = partial(_conv2d, groups=groups, relu=relu)
    if len(axes) < 3:
        return _conv1d_or_2d(conv2d, x, weight, bias, axes)
    depth, rows, columns = axes
    if is_identity(rows) and is_identity(columns):
        return _conv_along_depth(conv2d, x, weight, bias, depth)
    (count, _), (taps, _) = depth.output, depth.kernel
    node.check_size((count, len(x), x.shape[1], taps, *x.shape[3:]), x.dtype)
    kernels = F.reshape(weight, (len(weight), weight.shape[1] * taps, *weight.shape[3:]))
    return Fold(_slices(count))(conv2d(Unfold(depth)(x), kernels, bias, [rows, columns]))


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    groups, sizes = node.integer("group", 1), spatial_sizes(node, x)
    axes = transposed_axes(node, sizes, _kernel(node, x, weight, groups))
    filters, output = weight.shape[1], [a.input[0] for a in axes]
    node.check_size((len(x), filters * groups, *output), x.dtype)
    conv2d = partial(_conv_transpose2d, groups=groups)
    if len(axes) < 3:
        return _conv1d_or_2d(conv2d, x, weight, bias, axes)
    depth, *image = axes
    taps = depth.kernel[0]
    node.check_size((len(x), x.shape[2], filters * groups, taps, *output[1:]), x.dtype)
    kernels = F.reshape(weight, (len(weight), filters * taps, *weight.shape[3:]))
    # each slice of the input adds to kD slices of the output
    y = Fold(depth)(conv2d(Unfold(_slices(x.shape[2]))(x), kernels, None, image))
    return y if bias is None else y + F.reshape(bias, (1, filters * groups, 1, 1, 1))


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


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, axes: list[Geometry], groups: int, relu: bool
) -> Tensor:
    g = as_image(*axes)
    return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, groups, relu=relu)


def _conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, axes: list[Geometry], groups: int
) -> Tensor:
    g = as_image(*axes)
    settings = zip(g.input, g.output, g.kernel, g.stride, g.padding, g.dilation, strict=True)
    h, w = (n - ((o - 1) * s - sum(p) + d * (k - 1) + 1) for n, o, k, s, p, d in settings)
    return F.conv_transpose2d(x, weight, bias, g.stride, g.padding, (h, w), groups, g.dilation)


def _conv1d_or_2d(
    conv2d: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, axes: list[Geometry]
) -> Tensor:
    if len(axes) == 2:
        return conv2d(x, weight, bias, axes)
    x, weight = F.unsqueeze(x, 2), F.unsqueeze(weight, 2)
    return F.squeeze(conv2d(x, weight, bias, [window_geometry((1, 1), 1), *axes]), 2)


def _conv_along_depth(
    conv2d: Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, depth: Geometry
) -> Tensor:
    """For kernels (kD, 1, 1): the pixels of each slice form a row of an image."""
    *volume, height, width = x.shape
    pixels = height * width
    image, kernels = F.reshape(x, (*volume, pixels)), F.reshape(weight, weight.shape[:-1])
    y = conv2d(image, kernels, bias, [depth, window_geometry((pixels, 1), 1)])
    return F.reshape(y, (*y.shape[:3], height, width))


# -- volumes as batches of images ----------------------------------------------------------


def _slices(depth: int) -> Geometry:
    """Windows that hold one slice each."""
    return window_geometry((depth, 1), 1)


class Unfold(Function):
    """Windows along the depth as batches of images: (N, C, D, H, W) to (oD·N, C·kD, H, W).

    Channel ``c * kD + k`` of image ``o * N + n`` is slice ``o * stride + k * dilation - begin`` of
    channel ``c`` of volume ``n``, or zeros in the padding. A 2-D convolution of these images with
    kernels of C·kD channels is a 3-D convolution of the volumes.

    Parameters
    ----------
    depth
        The windows along the depth, as for an image one pixel wide.
    """

    arguments = ("input",)

    def __init__(self, depth: Geometry) -> None:
        self.depth = depth

    def forward(self, backend: Backend, x: Array) -> Array:
        x = x.transpose(_TO_BATCH_LAST)
        channels, _, height, width, batch = x.shape
        taps, count = self.depth.kernel[0], self.depth.output[0]
        y = backend.xp.empty((channels, taps, height, width, count, batch), x.dtype)

        def compute(part: slice) -> None:
            for k in range(taps):
                inside, pixels = self.depth.span(0, k)
                y[part, k, :, :, : inside.start] = 0
                y[part, k, :, :, inside.stop :] = 0
                y[part, k, :, :, inside] = x[part, pixels].transpose(0, 2, 3, 1, 4)

        backend.each(compute, backend.channels(y))
        return y.reshape(channels * taps, height, width, count * batch).transpose(3, 0, 1, 2)

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, depth = backend.xp, self.depth
        taps, count = depth.kernel[0], depth.output[0]
        channels, batch, (height, width) = dy.shape[1] // taps, len(dy) // count, dy.shape[2:]
        dy = xp.ascontiguousarray(dy.transpose(1, 2, 3, 0))
        dy = dy.reshape(channels, taps, height, width, count, batch)
        # if the windows tile the depth, each slice is written once
        make = xp.empty if depth.covers_exactly else xp.zeros
        dx = make((channels, depth.input[0], height, width, batch), dy.dtype)

        def compute(part: slice) -> None:
            for k in range(taps):
                inside, pixels = depth.span(0, k)
                images = dy[part, k, :, :, inside].transpose(0, 3, 1, 2, 4)
                if depth.covers_exactly:
                    dx[part, pixels] = images
                else:
                    dx[part, pixels] += images

        backend.each(compute, backend.channels(dx))
        return dx.transpose(_FROM_BATCH_LAST)


class Fold(Unfold):
    """The transpose of :class:`Unfold`: (oD·N, C·kD, H, W) to (N, C, D, H, W).

    Each slice of a volume is the sum of the images that Unfold copies it to.
    """

    forward, backward = Unfold.backward, Unfold.forward  # type: ignore[assignment]
